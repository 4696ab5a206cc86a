//! Tests against a real server, which is killed and restarted under the client. The program is
//! $BACKPROPD, or that of the release build of the tree.

mod access;
mod calls;
mod resilience;
mod runs;
mod support;
