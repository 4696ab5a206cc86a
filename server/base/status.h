// The errors of this server: absl::Status with details that programs can read. server/rpc turns
// the details into google.rpc.BadRequest and google.rpc.ErrorInfo.
#ifndef BACKPROP_SERVER_BASE_STATUS_H_
#define BACKPROP_SERVER_BASE_STATUS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace backprop::base {

struct FieldViolation {
  std::string field;        // "spec.layers[0].units"
  std::string description;  // "must be at least 1, got 0"
};

struct Reason {
  std::string reason;  // "RUN_UNDER_WAY"
  std::map<std::string, std::string> metadata;
};

// Bounds in bytes of an HTTP/2 header (HeaderBytes), so that an error with all its details fits
// into the 8 KiB of trailers that every client takes: the message comes as text and, with the same
// violations, once more in the details, which are base64.
inline constexpr size_t kMaxErrorBytes = 1800;        // of the message
inline constexpr size_t kMaxFieldBytes = 400;         // of a field's path
inline constexpr size_t kMaxDescriptionBytes = 1200;  // of what is wrong with it
inline constexpr size_t kMaxMetadataBytes = 256;      // of a value in a Reason

// A request whose fields are wrong; at least one violation. Message: "field: description; …". Those
// for which there is no room are left out; how many, `left_out` included, is said in the last
// place.
absl::Status FieldErrors(const std::vector<FieldViolation>& violations, size_t left_out = 0);
absl::Status FieldError(absl::string_view field, absl::string_view description);

// A bound of the server's that a field exceeds: RESOURCE_EXHAUSTED (LIMIT_EXCEEDED).
absl::Status LimitError(absl::string_view field, absl::string_view description);

absl::Status ReasonError(absl::StatusCode code, absl::string_view message, const Reason& reason);

// The details that the functions above attached.
std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status);
std::optional<Reason> ReasonOf(const absl::Status& status);

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_STATUS_H_
