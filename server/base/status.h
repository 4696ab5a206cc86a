// Builders of the server's errors: absl::Status with details that programs can read. server/rpc
// encodes the details as google.rpc.BadRequest, google.rpc.ErrorInfo and google.rpc.RetryInfo.
#ifndef BACKPROP_SERVER_BASE_STATUS_H_
#define BACKPROP_SERVER_BASE_STATUS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace backprop::base {

struct FieldViolation {
  std::string field;        // "spec.layers[0].units"
  std::string description;  // "must be at least 1, got 0"
};

struct Reason {
  std::string reason;  // "RUN_UNDER_WAY"
  std::map<std::string, std::string> metadata;
  // When the same request can succeed; unset: waiting does not help, or it is not known when.
  std::optional<absl::Duration> retry_after = {};
};

// Limits in bytes of an HTTP/2 header (HeaderBytes). They let an error and all its details fit into
// 8 KiB of trailers, which every client accepts: the message is sent as text and, with the same
// violations, again in the details, which are base64.
inline constexpr size_t kMaxErrorBytes = 1700;        // of the message
inline constexpr size_t kMaxFieldBytes = 400;         // of a field's path
inline constexpr size_t kMaxDescriptionBytes = 1200;  // of what is wrong with it
inline constexpr size_t kMaxMetadataBytes = 256;      // of a value in a Reason

// INVALID_ARGUMENT about at least one field. Message: "field: description; …". Violations that do
// not fit are omitted; the last entry says how many, including `left_out`.
absl::Status FieldErrors(const std::vector<FieldViolation>& violations, size_t left_out = 0);
absl::Status FieldError(absl::string_view field, absl::string_view description);

// RESOURCE_EXHAUSTED (LIMIT_EXCEEDED): a field exceeds a limit of the server.
absl::Status LimitError(absl::string_view field, absl::string_view description);

// CANCELLED: the caller no longer waits for the result.
absl::Status CallerGone();

absl::Status ReasonError(absl::StatusCode code, absl::string_view message, const Reason& reason);

// Return the details that the functions above attached.
std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status);
std::optional<Reason> ReasonOf(const absl::Status& status);

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_STATUS_H_
