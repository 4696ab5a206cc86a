// Keeps threads that compute from standing in the way of threads that answer.
#ifndef BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_
#define BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_

#include <chrono>

namespace backprop::exec {

// The calling thread computes: a thread that wakes with a little to do, gRPC's or a client's on the
// same machine, is to have a core at once although all compute. Without this a Predict beside runs
// on every core waits for the kernel's time slices, 3 ms at the 99th percentile. Needs no
// privilege; where the kernel knows less, it does less.
void GiveWayToOthers();

// To be called often by a thread that computes: lets a thread that waits for this core have it, at
// most every 50 µs. A thread that wakes on a core where another one computes is else switched in at
// the kernel's next tick, up to 4 ms later, whatever the priorities. Does nothing on threads that
// did not call GiveWayToOthers. `now`: for callers that know it already.
void LetOthersRun(std::chrono::steady_clock::time_point now);
inline void LetOthersRun() { LetOthersRun(std::chrono::steady_clock::now()); }

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_
