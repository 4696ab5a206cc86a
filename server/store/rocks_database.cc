#include "server/store/rocks_database.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/store/rocks_logger.h"
#include "server/store/rocks_status.h"

namespace backprop::store {
namespace {

// Sizes of the log and the memtables.
struct Sizes {
  uint64_t log_bytes = 0;
  size_t table_bytes = 0;   // size of one memtable
  size_t buffer_bytes = 0;  // size of all memtables
  bool log_ahead = false;   // whether RocksDB preallocates a new log
};
Sizes SizesFor(const RocksOptions& options, int64_t capacity_bytes, Access access) {
  // RocksDB must never flush a memtable.
  if (access != Access::kFull) return {uint64_t{1} << 50, size_t{1} << 40, size_t{1} << 40, false};
  // A table may have two memtables; all together use at most half of the memory. On a small disk
  // they are smaller, because for a while the log and the tables hold the same data.
  const auto memory = static_cast<uint64_t>(options.memory_bytes);
  const auto capacity = static_cast<uint64_t>(capacity_bytes);
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  Sizes sizes;
  sizes.log_bytes = std::min(256 * kMiB, std::max(capacity / 8, 4 * kMiB));
  sizes.table_bytes = std::clamp(std::min(memory / 8, capacity / 32), kMiB, 32 * kMiB);
  sizes.buffer_bytes = std::min(memory / 2, std::max(capacity / 8, 4 * kMiB));
  sizes.log_ahead = capacity >= 1024 * kMiB;
  return sizes;
}

rocksdb::DBOptions DatabaseOptions(const RocksOptions& options, rocksdb::Env* env,
                                   const std::shared_ptr<rocksdb::Cache>& cache, const Sizes& sizes,
                                   Access access) {
  rocksdb::DBOptions db;
  db.env = env;
  db.create_if_missing = options.create;
  db.create_missing_column_families = true;
  // A truncated record at the end of the log is the result of a crash; damage before the end is
  // corruption. (The default, kPointInTimeRecovery, would accept the records before the damage as
  // complete.)
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  db.recycle_log_file_num = 0;  // old records after the end would be read as damage, or worse
  db.track_and_verify_wals_in_manifest = true;
  db.paranoid_checks = true;
  db.max_total_wal_size = sizes.log_bytes;
  // Charged to the cache, so that both together stay within their memory.
  db.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(sizes.buffer_bytes, cache);
  db.avoid_flush_during_recovery = access != Access::kFull;
  db.allow_fallocate = sizes.log_ahead;
  db.max_background_jobs = 2;
  db.rate_limiter.reset(rocksdb::NewGenericRateLimiter(int64_t{64} << 20, 100'000, 10,
                                                       rocksdb::RateLimiter::Mode::kWritesOnly,
                                                       /*auto_tuned=*/true));
  db.bytes_per_sync = uint64_t{1} << 20;
  db.max_open_files = 512;
  db.skip_stats_update_on_db_open = true;
  db.stats_dump_period_sec = 0;
  db.info_log = std::make_shared<RocksLogger>(options.on_warning);
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.two_write_queues = false;
  db.max_bgerror_resume_count =
      0;  // RocksStore resumes, because it must fail the waiting callbacks first
  return db;
}

rocksdb::ColumnFamilyOptions TableOptions(const Table& table, const Sizes& sizes,
                                          const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions blocks;
  blocks.block_cache = cache;
  blocks.cache_index_and_filter_blocks = true;
  blocks.pin_l0_filter_and_index_blocks_in_cache = true;
  blocks.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  blocks.optimize_filters_for_memory = true;
  blocks.format_version = 5;
  blocks.verify_compression = true;
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(blocks));
  family.write_buffer_size = sizes.table_bytes;
  family.level_compaction_dynamic_level_bytes = true;
  family.paranoid_file_checks = true;
  if (table.large_values) {  // in blob files, which compaction does not rewrite
    family.enable_blob_files = true;
    family.min_blob_size = 4096;
    family.enable_blob_garbage_collection = true;
  }
  family.compression = table.compresses ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
  return family;
}

// Whether RocksDB's message means that another process holds the lock, not that the lock file
// cannot be opened.
bool IsLocked(const std::string& text) {
  return absl::StrContains(text, "While lock file") || absl::StrContains(text, "lock hold by");
}

absl::Status AnotherServer(const std::string& directory) {
  return absl::UnavailableError(absl::StrCat(
      directory, ": is in use by another server; stop that server or choose another directory"));
}

absl::Status OpenError(const rocksdb::Status& status, const std::string& directory) {
  const std::string text = status.ToString();
  if (status.IsIOError() && IsLocked(text)) return AnotherServer(directory);
  if (status.IsCorruption()) {
    return absl::DataLossError(
        absl::StrCat(directory, ": is damaged (", text,
                     "); restore a backup, or see docs/durability.md for what can be recovered"));
  }
  return FromRocks(status, directory);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const RocksOptions& options, rocksdb::Env* env, const std::shared_ptr<rocksdb::Cache>& cache,
    int64_t capacity_bytes, Access access) {
  const Sizes sizes = SizesFor(options, capacity_bytes, access);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  descriptors.emplace_back(kMeta.name, TableOptions(kMeta, sizes, cache));
  for (const Table* table : options.schema.tables) {
    assert(table->number == descriptors.size());
    descriptors.emplace_back(table->name, TableOptions(*table, sizes, cache));
  }
  auto database = std::make_unique<Database>();
  database->tables_ = options.schema.tables;
  database->env_ = env;
  database->access_ = access;
  const rocksdb::DBOptions db_options = DatabaseOptions(options, env, cache, sizes, access);
  database->buffers_ = db_options.write_buffer_manager;
  database->limiter_ = db_options.rate_limiter;
  rocksdb::DB* db = nullptr;
  rocksdb::Status opened;
  if (access == Access::kReadOnly) {
    absl::Status locked = database->LockReadOnly(options.directory);
    if (!locked.ok()) return locked;
    opened = rocksdb::DB::OpenForReadOnly(db_options, options.directory, descriptors,
                                          &database->families_, &db);
  } else {
    opened =
        rocksdb::DB::Open(db_options, options.directory, descriptors, &database->families_, &db);
  }
  if (!opened.ok()) return OpenError(opened, options.directory);
  database->db_.reset(db);
  return database;
}

Database::~Database() {
  if (db_ != nullptr) {
    for (const rocksdb::Snapshot* snapshot : snapshots_) db_->ReleaseSnapshot(snapshot);
    for (auto* family : families_) {
      db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
    }
    db_->Close().PermitUncheckedError();
  }
  if (lock_ != nullptr) env_->UnlockFile(lock_).PermitUncheckedError();
}

// Excludes other servers. If the lock file cannot be opened for writing, no process can write.
absl::Status Database::LockReadOnly(const std::string& directory) {
  const rocksdb::Status locked = env_->LockFile(directory + "/LOCK", &lock_);
  if (locked.ok()) return absl::OkStatus();
  lock_ = nullptr;
  return IsLocked(locked.ToString()) ? AnotherServer(directory) : absl::OkStatus();
}

const rocksdb::Snapshot* Database::TakeSnapshot() {
  const base::MutexLock lock(&snapshots_mu_);
  return *snapshots_.insert(db_->GetSnapshot()).first;
}

void Database::Release(const rocksdb::Snapshot* snapshot) {
  const base::MutexLock lock(&snapshots_mu_);
  db_->ReleaseSnapshot(snapshot);
  snapshots_.erase(snapshot);
}

std::vector<std::string> Database::LiveFiles() const {
  std::vector<std::string> files;
  uint64_t manifest_bytes = 0;
  if (!db_->GetLiveFiles(files, &manifest_bytes, /*flush_memtable=*/false).ok()) return {};
  for (std::string& file : files) file.erase(0, file.find_first_not_of('/'));
  return files;
}

int64_t Database::TableBytes() const {
  int64_t bytes = 0;
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    for (const std::string& property : {rocksdb::DB::Properties::kTotalSstFilesSize,
                                        rocksdb::DB::Properties::kTotalBlobFileSize}) {
      uint64_t value = 0;
      if (db_->GetIntProperty(family, property, &value)) bytes += static_cast<int64_t>(value);
    }
  }
  return bytes;
}

