#include "server/records/checkpoint_records.h"

#include <xxhash.h>

#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/records.pb.h"

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
  return Decode(message);
}

std::string HashOfState(const std::string& record) {
  const XXH128_hash_t hash = XXH3_128bits(record.data(), record.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest};
}

}  // namespace backprop::records
