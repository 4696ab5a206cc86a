// Messages in protobuf's JSON to and from their binary form, by the descriptors of the generated
// code. No message is built.
#ifndef BACKPROP_SERVER_HTTP_JSON_H_
#define BACKPROP_SERVER_HTTP_JSON_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace backprop::http {

// "type.googleapis.com/backprop.v1.StepRequest" of "backprop.v1.StepRequest".
std::string TypeUrl(absl::string_view full_name);

// INVALID_ARGUMENT (MALFORMED_REQUEST) if `json` is not the JSON of a message of the type: also for
// an unknown field or name of an enum, so that a typing error is never ignored. `type` is a
// TypeUrl. Thread-safe, as is BinaryFromJson's inverse.
absl::StatusOr<std::string> BinaryFromJson(const std::string& type, absl::string_view json);

// Fields with their default value are left out. INTERNAL if `binary` is no message of the type.
absl::StatusOr<std::string> JsonFromBinary(const std::string& type, const std::string& binary);

// `text` as a JSON string, with its quotes. Bytes that are not UTF-8 are replaced.
std::string JsonString(absl::string_view text);

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_JSON_H_
