#include "server/store/rocks_store.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/store/data_directory.h"
#include "server/store/disk_space.h"
#include "server/store/group_commit.h"
#include "server/store/reclaimer.h"
#include "server/store/rocks_database.h"
#include "server/store/rocks_status.h"
#include "server/store/watermark.h"

namespace backprop::store {
namespace {

constexpr size_t kMostKeyBytes = 128;
constexpr char kGroupKey[] = "group";
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kMinFreeFiles = 64;  // inodes that bulk data must leave free
// Interval of the checks of the directory, in addition to the check after each group.
constexpr absl::Duration kWatchInterval = absl::Milliseconds(500);

int64_t BySize(int64_t asked, int64_t capacity, int64_t least, int64_t most) {
  return asked != kBySize ? asked : std::clamp(capacity / 16, least, most);
}

class RocksStore final : public Store {
 public:
  RocksStore(const RocksOptions& options, std::unique_ptr<DataDirectory> directory,
             const DiskSpace& space)
      : options_(options),
        capacity_bytes_(space.capacity_bytes),
        min_free_bytes_(BySize(options.min_free_bytes, capacity_bytes_, kMiB, 1024 * kMiB)),
        directory_(std::move(directory)),
        reserve_(directory_->fd(), BySize(options.reserve_bytes, capacity_bytes_, kMiB, 32 * kMiB)),
        files_(std::make_shared<LogWatchingFileSystem>(
            (options.env != nullptr ? options.env : rocksdb::Env::Default())->GetFileSystem(),
            &stats_.syncs)),
        env_(rocksdb::NewCompositeEnv(files_)),
        cache_(rocksdb::NewLRUCache(static_cast<size_t>(options.memory_bytes))) {}

  ~RocksStore() override {
    {
      const base::MutexLock lock(&watch_mu_);
      watch_stops_ = true;
    }
    watch_changed_.NotifyAll();
    if (watch_.joinable()) watch_.join();
    Unthrottle();
    commits_.reset();
    Unthrottle();  // the writer thread may have opened another database while it recovered
    reclaimer_.reset();
    // So that the next start finds tables and an empty log.
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ != nullptr && health().ok()) {
      (*database_)->Flush(rocksdb::FlushOptions(), database_->families()).PermitUncheckedError();
    }
  }

  absl::Status Begin() {
    absl::Status opened = OpenFirst();
    if (writers_database() == nullptr) return opened;
    auto watermark = Watermark::Open(absl::StrCat(options_.directory, "/acknowledged"));
    if (!watermark.ok()) return watermark.status();
    watermark_.emplace(*std::move(watermark));
    absl::Status checked = CheckFormat();
    // If the store cannot be written, that is the reason why the format is missing.
    if (!checked.ok()) return opened.ok() ? checked : opened;
    absl::Status reached = ReadGroup();
    if (!reached.ok()) return reached;
    reclaimer_.emplace([this](const Table* table, const std::string& prefix,
                              std::atomic<bool>* cancelled) { Reclaim(table, prefix, cancelled); });
    begun_ = true;
    commits_.emplace([this](const auto& batches, bool sync) { return WriteGroup(batches, sync); },
                     [this] { return SyncOrRecover(); },
                     [this](const WriteBatch& batch) { return Admit(batch); }, &stats_);
    if (!opened.ok()) {
      SetHealth(opened);
      commits_->Mend();
    }
    watch_ = std::thread([this] { Watch(); });
    return absl::OkStatus();
  }

  void Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
              Done done) override {
    commits_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
  }

