package backprop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const (
	maxTokenBytes = 8 << 10
	maxFileBytes  = 1 << 20
	// A token file is not looked at again before this time, so that a call costs no system call.
	tokenLookPeriod = time.Second
)

// TLS names the files of an encrypted connection. Files are PEM and are read by [NewClient].
type TLS struct {
	CAFile     string // authorities of the server's certificate; empty: those of the system
	CertFile   string // the client's certificate, then intermediate ones; needs KeyFile
	KeyFile    string
	ServerName string // name in the server's certificate; empty: the host of the address
}

func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := readSmall(t.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: holds no certificate in PEM", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a client certificate and its key must be given together")
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", t.CertFile, t.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// readSmall reads a file of at most maxFileBytes.
func readSmall(path string) ([]byte, error) {
	about, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !about.Mode().IsRegular() || about.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s: is not a file of at most %d bytes", path, maxFileBytes)
	}
	return os.ReadFile(path)
}

// checkToken returns what is wrong with a token. The text does not contain it.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("holds no token")
	case len(token) > maxTokenBytes:
		return fmt.Errorf("the token has more than %d bytes", maxTokenBytes)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the token has white space, or characters other than ASCII")
	}
	return nil
}

// A tokenSource returns the token of a call; "" for none. Thread-safe.
type tokenSource interface{ token() (string, error) }

type fixedToken string

func (t fixedToken) token() (string, error) { return string(t), nil }

// A tokenFile is read again when it changes.
type tokenFile struct {
	path string

	mu       sync.Mutex
	nextLook time.Time
	seen     os.FileInfo
	text     string
	err      error
}

func (f *tokenFile) token() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.nextLook) {
		return f.text, f.err
	}
	f.nextLook = now.Add(tokenLookPeriod)
	about, err := os.Stat(f.path)
	if err == nil && f.seen != nil && f.err == nil && os.SameFile(about, f.seen) &&
		about.Size() == f.seen.Size() && about.ModTime().Equal(f.seen.ModTime()) {
		return f.text, nil
	}
	f.seen = about
	var text []byte
	if err == nil {
		text, err = readSmall(f.path)
	}
	f.text = strings.TrimSpace(string(text))
	if err == nil {
		err = checkToken(f.text)
	}
	if f.err = err; err != nil {
		f.text = ""
		f.err = failed(codes.Unauthenticated, "", "the token file %s: %s", f.path, err)
	}
	return f.text, f.err
}

// authorize adds the token to the metadata of a call.
func authorize(ctx context.Context, source tokenSource) (context.Context, error) {
	if source == nil {
		return ctx, nil
	}
	token, err := source.token()
	if err != nil || token == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// isUnixSocket returns whether an address is that of a Unix socket, which is always clear text.
func isUnixSocket(address string) bool {
	return strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "unix-abstract:")
}

// isThisMachine returns whether clear text to an address never leaves this machine.
func isThisMachine(address string) bool {
	if isUnixSocket(address) {
		return true
	}
	host := address
	for _, scheme := range []string{"dns:///", "dns:", "passthrough:///", "passthrough:"} {
		host = strings.TrimPrefix(host, scheme)
	}
	if strings.ContainsAny(host, ",/") {
		return false // lists, and other name services
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.HasPrefix(host, "[") || strings.Count(host, ":") == 1) {
		host = host[:i]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
