#include "server/store/rocks_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/store/group_commit.h"
#include "server/store/reclaimer.h"
#include "server/store/rocks_logger.h"
#include "server/store/rocks_status.h"
#include "server/store/watermark.h"

namespace backprop::store {
namespace {

constexpr std::array<const char*, kTables> kNames = {
    "default", "models", "states",      "requests", "log",
    "runs",    "chunks", "checkpoints", "datasets", "dataset_rows"};
constexpr size_t kMostKeyBytes = 128;
constexpr char kFormatKey[] = "format";
constexpr char kGroupKey[] = "group";

// Memory for what is not yet in tables: a table of the store may have two of this size, all
// together have at most half of the memory.
size_t WriteBufferBytes(const RocksOptions& options) {
  return std::clamp(static_cast<size_t>(options.memory_bytes) / 8, size_t{1} << 20,
                    size_t{32} << 20);
}

rocksdb::DBOptions DatabaseOptions(const RocksOptions& options,
                                   const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::DBOptions db;
  if (options.env != nullptr) db.env = options.env;
  db.create_if_missing = options.create;
  db.create_missing_column_families = true;
  // A record cut short at the end of the log is a crash; damage before the end is damage. (The
  // default, kPointInTimeRecovery, would take what lies before the damage for the whole history.)
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  db.recycle_log_file_num = 0;  // old records behind the end would be read as damage, or worse
  db.track_and_verify_wals_in_manifest = true;
  db.paranoid_checks = true;
  db.max_total_wal_size = uint64_t{256} << 20;
  // Taken from the cache, so that both together stay within their memory.
  db.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(
      static_cast<size_t>(options.memory_bytes) / 2, cache);
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
  db.max_bgerror_resume_count = 0;  // we resume: who waits for a callback is told
  return db;
}

rocksdb::ColumnFamilyOptions TableOptions(const RocksOptions& options, Table table,
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
  family.write_buffer_size = WriteBufferBytes(options);
  family.level_compaction_dynamic_level_bytes = true;
  family.paranoid_file_checks = true;
  const bool large = table == Table::kCheckpoints || table == Table::kDatasetRows;
  if (large) {  // in files of their own, which compaction does not write again
    family.enable_blob_files = true;
    family.min_blob_size = 4096;
    family.enable_blob_garbage_collection = true;
  }
  const bool numbers =  // do not compress
      large || table == Table::kStates || table == Table::kChunks;
  family.compression = numbers ? rocksdb::kNoCompression : rocksdb::kLZ4Compression;
  return family;
}

// An open database with its tables. Closes it.
class Database {
 public:
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const RocksOptions& options, const std::shared_ptr<rocksdb::Cache>& cache);
  ~Database() {
    if (db_ == nullptr) return;
    for (const rocksdb::Snapshot* snapshot : snapshots_) db_->ReleaseSnapshot(snapshot);
    for (auto* family : families_) {
      db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
    }
    db_->Close().PermitUncheckedError();
  }

  rocksdb::DB* operator->() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* FamilyOf(Table table) const {
    return families_[static_cast<size_t>(table)];
  }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return families_; }

  // A snapshot goes with the database, if not before.
  const rocksdb::Snapshot* TakeSnapshot() {
    const std::lock_guard lock(snapshots_mu_);
    return *snapshots_.insert(db_->GetSnapshot()).first;
  }
  void Release(const rocksdb::Snapshot* snapshot) {
    const std::lock_guard lock(snapshots_mu_);
    db_->ReleaseSnapshot(snapshot);
    snapshots_.erase(snapshot);
  }

 private:
  std::mutex snapshots_mu_;
  std::set<const rocksdb::Snapshot*> snapshots_;  // under snapshots_mu_
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
};

