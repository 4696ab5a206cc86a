// The store on a disk: RocksDB.
#ifndef BACKPROP_SERVER_STORE_ROCKS_STORE_H_
#define BACKPROP_SERVER_STORE_ROCKS_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace rocksdb {
class Env;
}

namespace backprop::store {

// Of everything below the directory. A server refuses one that a later format wrote.
inline constexpr uint32_t kFormatVersion = 1;

// A size that follows from that of the file system: a sixteenth of it, within bounds.
inline constexpr int64_t kBySize = -1;

struct RocksOptions {
  std::string directory;
  bool create = true;  // if there is none yet
  // Of what is not yet in tables, at most half of it, and of the cache for reads.
  int64_t memory_bytes = 256LL << 20;
  rocksdb::Env* env = nullptr;  // below RocksDB; null: the system's
  // Kept occupied, so that deleting and opening work on a full disk. kBySize: at most 32 MiB.
  int64_t reserve_bytes = 0;
  // Bulk data must leave so much of the disk free. kBySize: at most 1 GiB.
  int64_t min_free_bytes = 0;
  // Is told RocksDB's warnings, on any thread.
  std::function<void(const std::string&)> on_warning = {};
  // Is told, on any thread, when the store stops or begins again to take batches, and when the
  // cause changes.
  std::function<void(const absl::Status&)> on_health = {};
};

// Opens or makes the store in a directory. UNAVAILABLE when another server has it or it cannot be
// read, FAILED_PRECONDITION for a later format, DATA_LOSS when something in it is damaged; the
// message says which file and what to do. A store that cannot be written, because the disk is full
// or read-only, opens with a health that is not OK: what is there can be read, and the store goes
// on by itself once it can be written. Reasons for every setting are in docs/durability.md.
absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(const RocksOptions& options);

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_STORE_H_
