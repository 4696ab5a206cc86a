#include "server/records/checkpoint_records.h"

#include <xxhash.h>

#include "server/base/text.h"
#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/project.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"

namespace backprop::records {

std::string EncodeCheckpoint(const Checkpoint& checkpoint) {
  v1::Checkpoint message;
  Encode(checkpoint, &message);
  return Seal(message);
}

absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view value, absl::string_view model) {
  v1::Checkpoint message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  Rules rules(model);
  const auto hash_bytes = static_cast<int64_t>(message.state_hash().size());
  rules.Require(IsId(message.id()), "a checkpoint's id", "1 to 63 of [a-z0-9_-]",
                base::Quote(message.id()));
  rules.Steps("a checkpoint's step", message.step());
  rules.Equal("bytes of a checkpoint's state_hash", hash_bytes, sizeof(XXH128_canonical_t));
  rules.Between("a checkpoint's size_bytes", message.size_bytes(), 0, kMostRecordBytes);
  rules.Steps("a checkpoint's run", message.run());
  rules.Steps("a checkpoint's iteration", message.iteration());
  if (!rules.ok()) return rules.status();
  return Decode(message);
}

std::string HashOfState(const std::string& record) {
  const XXH128_hash_t hash = XXH3_128bits(record.data(), record.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest};
}

}  // namespace backprop::records
