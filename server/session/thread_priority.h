// Keeps threads that compute from standing in the way of threads that answer.
#ifndef BACKPROP_SERVER_SESSION_THREAD_PRIORITY_H_
#define BACKPROP_SERVER_SESSION_THREAD_PRIORITY_H_

namespace backprop::session {

// The calling thread computes: a thread that wakes with a little to do, gRPC's or a client's on the
// same machine, is to have a core at once although all compute. Without this a Predict beside runs
// on every core waits for the kernel's time slices, 3 ms at the 99th percentile. Needs no
// privilege; where the kernel knows less, it does less.
void GiveWayToOthers();

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_THREAD_PRIORITY_H_
