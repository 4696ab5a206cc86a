#include "server/session/checkpoint_records.h"

#include <xxhash.h>

#include "server/session/frame.h"
#include "server/session/messages.h"
#include "server/store/records.pb.h"

namespace backprop::session {
std::string EncodeCheckpoint(const Checkpoint& checkpoint) {
  store::v1::Checkpoint message;
  Encode(checkpoint, &message);
  return Seal(message);
}

absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view value, absl::string_view model) {
  store::v1::Checkpoint message;
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

}  // namespace backprop::session