void Database::Unthrottle() { limiter_->SetBytesPerSecond(int64_t{1} << 40); }

void Database::Reclaim(const Table& table, const std::string& prefix,
                       std::atomic<bool>* cancelled) {
  if (access_ == Access::kReadOnly) return;
  // RocksDB deletes a log once all its records are flushed.
  if (!db_->Flush(rocksdb::FlushOptions(), families_).ok()) return;
  Compact(table, prefix, false, cancelled);
  CollectBlobs(table, cancelled);
}

void Database::ReclaimAll(std::atomic<bool>* cancelled) {
  if (access_ == Access::kReadOnly) return;
  if (!db_->Flush(rocksdb::FlushOptions(), families_).ok()) return;
  for (const Table* table : tables_) {
    if (*cancelled) return;
    Compact(*table, "", false, cancelled);
    CollectBlobs(*table, cancelled);
  }
}

// A compaction drops deleted records, but a blob file that holds values of other records too stays
// as it is.
void Database::CollectBlobs(const Table& table, std::atomic<bool>* cancelled) {
  uint64_t garbage = 0, all = 0, free = 0;
  if (*cancelled || !env_->GetFreeSpace(db_->GetName(), &free).ok()) return;
  auto* const family = FamilyOf(table);
  db_->GetIntProperty(family, rocksdb::DB::Properties::kLiveBlobFileGarbageSize, &garbage);
  db_->GetIntProperty(family, rocksdb::DB::Properties::kLiveBlobFileSize, &all);
  const bool worth_it = garbage > all / 4;
  if (worth_it && all - garbage < free / 2) Compact(table, "", true, cancelled);
}

void Database::Compact(const Table& table, const std::string& prefix, bool collect_blobs,
                       std::atomic<bool>* cancelled) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  options.canceled = cancelled;
  if (collect_blobs) {
    options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
    options.blob_garbage_collection_age_cutoff = 1.0;
  }
  const std::string end = EndOfPrefix(prefix);
  const rocksdb::Slice first(prefix), last(end);
  db_->CompactRange(options, FamilyOf(table), prefix.empty() ? nullptr : &first,
                    end.empty() ? nullptr : &last)
      .PermitUncheckedError();
}

}  // namespace backprop::store
