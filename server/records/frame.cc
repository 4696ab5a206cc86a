#include "server/records/frame.h"

#include <xxhash.h>

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/records/records.pb.h"

namespace backprop::records {
namespace {

constexpr char kFrame = 1;
constexpr size_t kFrameBytes = 1 + sizeof(uint64_t);

}  // namespace

absl::Status Damaged(absl::string_view what, absl::string_view why) {
  return base::ReasonError(absl::StatusCode::kDataLoss,
                           absl::StrCat(what, ": the stored record is damaged: ", why),
                           {"RECORD_DAMAGED", {{"record", std::string(what)}}});
}

std::string Seal(const google::protobuf::MessageLite& message) {
  std::string value(kFrameBytes, '\0');
  message.AppendToString(&value);
  const uint64_t checksum = XXH3_64bits(value.data() + kFrameBytes, value.size() - kFrameBytes);
  value[0] = kFrame;
  std::memcpy(value.data() + 1, &checksum, sizeof checksum);
  return value;
}

absl::Status Open(absl::string_view value, absl::string_view what,
                  google::protobuf::MessageLite* message) {
  if (value.size() < kFrameBytes || value[0] != kFrame) return Damaged(what, "it has no frame");
  uint64_t checksum = 0;
  std::memcpy(&checksum, value.data() + 1, sizeof checksum);
  value.remove_prefix(kFrameBytes);
  if (XXH3_64bits(value.data(), value.size()) != checksum) {
    return Damaged(what, "its checksum does not match");
  }
  if (!message->ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Damaged(what, "it cannot be parsed");
  }
  return absl::OkStatus();
}

}  // namespace backprop::records
