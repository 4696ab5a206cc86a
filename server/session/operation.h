// What all operations of a session have in common.
#ifndef BACKPROP_SERVER_SESSION_OPERATION_H_
#define BACKPROP_SERVER_SESSION_OPERATION_H_

#include <chrono>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

namespace backprop::session {

// Called exactly once with the result of an operation, by any thread, possibly before the operation
// returns.
template <class T>
using Callback = absl::AnyInvocable<void(absl::StatusOr<T>)>;

// Whether the caller of an operation has cancelled it. Asked before the operation changes anything.
using IsCancelled = absl::AnyInvocable<bool() const>;

// When a run first excluded an operation (session_excluded.cc); unset if none has.
using ExcludedSince = std::optional<std::chrono::steady_clock::time_point>;

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_OPERATION_H_
