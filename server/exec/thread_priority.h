// Lets threads that respond to callers run before threads that compute.
#ifndef BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_
#define BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_

#include <chrono>

namespace backprop::exec {

// Marks the calling thread as one that computes, so that a thread that wakes for a short task (of
// gRPC, or of a client on the same machine) gets a core at once although every core computes.
// Without it, Predict waits for the kernel's time slices while every core trains: 3 ms at the 99th
// percentile. Needs no privilege. A kernel that lacks a setting ignores it.
void GiveWayToOthers();

// A thread that computes calls this often. At most every 50 µs it yields the core to a thread that
// waits for it; otherwise the kernel would switch to that thread at its next tick, up to 4 ms
// later, whatever the priorities are. Does nothing on a thread that has not called GiveWayToOthers.
// `now` is the current time, for callers that have read the clock already.
void LetOthersRun(std::chrono::steady_clock::time_point now);
inline void LetOthersRun() { LetOthersRun(std::chrono::steady_clock::now()); }

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_THREAD_PRIORITY_H_
