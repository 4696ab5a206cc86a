// The store on disk, in RocksDB.
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

// A size derived from the size of the file system: a sixteenth of it, within bounds.
inline constexpr int64_t kBySize = -1;

struct RocksOptions {
  std::string directory;
  Schema schema;
  bool create = true;  // create the store if there is none
  // Memory for the read cache and the memtables; the latter take at most half.
  int64_t memory_bytes = 256LL << 20;
  rocksdb::Env* env = nullptr;  // environment for RocksDB; null: the system's
  // Reserve of disk space, so that deleting and opening work on a full disk. kBySize: at most 32
  // MiB.
  int64_t reserve_bytes = 0;
  // Disk space that bulk data must leave free. kBySize: at most 1 GiB.
  int64_t min_free_bytes = 0;
  // Called with RocksDB's warnings, on any thread.
  std::function<void(const std::string&)> on_warning = {};
  // Called on any thread when the store stops or resumes accepting batches, and when the cause
  // changes.
  std::function<void(const absl::Status&)> on_health = {};
};

// Opens or creates the store in a directory. Errors: UNAVAILABLE if another server uses it or it
// cannot be read, FAILED_PRECONDITION for a later format, DATA_LOSS if it is damaged; the message
// names the file and says what to do. A store that cannot be written, because the disk is full or
// read-only, opens with a health() that is not OK: its records can be read, and it accepts batches
// again as soon as it can be written. docs/durability.md gives the reason for every setting.
absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(const RocksOptions& options);

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_STORE_H_
