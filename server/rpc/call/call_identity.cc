#include "server/rpc/call/call_identity.h"

#include <cstddef>
#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace backprop::rpc {
namespace {

constexpr size_t kMostRequestIdBytes = 128;
// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
constexpr size_t kVersionEnd = 2;
constexpr size_t kTraceIdEnd = 35;
constexpr size_t kParentIdEnd = 52;
constexpr size_t kTraceparentBytes = 55;

bool IsLowerHex(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c)) && (c < 'a' || c > 'f')) return false;
  }
  return true;
}
bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

// The first value of a key; empty if there is none.
absl::string_view ValueOf(const grpc::CallbackServerContext& call, const char* key) {
  const auto& metadata = call.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

std::string NewRequestId() {
  thread_local absl::BitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

}  // namespace

bool IsRequestId(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) return false;
  }
  return !text.empty() && text.size() <= kMostRequestIdBytes;
}

absl::string_view TraceparentIn(absl::string_view text) {
  const bool is_version_0 = absl::StartsWith(text, "00");
  if (text.size() < kTraceparentBytes || (is_version_0 && text.size() > kTraceparentBytes) ||
      (text.size() > kTraceparentBytes && text[kTraceparentBytes] != '-')) {
    return {};
  }
  text = text.substr(0, kTraceparentBytes);
  const absl::string_view version = text.substr(0, kVersionEnd);
  const absl::string_view trace = text.substr(kVersionEnd + 1, kTraceIdEnd - kVersionEnd - 1);
  const absl::string_view parent = text.substr(kTraceIdEnd + 1, kParentIdEnd - kTraceIdEnd - 1);
  const absl::string_view flags = text.substr(kParentIdEnd + 1);
  const bool has_form = text[kVersionEnd] == '-' && text[kTraceIdEnd] == '-' &&
                        text[kParentIdEnd] == '-' && IsLowerHex(version) && IsLowerHex(trace) &&
                        IsLowerHex(parent) && IsLowerHex(flags);
  if (!has_form || version == "ff" || IsZero(trace) || IsZero(parent)) return {};
  return text;
}

CallIdentity IdentityOf(const grpc::CallbackServerContext& call) {
  const absl::string_view given = ValueOf(call, "x-request-id");
  return {IsRequestId(given) ? std::string(given) : NewRequestId(),
          std::string(TraceparentIn(ValueOf(call, "traceparent")))};
}

}  // namespace backprop::rpc
