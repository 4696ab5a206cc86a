// Annotations for ThreadSanitizer. gRPC runs the reactions of a call after the operations that
// cause them, but ThreadSanitizer cannot see this order because gRPC's libraries are not
// instrumented. Both functions do nothing in other builds.
#ifndef BACKPROP_SERVER_RPC_CALL_HAND_OVER_H_
#define BACKPROP_SERVER_RPC_CALL_HAND_OVER_H_

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace backprop::rpc {

// Call before an operation after which gRPC may call a reaction of `reactor` on another thread.
inline void HandOver([[maybe_unused]] void* reactor) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(reactor);
#endif
}

// Call first in every reaction.
inline void TakeOver([[maybe_unused]] void* reactor) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(reactor);
#endif
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_HAND_OVER_H_
