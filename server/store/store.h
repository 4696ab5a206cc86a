// The interface of a store: tables of records, changed in atomic batches.
#ifndef BACKPROP_SERVER_STORE_STORE_H_
#define BACKPROP_SERVER_STORE_STORE_H_

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "server/store/store_stats.h"

namespace backprop::store {

// A table of a store. Tables are constants of the program: batches refer to them. Number and name
// are part of the format of data directories, and the number of backups; the traits are not.
struct Table {
  uint8_t number = 0;  // 0: kMeta
  const char* name = "";
  bool compresses = true;     // whether compression makes the values smaller
  bool large_values = false;  // values of 4 KiB and more are kept where compaction does not rewrite
                              // them
  // The disk space of a deleted prefix is reclaimed at once, instead of when RocksDB next compacts
  // the table.
  bool reclaims_prefixes = false;
  // Its records may be added by a batch that otherwise only deletes, so also on a full disk.
  bool accompanies_deletions = false;
};

// The table of records about the store itself.
inline constexpr Table kMeta{.number = 0, .name = "default"};

// Key in kMeta of the format version of the store, in decimal digits.
inline constexpr char kFormatKey[] = "format";

// What a store on disk holds. Its tables, besides kMeta, have the numbers 1, 2, … in this order.
struct Schema {
  uint32_t format_version = 0;  // a directory of a later version is refused
  std::span<const Table* const> tables;
};

// An atomic set of changes: all are applied or none. Thread-compatible.
class WriteBatch {
 public:
  enum class Kind { kPut, kDelete, kDeletePrefix };
  struct Op {
    Kind kind;
    const Table* table;
    std::string key;
    std::string value;
  };

  void Put(const Table& table, std::string key, std::string value) {
    bytes_ += key.size() + value.size();
    ops_.push_back({Kind::kPut, &table, std::move(key), std::move(value)});
  }
  void Delete(const Table& table, std::string key) {
    bytes_ += key.size();
    ops_.push_back({Kind::kDelete, &table, std::move(key), {}});
  }
  // Deletes every key that starts with `prefix`; if it is empty, the whole table.
  void DeletePrefix(const Table& table, std::string prefix) {
    bytes_ += prefix.size();
    ops_.push_back({Kind::kDeletePrefix, &table, std::move(prefix), {}});
  }

  const std::vector<Op>& ops() const { return ops_; }
  size_t bytes() const { return bytes_; }
  // Whether the batch only deletes records and adds at most records of tables that accompany
  // deletions. Such batches are written on a full disk too.
  bool OnlyFrees() const {
    for (const Op& op : ops_) {
      if (op.kind == Kind::kPut && !op.table->accompanies_deletions) return false;
    }
    return true;
  }

 private:
  std::vector<Op> ops_;
  size_t bytes_ = 0;
};

// The durability with which a batch counts as committed.
enum class Durability {
  kSync,         // synced to disk: survives a crash of the machine
  kEverySecond,  // passed to the operating system and synced within about a second
  kNone          // passed to the operating system: survives a crash of the process
};

// A sequence of batches none of which may be stored without the earlier ones. If one is not stored,
// all later ones fail. Thread-safe.
class Chain {
 public:
  bool broken() const { return broken_.load(std::memory_order_acquire); }
  void Break() { broken_.store(true, std::memory_order_release); }

 private:
  std::atomic<bool> broken_{false};
};

// The contents of a store at one moment. Thread-compatible; must not outlive the store. Errors:
// UNAVAILABLE if the store was reopened after the snapshot was taken; DATA_LOSS.
class Snapshot {
 public:
  using Visitor = absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>;
  virtual ~Snapshot() = default;
  // Like Store::Scan().
  virtual absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                            Visitor visit) = 0;
};

// A status payload of this type holds the reason of a store's error, if there is one.
inline constexpr char kReasonType[] = "backprop/store_reason";
// The data directory or one of its files was removed, moved or replaced while the store was open.
inline constexpr char kDirectoryGone[] = "DATA_DIRECTORY_GONE";
// Less disk space is free than bulk data must leave.
inline constexpr char kLowDiskSpace[] = "LOW_DISK_SPACE";

inline bool HasReason(const absl::Status& status, absl::string_view reason) {
  const auto payload = status.GetPayload(kReasonType);
  return payload.has_value() && *payload == reason;
}

// A store of records. Thread-safe. Errors: UNAVAILABLE if the disk fails or is read-only,
// RESOURCE_EXHAUSTED if it is full, DATA_LOSS for damaged records. Messages say what to do.
class Store {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  // Returns whether to continue. Keys and values are valid during the call only.
  using Visitor = Snapshot::Visitor;

  virtual ~Store() = default;

  // Applies `batch` after all batches passed before it, and calls `done` when it is as durable
  // as requested or was not applied. `done` is called once, in the order of the calls, on a
  // thread of the store and never within Commit(); it must not block. If the batch is empty, `done`
  // means that all earlier batches are committed. `chain` may be null.
  virtual void Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
                      Done done) = 0;

  // Returns the value of a key, or nothing if there is no such key. Sees every batch whose `done`
  // was called with OK.
  virtual absl::StatusOr<std::optional<std::string>> Get(const Table& table,
                                                         absl::string_view key) = 0;

  // Visits the keys in [first, end) in byte order; an empty `end` means no bound.
  virtual absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                            Visitor visit) = 0;

  // Returns a snapshot of whole batches, at least all whose `done` was called with OK.
  virtual absl::StatusOr<std::unique_ptr<Snapshot>> TakeSnapshot() = 0;

  // OK while batches can be committed, otherwise the reason. On a full disk, batches for which
  // WriteBatch::OnlyFrees() holds are still committed if the store has a reserve for them.
  virtual absl::Status health() const = 0;

  // Whether `bytes` of bulk data (rows of datasets, imports, backups) may be added:
  // RESOURCE_EXHAUSTED with the reason kLowDiskSpace if too little disk space would be left. An OK
  // does not mean that a commit will succeed.
  virtual absl::Status CheckRoom(int64_t /*bytes*/) const { return absl::OkStatus(); }

  // What was written since the store was opened; null for a store in memory.
  virtual const StoreStats* stats() const { return nullptr; }
  // Reads directories, so it may take milliseconds.
  virtual DiskUse disk_use() const { return {}; }
};

// Blocks until `done` was called for all batches passed to Commit before. Objects that `done` uses
// must exist until then.
inline void WaitForAnswers(Store* store) {
  const auto answered = std::make_shared<std::promise<void>>();
  store->Commit({}, Durability::kNone, nullptr,
                [answered](const absl::Status&) { answered->set_value(); });
  answered->get_future().wait();
}

// Returns the first key after all keys that start with `prefix`; empty if there is none.
inline std::string EndOfPrefix(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty()) {
    if (static_cast<unsigned char>(end.back()) < 0xff) {
      end.back() = static_cast<char>(end.back() + 1);
      return end;
    }
    end.pop_back();
  }
  return end;
}

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_STORE_H_