  absl::StatusOr<std::optional<std::string>> Get(const Table& table,
                                                 absl::string_view key) override {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ == nullptr) return health();
    std::string value;
    const rocksdb::Status status = (*database_)
                                       ->Get(rocksdb::ReadOptions(), database_->FamilyOf(table),
                                             rocksdb::Slice(key.data(), key.size()), &value);
    if (status.IsNotFound()) return std::nullopt;
    if (!status.ok()) return FromRocks(status, options_.directory);
    return value;
  }

  absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ == nullptr) return health();
    return ScanDatabase(nullptr, table, first, end, visit);
  }

  absl::StatusOr<std::unique_ptr<Snapshot>> TakeSnapshot() override {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ == nullptr) return health();
    return std::make_unique<Moment>(this, opened_, database_->TakeSnapshot());
  }

  absl::Status health() const override {
    const base::MutexLock lock(&health_mu_);
    return health_;
  }

  absl::Status CheckRoom(int64_t bytes) const override {
    const absl::Status now = health();
    if (!now.ok() && !absl::IsResourceExhausted(now)) return absl::OkStatus();  // refused anyway
    const auto space = SpaceOf(directory_->fd());
    if (!space.ok()) return absl::OkStatus();
    // Memtables are written once more before their log is deleted.
    const int64_t free = std::max(space->free_bytes - unflushed_bytes(), int64_t{0});
    const bool few_files = space->most_files > 0 && space->free_files < kMinFreeFiles;
    if (now.ok() && free - bytes >= min_free_bytes_ && !few_files) return absl::OkStatus();
    absl::Status low = absl::ResourceExhaustedError(
        few_files
            ? absl::StrCat(options_.directory, ": the disk has room for ", space->free_files,
                           " more files; uploads, imports and restores require ", kMinFreeFiles)
            : absl::StrCat(options_.directory, ": ", free, " bytes of the disk are free, ", bytes,
                           " bytes are required; uploads, imports and restores must leave ",
                           min_free_bytes_,
                           " bytes free (--min-free-bytes); delete data or enlarge the disk"));
    low.SetPayload(kReasonType, absl::Cord(kLowDiskSpace));
    return low;
  }

  const StoreStats* stats() const override { return &stats_; }

  DiskUse disk_use() const override {
    DiskUse use;
    use.log = directory_->LogBytes();
    const auto space = SpaceOf(directory_->fd());
    use.free = space.ok() ? space->free_bytes : -1;
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ != nullptr) use.tables = database_->TableBytes();
    return use;
  }

 private:
  // A snapshot of the database that was open when it was taken.
  class Moment final : public Snapshot {
   public:
    Moment(RocksStore* store, uint64_t opened, const rocksdb::Snapshot* snapshot)
        : store_(store), opened_(opened), snapshot_(snapshot) {}
    ~Moment() override {
      const base::ReaderMutexLock lock(&store_->database_mu_);
      if (still_there()) store_->database_->Release(snapshot_);
    }
    absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                      Visitor visit) override {
      const base::ReaderMutexLock lock(&store_->database_mu_);
      if (still_there()) return store_->ScanDatabase(snapshot_, table, first, end, visit);
      return absl::UnavailableError("the store was reopened after a disk failure");
    }

   private:
    bool still_there() const ABSL_SHARED_LOCKS_REQUIRED(store_->database_mu_) {
      return store_->database_ != nullptr && store_->opened_ == opened_;
    }

    RocksStore* const store_;
    const uint64_t opened_;
    const rocksdb::Snapshot* const snapshot_;
  };

  void Unthrottle() {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ != nullptr) database_->Unthrottle();
  }

  int64_t unflushed_bytes() const {
    const base::ReaderMutexLock lock(&database_mu_);
    return database_ == nullptr ? 0 : database_->UnflushedBytes();
  }

  // The database, for the writer thread and for Begin(): only they change it, and they read it
  // without the lock.
  Database* writers_database() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return database_.get(); }

  absl::Status ScanDatabase(const rocksdb::Snapshot* snapshot, const Table& table,
                            absl::string_view first, absl::string_view end, Visitor visit)
      ABSL_SHARED_LOCKS_REQUIRED(database_mu_) {
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
    const auto format = Get(kMeta, kFormatKey);
    if (!format.ok()) return format.status();
    if (format->has_value()) {
      uint32_t version = 0;
      if (absl::SimpleAtoi(**format, &version) && version <= options_.schema.format_version) {
        return absl::OkStatus();
      }
      return absl::FailedPreconditionError(
          absl::StrCat(options_.directory, ": is in format ", **format,
                       ", but this server supports formats up to ", options_.schema.format_version,
                       "; use the version that wrote it or a later one"));
    }
    Database& database = *writers_database();
    if (database.access() == Access::kReadOnly) {
      return absl::UnavailableError(absl::StrCat(options_.directory, ": contains no store"));
    }
    rocksdb::WriteOptions sync;
    sync.sync = true;
    return FromRocks(database->Put(sync, database.FamilyOf(kMeta), kFormatKey,
                                   absl::StrCat(options_.schema.format_version)),
                     options_.directory);
  }

  // Reads the last group in the log, which must not be older than the last acknowledged group.
  absl::Status ReadGroup() {
    const auto group = Get(kMeta, kGroupKey);
    if (!group.ok()) return group.status();
    group_ = 0;
    if (group->has_value() && (*group)->size() == sizeof group_) {
      std::memcpy(&group_, (*group)->data(), sizeof group_);
    }
    if (group_ >= watermark_->value()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        options_.directory, ": the log ends with group ", group_, ", but group ",
        watermark_->value(),
        " was acknowledged; its end is damaged or missing. Restore a backup, or remove "
        "the file `acknowledged` to continue without the lost changes"));
  }

  void Add(const WriteBatch::Op& op, rocksdb::WriteBatch* group) const {
    rocksdb::ColumnFamilyHandle* const family = writers_database()->FamilyOf(*op.table);
    switch (op.kind) {
      case WriteBatch::Kind::kPut:
        group->Put(family, op.key, op.value);
        break;
      case WriteBatch::Kind::kDelete:
        group->Delete(family, op.key);
        break;
      case WriteBatch::Kind::kDeletePrefix:
        // This upper bound is above every key.
        group->DeleteRange(
            family, op.key,
            op.key.empty() ? std::string(kMostKeyBytes, '\xff') : EndOfPrefix(op.key));
        break;
    }
  }

  // This function and all following ones up to Watch() are called by the writer thread only, and
  // only it changes database_.
  absl::Status Admit(const WriteBatch& batch) {
    if (health().ok() || Recover() || TakesDeletions(batch)) return absl::OkStatus();
    return health();
  }

  // Whether the batch frees space and can be written although the disk is full.
  bool TakesDeletions(const WriteBatch& batch) const {
    const Database* const database = writers_database();
    return database != nullptr && database->access() == Access::kLogOnly && batch.OnlyFrees() &&
           absl::IsResourceExhausted(health());
  }

  absl::Status WriteGroup(const std::vector<const WriteBatch*>& batches, bool sync) {
    // Recover() for a later batch of the group may have closed the database after an earlier one
    // was admitted.
    if (writers_database() == nullptr) return health();
    Database& database = *writers_database();
    rocksdb::WriteBatch group;
    for (const WriteBatch* batch : batches) {
      for (const WriteBatch::Op& op : batch->ops()) Add(op, &group);
    }
    rocksdb::Status status;
    if (group.Count() == 0) {
      if (sync) status = database->SyncWAL();
    } else {
      const uint64_t number = group_ + 1;
      group.Put(database.FamilyOf(kMeta), kGroupKey,
                rocksdb::Slice(reinterpret_cast<const char*>(&number), sizeof number));
      rocksdb::WriteOptions options;
      options.sync = sync;
      status = database->Write(options, &group);
      if (status.ok()) group_ = number;
    }
    if (!status.ok()) {
      failed_ = true;
      SetHealth(FromRocks(status, options_.directory));
      Recover();
      return FromRocks(status, options_.directory);
    }
    // After the sync, so that acknowledged records were in the directory when they reached the
    // disk.
    if (absl::Status there = CheckDirectory(); !there.ok()) {
      SetHealth(there);
      return there;
    }
    if (sync) watermark_->Raise(group_);
    ReclaimDeleted(batches);
    return absl::OkStatus();
  }

  // Costs three system calls, and one for each further log.
  absl::Status CheckDirectory() const {
    absl::Status there = directory_->Check();
    if (!there.ok() || files_->LogsHaveNames()) return there;
    return directory_->Gone("the log in the data directory was removed");
  }

  // Reclaims deleted prefixes of tables for which that is required; otherwise their files would
  // remain until something else is written to the table. If space is low, reclaims everything that
  // was deleted.
  void ReclaimDeleted(const std::vector<const WriteBatch*>& batches) {
    bool deletes = false;
    for (const WriteBatch* batch : batches) {
      deletes = deletes || (!batch->ops().empty() && batch->OnlyFrees());
      for (const WriteBatch::Op& op : batch->ops()) {
        if (op.kind == WriteBatch::Kind::kDeletePrefix && op.table->reclaims_prefixes) {
          reclaimer_->Add(op.table, op.key);
        }
      }
    }
    if (deletes && !CheckRoom(0).ok()) reclaimer_->Add(nullptr, "");
  }
  void Reclaim(const Table* table, const std::string& prefix, std::atomic<bool>* cancelled) {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ == nullptr) return;
    if (table != nullptr) return database_->Reclaim(*table, prefix, cancelled);
    database_->ReclaimAll(cancelled);
  }

  absl::Status SyncOrRecover() {
    if (!health().ok()) {
      Recover();
      return health();
    }
    const rocksdb::Status synced = (*writers_database())->SyncWAL();
    absl::Status status = synced.ok() ? CheckDirectory() : FromRocks(synced, options_.directory);
    failed_ = failed_ || !synced.ok();
    if (status.ok()) watermark_->Raise(group_);
    if (!status.ok()) SetHealth(status);
    return status;
  }

  // Attempts to recover; returns whether the cause of the error is gone. After some errors RocksDB
  // resumes and starts a new log, so that nothing of the failed group reappears. After others the
  // database must be reopened; then the failed group may be there after all, as after a crash.
  bool Recover() {
    const absl::Status cause = health();
    if (absl::IsDataLoss(cause)) return false;
    const auto now = std::chrono::steady_clock::now();
    const Database* const database = writers_database();
    const bool full = database != nullptr && absl::IsResourceExhausted(cause);
    const Access access = database != nullptr ? database->access() : Access::kFull;
    // Deletions do not wait for the next attempt.
    const bool urgent = full && failed_ && access != Access::kReadOnly;
    if (now < next_recovery_ && !urgent) return false;
    recovery_pause_ = std::clamp(2 * recovery_pause_, kFirstPause, kLastPause);
    next_recovery_ = now + recovery_pause_;
    absl::Status status = CheckDirectory();
    if (status.ok() && HasReason(cause, kDirectoryGone)) status = CheckLiveFiles();
    if (!status.ok()) {
      SetHealth(status);
      return false;
    }
    if (full || access != Access::kFull) {
      // When opened with kFull, RocksDB writes the contents of its logs to tables.
      const int64_t margin = directory_->LogBytes() + std::max(kMiB, reserve_.bytes());
      if (!reserve_.Fill(margin)) {
        if (failed_ && access != Access::kReadOnly) OpenForDeletions(cause);
        return false;
      }
    }
    const bool resumed =
        database != nullptr && access == Access::kFull && (*database)->Resume().ok();
    if (!resumed) status = OpenAnew();
    if (status.ok()) {
      failed_ = false;
      recovery_pause_ = std::chrono::milliseconds(0);
      next_recovery_ = {};
    }
    SetHealth(status);
    return status.ok();
  }

  // Opens the database and the reserve when the store starts. Returns the reason if the store
  // cannot be written.
  absl::Status OpenFirst() {
    const base::WriterMutexLock lock(&database_mu_);
    absl::Status opened = OpenBest();
    if (!opened.ok() || reserve_.Fill(0)) return opened;
    // The remaining space is kept for deletions and for the next start.
    database_ = nullptr;
    if (!OpenLogOnly().ok()) Open(Access::kReadOnly).IgnoreError();
    return absl::ResourceExhaustedError(absl::StrCat(
        options_.directory,
        ": the disk is full; changes are rejected until there is room for the reserve of ",
        reserve_.bytes(), " bytes"));
  }
  // Opens the database with the most access possible. Returns the reason if that is not kFull.
  absl::Status OpenBest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(database_mu_) {
    absl::Status status = Open(Access::kFull);
    const bool full = absl::IsResourceExhausted(status);
    if (status.ok() || (!full && !absl::IsUnavailable(status))) return status;
    if (full) OpenLogOnly().IgnoreError();
    if (database_ == nullptr) Open(Access::kReadOnly).IgnoreError();
    return status;
  }
  absl::Status OpenLogOnly() ABSL_EXCLUSIVE_LOCKS_REQUIRED(database_mu_) {
    reserve_.Release();
    return Open(Access::kLogOnly);
  }
  absl::Status Open(Access access) ABSL_EXCLUSIVE_LOCKS_REQUIRED(database_mu_) {
    RocksOptions options = options_;
    options.create = options_.create && !begun_;
    auto opened = Database::Open(options, env_.get(), cache_, capacity_bytes_, access);
    if (!opened.ok()) return opened.status();
    database_ = *std::move(opened);
    ++opened_;
    return absl::OkStatus();
  }

  // Closes the database and opens another one with `open`, which is called with database_mu_ held.
  absl::Status OpenInstead(absl::FunctionRef<absl::Status()> open) {
    absl::Status status;
    {
      const Reclaimer::Pause pause(&*reclaimer_);  // the reclaimer may use the database for long
      const base::WriterMutexLock lock(&database_mu_);
      database_ = nullptr;
      files_->Forget();
      status = open();
    }
    if (writers_database() == nullptr) return status;
    absl::Status reached = ReadGroup();
    return reached.ok() ? status : reached;
  }
  absl::Status OpenAnew() {
    return OpenInstead([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(database_mu_) { return OpenBest(); });
  }
  // Opens the database for deletions on a full disk.
  void OpenForDeletions(const absl::Status& cause) {
    const absl::Status status = OpenInstead([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(database_mu_) {
      absl::Status opened = OpenLogOnly();
      return opened.ok() ? opened : Open(Access::kReadOnly);
    });
    failed_ = false;
    SetHealth(status.ok() ? cause : status);
  }

  void SetHealth(const absl::Status& health) {
    {
      const base::MutexLock lock(&health_mu_);
      const bool same = health.code() == health_.code() &&
                        HasReason(health, kDirectoryGone) == HasReason(health_, kDirectoryGone);
      health_ = health;
      if (same) return;
    }
    if (options_.on_health) options_.on_health(health);
  }

  // Body of the watching thread: detects removed files while nothing is written, and restores the
  // reserve.
  void Watch() {
    while (!WatchStops()) LookAround();
  }
  // Waits for the next check of the watching thread; returns whether the thread must end.
  bool WatchStops() {
    const base::MutexLock lock(&watch_mu_);
    return watch_changed_.WaitFor(
        &watch_mu_, kWatchInterval,
        [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_mu_) { return watch_stops_; });
  }
  void LookAround() {
    if (!health().ok()) return;  // the writer thread is recovering
    absl::Status there = CheckDirectory();
    if (there.ok()) there = CheckLiveFiles();
    if (there.ok()) {
      if (!reserve_.held()) reserve_.Fill(std::max(kMiB, reserve_.bytes()));
      return;
    }
    SetHealth(there);
    commits_->Mend();
  }

  // Thread-safe.
  absl::Status CheckLiveFiles() const {
    const base::ReaderMutexLock lock(&database_mu_);
    if (database_ == nullptr) return absl::OkStatus();
    absl::Status missing;
    for (const std::string& file : database_->LiveFiles()) {
      missing = directory_->CheckFile(file);
      if (!missing.ok()) break;
    }
    if (missing.ok()) return missing;
    // RocksDB may have replaced the file meanwhile.
    for (const std::string& file : database_->LiveFiles()) {
      missing = directory_->CheckFile(file);
      if (!missing.ok()) return missing;
    }
    return absl::OkStatus();
  }

  const RocksOptions options_;
  const int64_t capacity_bytes_;
  const int64_t min_free_bytes_;
  const std::unique_ptr<DataDirectory> directory_;
  Reserve reserve_;
  StoreStats stats_;
  const std::shared_ptr<LogWatchingFileSystem> files_;
  const std::unique_ptr<rocksdb::Env> env_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  // Readers hold it shared; the writer thread holds it exclusively to reopen the database.
  mutable base::SharedMutex database_mu_;
  // Null while it cannot be opened.
  std::unique_ptr<Database> database_ ABSL_GUARDED_BY(database_mu_);
  uint64_t opened_ ABSL_GUARDED_BY(database_mu_) = 0;  // number of times it was opened
  // Used by the writer thread, and by Begin() before that thread exists.
  bool begun_ = false;   // Begin() has opened the store, so it exists
  bool failed_ = false;  // a write of the database failed since it was opened
  std::optional<Watermark> watermark_;
  uint64_t group_ = 0;  // the last group written
  static constexpr std::chrono::milliseconds kFirstPause{5};
  static constexpr std::chrono::milliseconds kLastPause{500};
  std::chrono::milliseconds recovery_pause_{0};
  std::chrono::steady_clock::time_point next_recovery_;
  mutable base::Mutex health_mu_;
  absl::Status health_ ABSL_GUARDED_BY(health_mu_);
  std::optional<Reclaimer> reclaimer_;
  std::optional<GroupCommit> commits_;
  base::Mutex watch_mu_;
  base::CondVar watch_changed_;
  bool watch_stops_ ABSL_GUARDED_BY(watch_mu_) = false;
  std::thread watch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(const RocksOptions& options) {
  auto directory = DataDirectory::Open(options.directory, options.create);
  if (!directory.ok()) return directory.status();
  const auto space = SpaceOf((*directory)->fd());
  if (!space.ok()) return space.status();
  auto store = std::make_unique<RocksStore>(options, *std::move(directory), *space);
  absl::Status begun = store->Begin();
  if (!begun.ok()) return begun;
  return store;
}

}  // namespace backprop::store
