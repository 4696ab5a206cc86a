//go:build tools

// Package connect names the program that fetch installs, so that go.mod has its dependencies.
package connect

import _ "connectrpc.com/conformance/cmd/connectconformance"
