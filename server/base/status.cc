#include "server/base/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/text.h"

namespace backprop::base {
namespace {

constexpr char kFieldsPayload[] = "backprop/fields";
constexpr char kReasonPayload[] = "backprop/reason";
constexpr char kRetryPayload[] = "backprop/retry_after";

// A list of strings, each as "length:bytes".
void Append(absl::string_view s, std::string* out) { absl::StrAppend(out, s.size(), ":", s); }

std::vector<std::string> Split(absl::string_view packed) {
  std::vector<std::string> parts;
  while (!packed.empty()) {
    const size_t colon = packed.find(':');
    size_t length = 0;
    if (!absl::SimpleAtoi(packed.substr(0, colon), &length)) break;
    parts.emplace_back(packed.substr(colon + 1, length));
    packed.remove_prefix(colon + 1 + length);
  }
  return parts;
}

std::vector<std::string> Payload(const absl::Status& status, const char* type) {
  const auto payload = status.GetPayload(type);
  return payload.has_value() ? Split(std::string(*payload)) : std::vector<std::string>();
}

}  // namespace

absl::Status FieldErrors(const std::vector<FieldViolation>& violations, size_t left_out) {
  constexpr size_t kNoteBytes = 64;
  std::string message;
  std::string packed;
  size_t bytes = kNoteBytes;
  left_out += violations.size();
  for (const FieldViolation& violation : violations) {
    const std::string field = FitHeader(violation.field, kMaxFieldBytes);
    const std::string description = FitHeader(violation.description, kMaxDescriptionBytes);
    const std::string text = absl::StrCat(message.empty() ? "" : "; ", field, ": ", description);
    bytes += HeaderBytes(text);
    if (bytes > kMaxErrorBytes) break;
    --left_out;
    message += text;
    Append(field, &packed);
    Append(description, &packed);
  }
  if (left_out > 0) {
    const std::string note = absl::StrCat(
        left_out, left_out == 1 ? " more violation is" : " more violations are", " omitted");
    absl::StrAppend(&message, "; ", note);
    Append("", &packed);
    Append(note, &packed);
  }
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kFieldsPayload, absl::Cord(packed));
  return status;
}

absl::Status FieldError(absl::string_view field, absl::string_view description) {
  return FieldErrors({{std::string(field), std::string(description)}});
}

absl::Status LimitError(absl::string_view field, absl::string_view description) {
  return ReasonError(absl::StatusCode::kResourceExhausted, absl::StrCat(field, ": ", description),
                     {"LIMIT_EXCEEDED", {{"field", std::string(field)}}});
}

absl::Status CallerGone() {
  return absl::CancelledError("the client cancelled the call or disconnected");
}

absl::Status ReasonError(absl::StatusCode code, absl::string_view message, const Reason& reason) {
  absl::Status status(code, FitHeader(message, kMaxErrorBytes));
  std::string packed;
  Append(reason.reason, &packed);
  for (const auto& [key, value] : reason.metadata) {
    Append(key, &packed);
    Append(FitHeader(value, kMaxMetadataBytes), &packed);
  }
  status.SetPayload(kReasonPayload, absl::Cord(packed));
  if (reason.retry_after.has_value()) {
    status.SetPayload(kRetryPayload,
                      absl::Cord(absl::StrCat(absl::ToInt64Nanoseconds(*reason.retry_after))));
  }
  return status;
}

std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status) {
  const auto parts = Payload(status, kFieldsPayload);
  std::vector<FieldViolation> violations;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) violations.push_back({parts[i], parts[i + 1]});
  return violations;
}

std::optional<Reason> ReasonOf(const absl::Status& status) {
  const auto parts = Payload(status, kReasonPayload);
  if (parts.empty()) return std::nullopt;
  Reason reason{parts[0], {}, {}};
  for (size_t i = 1; i + 1 < parts.size(); i += 2) reason.metadata[parts[i]] = parts[i + 1];
  int64_t nanoseconds = 0;
  const auto retry = status.GetPayload(kRetryPayload);
  if (retry.has_value() && absl::SimpleAtoi(std::string(*retry), &nanoseconds)) {
    reason.retry_after = absl::Nanoseconds(nanoseconds);
  }
  return reason;
}

}  // namespace backprop::base
