// An open RocksDB database with the tables of a store.
#ifndef BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_
#define BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/write_buffer_manager.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/rocks_store.h"
#include "server/store/store.h"

namespace backprop::store {

// How a database is open.
enum class Access {
  kFull,
  // On a full disk: opening writes some kilobytes, and from then on the log alone grows. What the
  // log holds stays in memory until it is opened in full.
  kLogOnly,
  // Nothing is written, so that it works on a disk without any room or one that is read-only.
  kReadOnly
};

// Closes the database. Its members are thread-safe.
class Database {
 public:
  // `env` must outlive it. `capacity_bytes`: of the file system; on a small one logs and memtables
  // are smaller, too. Errors as OpenRocksStore.
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const RocksOptions& options, rocksdb::Env* env, const std::shared_ptr<rocksdb::Cache>& cache,
      int64_t capacity_bytes, Access access);
  ~Database();

  rocksdb::DB* operator->() const { return db_.get(); }
  Access access() const { return access_; }
  rocksdb::ColumnFamilyHandle* FamilyOf(Table table) const {
    return families_[static_cast<size_t>(table)];
  }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return families_; }
  // In memtables: as much of the disk will be needed beside the log.
  int64_t UnflushedBytes() const { return static_cast<int64_t>(buffers_->memory_usage()); }

  // A snapshot goes with the database, if not before.
  const rocksdb::Snapshot* TakeSnapshot();
  void Release(const rocksdb::Snapshot* snapshot);

  // Names of the files that the database consists of, without its logs. Empty if it cannot say.
  std::vector<std::string> LiveFiles() const;

  // Gives the disk back what was deleted under `prefix`. Ends soon once `cancelled` is true. What
  // fails is tried again when RocksDB next compacts.
  void Reclaim(Table table, const std::string& prefix, std::atomic<bool>* cancelled);
  // The same for all tables, their logs and the files of values that are partly garbage, if a copy
  // of what is not garbage fits into `free_bytes`.
  void ReclaimAll(int64_t free_bytes, std::atomic<bool>* cancelled);

 private:
  void Compact(Table table, const std::string& prefix, bool collect_blobs,
               std::atomic<bool>* cancelled);
  absl::Status LockReadOnly(const std::string& directory);

  std::mutex snapshots_mu_;
  std::set<const rocksdb::Snapshot*> snapshots_;  // under snapshots_mu_
  rocksdb::Env* env_ = nullptr;
  rocksdb::FileLock* lock_ = nullptr;  // RocksDB takes none when it only reads
  Access access_ = Access::kFull;
  std::shared_ptr<rocksdb::WriteBufferManager> buffers_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_DATABASE_H_
