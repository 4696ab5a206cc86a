// The outcome of a call: a Status, or a Result with a value or a Status.
#ifndef BACKPROP_CLIENT_STATUS_H_
#define BACKPROP_CLIENT_STATUS_H_

#include <cassert>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace backprop {

// The canonical codes of gRPC.
enum class StatusCode {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// "INVALID_ARGUMENT"
const char* StatusCodeName(StatusCode code);

// A field of a request that the server rejected, and why.
struct FieldViolation {
  std::string field{};        // "spec.layers[0].units"
  std::string description{};  // "must be at least 1, got 0"
};

struct Status {
  StatusCode code = StatusCode::kOk;
  std::string message{};
  std::vector<FieldViolation> field_violations{};  // with kInvalidArgument
  std::string reason{};                            // such as "RUN_UNDER_WAY"; may be empty
  std::map<std::string, std::string> metadata{};   // details of the reason
  // How long the server asks to wait before a retry (google.rpc.RetryInfo).
  std::optional<std::chrono::milliseconds> retry_delay{};

  bool ok() const { return code == StatusCode::kOk; }
  // "OK", or "INVALID_ARGUMENT: spec.layers[0].units: must be at least 1, got 0".
  std::string ToString() const;
};

// A value, or the Status that says why there is none. value() requires ok().
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT: implicit
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT: implicit

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  const T& value() const& {
    assert(ok());
    return *value_;
  }
  T&& value() && {
    assert(ok());
    return *std::move(value_);
  }
  const T& operator*() const& { return value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_STATUS_H_