absl::Status OpenError(const rocksdb::Status& status, const std::string& directory) {
  const std::string text = status.ToString();
  if (status.IsIOError() && absl::StrContains(text, "lock ")) {
    return absl::UnavailableError(absl::StrCat(
        directory, ": another server has it open; stop that one or choose another directory"));
  }
  if (status.IsCorruption()) {
    return absl::DataLossError(
        absl::StrCat(directory, ": is damaged (", text,
                     "). Restore a backup; docs/durability.md says what can be saved"));
  }
  return FromRocks(status, directory);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const RocksOptions& options, const std::shared_ptr<rocksdb::Cache>& cache) {
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (int table = 0; table < kTables; ++table) {
    descriptors.emplace_back(kNames[static_cast<size_t>(table)],
                             TableOptions(options, static_cast<Table>(table), cache));
  }
  auto database = std::make_unique<Database>();
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(
      DatabaseOptions(options, cache), options.directory, descriptors, &database->families_, &db);
  if (!opened.ok()) return OpenError(opened, options.directory);
  database->db_.reset(db);
  return database;
}

class RocksStore final : public Store {
 public:
  RocksStore(const RocksOptions& options, std::shared_ptr<rocksdb::Cache> cache,
             std::unique_ptr<Database> database, Watermark watermark)
      : options_(options),
        cache_(std::move(cache)),
        database_(std::move(database)),
        watermark_(std::move(watermark)) {}

  ~RocksStore() override {
    commits_.reset();
    reclaimer_.reset();
    // The next start finds tables and an empty log.
    if (database_ != nullptr && health().ok()) {
      (*database_)->Flush(rocksdb::FlushOptions(), database_->families()).PermitUncheckedError();
    }
  }

  absl::Status Begin() {
    absl::Status checked = CheckFormat();
    if (!checked.ok()) return checked;
    absl::Status reached = ReadGroup();
    if (!reached.ok()) return reached;
    reclaimer_.emplace([this](Table table, const std::string& prefix,
                              std::atomic<bool>* cancelled) { Reclaim(table, prefix, cancelled); });
    commits_.emplace([this](const auto& batches, bool sync) { return WriteGroup(batches, sync); },
                     [this] { return SyncOrRecover(); });
    return absl::OkStatus();
  }

  void Commit(Batch batch, Durability durability, std::shared_ptr<Chain> chain,
              Done done) override {
    commits_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
  }

  absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) override {
    const std::shared_lock lock(database_mu_);
    if (database_ == nullptr) return health();
    std::string value;
    const rocksdb::Status status = (*database_)
                                       ->Get(rocksdb::ReadOptions(), database_->FamilyOf(table),
                                             rocksdb::Slice(key.data(), key.size()), &value);
    if (status.IsNotFound()) return std::nullopt;
    if (!status.ok()) return FromRocks(status, options_.directory);
    return value;
  }

  absl::Status Scan(Table table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    const std::shared_lock lock(database_mu_);
    if (database_ == nullptr) return health();
    return ScanDatabase(nullptr, table, first, end, visit);
  }

  absl::StatusOr<std::unique_ptr<Snapshot>> TakeSnapshot() override {
    const std::shared_lock lock(database_mu_);
    if (database_ == nullptr) return health();
    return std::make_unique<Moment>(this, opened_, database_->TakeSnapshot());
  }

  absl::Status health() const override {
    const std::lock_guard lock(health_mu_);
    return health_;
  }

 private:
  // A snapshot of the database that was open when it was taken.
  class Moment final : public Snapshot {
   public:
    Moment(RocksStore* store, uint64_t opened, const rocksdb::Snapshot* snapshot)
        : store_(store), opened_(opened), snapshot_(snapshot) {}
    ~Moment() override {
      const std::shared_lock lock(store_->database_mu_);
      if (still_there()) store_->database_->Release(snapshot_);
    }
    absl::Status Scan(Table table, absl::string_view first, absl::string_view end,
                      Visitor visit) override {
      const std::shared_lock lock(store_->database_mu_);
      if (still_there()) return store_->ScanDatabase(snapshot_, table, first, end, visit);
      return absl::UnavailableError("the store was opened anew after a failure of the disk");
    }

   private:
    bool still_there() const { return store_->database_ != nullptr && store_->opened_ == opened_; }

    RocksStore* const store_;
    const uint64_t opened_;
    const rocksdb::Snapshot* const snapshot_;
  };

  // Under database_mu_.
  absl::Status ScanDatabase(const rocksdb::Snapshot* snapshot, Table table, absl::string_view first,
                            absl::string_view end, Visitor visit) {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot;
    const rocksdb::Slice bound(end.data(), end.size());
    if (!end.empty()) options.iterate_upper_bound = &bound;
    options.fill_cache = false;
    const std::unique_ptr<rocksdb::Iterator> it(
        (*database_)->NewIterator(options, database_->FamilyOf(table)));
    for (it->Seek(rocksdb::Slice(first.data(), first.size())); it->Valid(); it->Next()) {
      if (!visit({it->key().data(), it->key().size()}, {it->value().data(), it->value().size()})) {
        break;
      }
    }
    return FromRocks(it->status(), options_.directory);
  }

  absl::Status CheckFormat() {
    const auto format = Get(Table::kMeta, kFormatKey);
    if (!format.ok()) return format.status();
    if (format->has_value()) {
      uint32_t version = 0;
      if (absl::SimpleAtoi(**format, &version) && version <= kFormatVersion) {
        return absl::OkStatus();
      }
      return absl::FailedPreconditionError(
          absl::StrCat(options_.directory, ": was written in format ", **format,
                       ", this server knows formats up to ", kFormatVersion,
                       "; start the version that wrote it, or a later one"));
    }
    rocksdb::WriteOptions sync;
    sync.sync = true;
    return FromRocks((*database_)
                         ->Put(sync, database_->FamilyOf(Table::kMeta), kFormatKey,
                               absl::StrCat(kFormatVersion)),
                     options_.directory);
  }

  // How far the log reaches, which must be as far as was answered.
  absl::Status ReadGroup() {
    const auto group = Get(Table::kMeta, kGroupKey);
    if (!group.ok()) return group.status();
    group_ = 0;
    if (group->has_value() && (*group)->size() == sizeof group_) {
      std::memcpy(&group_, (*group)->data(), sizeof group_);
    }
    if (group_ >= watermark_.value()) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(options_.directory, ": the log ends with group ", group_, ", but group ",
                     watermark_.value(),
                     " had been acknowledged: its end is damaged or missing. Restore a backup, or "
                     "remove the file `acknowledged` to go on without what is lost"));
  }

  void Add(const Batch::Op& op, rocksdb::WriteBatch* group) const {
    rocksdb::ColumnFamilyHandle* const family = database_->FamilyOf(op.table);
    switch (op.kind) {
      case Batch::Kind::kPut:
        group->Put(family, op.key, op.value);
        break;
      case Batch::Kind::kDelete:
        group->Delete(family, op.key);
        break;
      case Batch::Kind::kDeletePrefix:
        // No key is as long as that, and as large.
        group->DeleteRange(
            family, op.key,
            op.key.empty() ? std::string(kMostKeyBytes, '\xff') : EndOfPrefix(op.key));
        break;
    }
  }

  // Called by the writing thread, as is all that follows: nobody else changes database_.
  absl::Status WriteGroup(const std::vector<const Batch*>& batches, bool sync) {
    if (!health().ok() && !Recover()) return health();
    rocksdb::WriteBatch group;
    for (const Batch* batch : batches) {
      for (const Batch::Op& op : batch->ops()) Add(op, &group);
    }
    rocksdb::Status status;
    if (group.Count() == 0) {
      if (sync) status = (*database_)->SyncWAL();
    } else {
      const uint64_t number = group_ + 1;
      group.Put(database_->FamilyOf(Table::kMeta), kGroupKey,
                rocksdb::Slice(reinterpret_cast<const char*>(&number), sizeof number));
      rocksdb::WriteOptions options;
      options.sync = sync;
      status = (*database_)->Write(options, &group);
      if (status.ok()) group_ = number;
    }
    if (status.ok() && sync) watermark_.Raise(group_);
    if (status.ok()) ReclaimDeleted(batches);
    SetHealth(FromRocks(status, options_.directory));
    return health();
  }

  // The rows of a dataset that was deleted: without this its files would stay until something else
  // is written to their table.
  void ReclaimDeleted(const std::vector<const Batch*>& batches) {
    for (const Batch* batch : batches) {
      for (const Batch::Op& op : batch->ops()) {
        if (op.kind == Batch::Kind::kDeletePrefix && op.table == Table::kDatasetRows) {
          reclaimer_->Add(op.table, op.key);
        }
      }
    }
  }
  void Reclaim(Table table, const std::string& prefix, std::atomic<bool>* cancelled) {
    const std::shared_lock lock(database_mu_);
    if (database_ == nullptr) return;
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
    options.canceled = cancelled;
    const std::string end = EndOfPrefix(prefix);
    const rocksdb::Slice first(prefix), last(end);
    // What fails is tried again when RocksDB next compacts.
    (*database_)
        ->CompactRange(options, database_->FamilyOf(table), prefix.empty() ? nullptr : &first,
                       end.empty() ? nullptr : &last)
        .PermitUncheckedError();
  }

  absl::Status SyncOrRecover() {
    if (!health().ok()) {
      Recover();
      return health();
    }
    const rocksdb::Status synced = (*database_)->SyncWAL();
    if (synced.ok()) watermark_.Raise(group_);
    SetHealth(FromRocks(synced, options_.directory));
    return health();
  }

  // Whether the cause of an error is gone. RocksDB resumes after some: it then begins a new log, so
  // that nothing of the group that failed comes back. After others it has to be opened again; then
  // the group that failed may be there after all, as after a crash.
  bool Recover() {
    if (absl::IsDataLoss(health())) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_recovery_) return false;
    recovery_pause_ = std::clamp(2 * recovery_pause_, kFirstPause, kLastPause);
    next_recovery_ = now + recovery_pause_;
    absl::Status status;
    if (database_ == nullptr || !(*database_)->Resume().ok()) status = OpenAnew();
    if (status.ok()) {
      recovery_pause_ = std::chrono::milliseconds(0);
      next_recovery_ = {};
    }
    SetHealth(status);
    return status.ok();
  }

  absl::Status OpenAnew() {
    {
      const Reclaimer::Pause pause(&*reclaimer_);  // which may hold the database for long
      const std::unique_lock lock(database_mu_);
      database_ = nullptr;
      auto opened = Database::Open(options_, cache_);
      if (!opened.ok()) return opened.status();
      database_ = *std::move(opened);
      ++opened_;
    }
    return ReadGroup();
  }

  void SetHealth(const absl::Status& health) {
    {
      const std::lock_guard lock(health_mu_);
      const bool same = health.code() == health_.code();
      health_ = health;
      if (same) return;
    }
    if (options_.on_health) options_.on_health(health);
  }

  const RocksOptions options_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  std::shared_mutex
      database_mu_;  // held, shared, by readers; by the writing thread when it opens anew
  std::unique_ptr<Database> database_;  // null while it cannot be opened
  uint64_t opened_ = 0;                 // how often it was opened anew
  Watermark watermark_;
  uint64_t group_ = 0;  // the last group written
  static constexpr std::chrono::milliseconds kFirstPause{5};
  static constexpr std::chrono::milliseconds kLastPause{500};
  std::chrono::milliseconds recovery_pause_{0};
  std::chrono::steady_clock::time_point next_recovery_;
  mutable std::mutex health_mu_;
  absl::Status health_;  // under health_mu_
  std::optional<Reclaimer> reclaimer_;
  std::optional<GroupCommit> commits_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(const RocksOptions& options) {
  auto cache = rocksdb::NewLRUCache(static_cast<size_t>(options.memory_bytes));
  auto database = Database::Open(options, cache);
  if (!database.ok()) return database.status();
  auto watermark = Watermark::Open(absl::StrCat(options.directory, "/acknowledged"));
  if (!watermark.ok()) return watermark.status();
  auto store = std::make_unique<RocksStore>(options, std::move(cache), *std::move(database),
                                            *std::move(watermark));
  absl::Status begun = store->Begin();
  if (!begun.ok()) return begun;
  return store;
}

}  // namespace backprop::store
