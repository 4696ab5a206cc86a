// An open RocksDB database with the tables of a store.
#ifndef BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_
#define BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/write_buffer_manager.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/store/rocks_store.h"
#include "server/store/store.h"

namespace backprop::store {

// The mode in which a database is open.
enum class Access {
  kFull,
  // For a full disk: opening writes some kilobytes, and afterwards only the log grows. Memtables
  // are not flushed until the database is opened with kFull.
  kLogOnly,
  // Nothing is written. Works on a full disk and on a read-only file system.
  kReadOnly
};

// An open database; the destructor closes it. Thread-safe.
class Database {
 public:
  // Opens the database. `env` must outlive it. `capacity_bytes` is the size of the file system; on
  // a small one logs and memtables are smaller. Errors as for OpenRocksStore().
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const RocksOptions& options, rocksdb::Env* env, const std::shared_ptr<rocksdb::Cache>& cache,
      int64_t capacity_bytes, Access access);
  ~Database();

  rocksdb::DB* operator->() const { return db_.get(); }
  Access access() const { return access_; }
  rocksdb::ColumnFamilyHandle* FamilyOf(const Table& table) const {
    return families_[table.number];
  }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return families_; }
  // Bytes in memtables. As much disk space is needed in addition to the log when they are flushed.
  int64_t UnflushedBytes() const { return static_cast<int64_t>(buffers_->memory_usage()); }

  // Bytes of tables and blob files on disk.
  int64_t TableBytes() const;

  // A snapshot is valid until Release() or until the database is closed.
  const rocksdb::Snapshot* TakeSnapshot();
  void Release(const rocksdb::Snapshot* snapshot);

  // Names of the files of the database, except its logs. Empty if RocksDB cannot list them.
  std::vector<std::string> LiveFiles() const;

  // Stops limiting the rate of background writes, so that closing the database is not delayed.
  void Unthrottle();

  // Reclaims the space of deleted records under `prefix`, and the table's blob files if more than a
  // quarter of their bytes is garbage. The blob files are rewritten only if a copy of their live
  // values fits in half of the free space. Returns soon after `cancelled` becomes true. After a
  // failure the space is reclaimed by RocksDB's next compaction.
  void Reclaim(const Table& table, const std::string& prefix, std::atomic<bool>* cancelled);
  // The same for all tables and their logs.
  void ReclaimAll(std::atomic<bool>* cancelled);

 private:
  void Compact(const Table& table, const std::string& prefix, bool collect_blobs,
               std::atomic<bool>* cancelled);
  void CollectBlobs(const Table& table, std::atomic<bool>* cancelled);
  absl::Status LockReadOnly(const std::string& directory);

  base::Mutex snapshots_mu_;
  std::set<const rocksdb::Snapshot*> snapshots_ ABSL_GUARDED_BY(snapshots_mu_);
  rocksdb::Env* env_ = nullptr;
  rocksdb::FileLock* lock_ = nullptr;  // taken here if read-only, because RocksDB takes none then
  Access access_ = Access::kFull;
  std::shared_ptr<rocksdb::WriteBufferManager> buffers_;
  std::shared_ptr<rocksdb::RateLimiter> limiter_;
  std::span<const Table* const> tables_;  // without kMeta
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;  // by number of the table
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_
