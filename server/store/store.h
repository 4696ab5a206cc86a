// Where models are kept when the process ends: tables of records, changed in batches.
#ifndef BACKPROP_SERVER_STORE_STORE_H_
#define BACKPROP_SERVER_STORE_STORE_H_

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace backprop::store {

// docs/durability.md says what each one holds. Numbers are part of the format.
enum class Table : uint8_t {
  kMeta = 0,      // about the store itself
  kModels = 1,    // what each model is, by id
  kStates = 2,    // the numbers of each model
  kRequests = 3,  // answers that a retry can still get
  kLog = 4,       // batches to replay
  kRuns = 5,      // runs under way, and the latest of each model
  kChunks = 6,    // rows of runs, in pieces
  kCheckpoints = 7,
  kDatasets = 8,    // what each dataset is, by id
  kDatasetRows = 9  // their rows, in pieces
};
inline constexpr int kTables = 10;

// Changes that are made together or not at all.
class Batch {
 public:
  enum class Kind { kPut, kDelete, kDeletePrefix };
  struct Op {
    Kind kind;
    Table table;
    std::string key;
    std::string value;
  };

  void Put(Table table, std::string key, std::string value) {
    bytes_ += key.size() + value.size();
    ops_.push_back({Kind::kPut, table, std::move(key), std::move(value)});
  }
  void Delete(Table table, std::string key) {
    bytes_ += key.size();
    ops_.push_back({Kind::kDelete, table, std::move(key), {}});
  }
  // Every key that starts with `prefix`; with an empty one all of the table.
  void DeletePrefix(Table table, std::string prefix) {
    bytes_ += prefix.size();
    ops_.push_back({Kind::kDeletePrefix, table, std::move(prefix), {}});
  }

  const std::vector<Op>& ops() const { return ops_; }
  size_t bytes() const { return bytes_; }
  // Whether it deletes, and adds nothing but the answers to the requests that asked for it: such
  // batches are written on a full disk too.
  bool OnlyFrees() const {
    for (const Op& op : ops_) {
      if (op.kind == Kind::kPut && op.table != Table::kRequests) return false;
    }
    return true;
  }

 private:
  std::vector<Op> ops_;
  size_t bytes_ = 0;
};

// When a batch counts as committed.
enum class Durability {
  kSync,         // on disk: it survives a crash of the machine
  kEverySecond,  // with the system, which brings it to disk within a second or so
  kNone          // with the system: it survives a crash of the process
};

// Batches of which none may be kept without those before it. When one is not, no later one is.
// Thread-safe.
class Chain {
 public:
  bool broken() const { return broken_.load(std::memory_order_acquire); }
  void Break() { broken_.store(true, std::memory_order_release); }

 private:
  std::atomic<bool> broken_{false};
};

// What a store held at one moment. Thread-compatible; must not outlive its store. Errors:
// UNAVAILABLE once the store had to be opened anew; DATA_LOSS.
class Snapshot {
 public:
  using Visitor = absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>;
  virtual ~Snapshot() = default;
  // As Store::Scan.
  virtual absl::Status Scan(Table table, absl::string_view first, absl::string_view end,
                            Visitor visit) = 0;
};

// Errors of a store carry a reason of their own, where there is one, as a payload of this type.
inline constexpr char kReasonType[] = "backprop/store_reason";
// The directory, or a file of it, was removed, moved or replaced while the store was open.
inline constexpr char kDirectoryGone[] = "DATA_DIRECTORY_GONE";
// Less of the disk is free than bulk data must leave.
inline constexpr char kLowDiskSpace[] = "LOW_DISK_SPACE";

inline bool HasReason(const absl::Status& status, absl::string_view reason) {
  const auto payload = status.GetPayload(kReasonType);
  return payload.has_value() && *payload == reason;
}

// Thread-safe. Errors: UNAVAILABLE when the disk fails or is read-only, RESOURCE_EXHAUSTED when it
// is full, DATA_LOSS for records that are damaged; messages name what to do.
class Store {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  // Returns whether to go on.
  using Visitor = Snapshot::Visitor;

  virtual ~Store() = default;

  // Applies `batch` after all that was committed before it, and calls `done` when it is as durable
  // as asked, or was not applied. `done` is called once, from a thread of the store, never from
  // within Commit, in the order of the commits, and must not block. A batch may be empty: then
  // `done` says that all before it are committed. `chain` may be null.
  virtual void Commit(Batch batch, Durability durability, std::shared_ptr<Chain> chain,
                      Done done) = 0;

  // Sees every batch whose `done` was called with OK. Nothing if there is no such key.
  virtual absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) = 0;

  // Visits the keys in [first, end), by their bytes; an empty `end` means no bound.
  virtual absl::Status Scan(Table table, absl::string_view first, absl::string_view end,
                            Visitor visit) = 0;

  // Whole batches, at least all whose `done` was called with OK.
  virtual absl::StatusOr<std::unique_ptr<Snapshot>> TakeSnapshot() = 0;

  // OK while batches can be committed, else why not. On a full disk batches for which
  // Batch::OnlyFrees holds are still committed where the store has kept a reserve for them.
  virtual absl::Status health() const = 0;

  // Whether bulk data (rows of datasets, imports, backups) of so many bytes may be added:
  // RESOURCE_EXHAUSTED with the reason kLowDiskSpace if too little of the disk would be left. Does
  // not say whether a commit will succeed.
  virtual absl::Status CheckRoom(int64_t /*bytes*/) const { return absl::OkStatus(); }
};

// Returns when everything that was committed before has been answered. Whoever is told by `done`
// must live until then.
inline void WaitForAnswers(Store* store) {
  const auto answered = std::make_shared<std::promise<void>>();
  store->Commit({}, Durability::kNone, nullptr,
                [answered](const absl::Status&) { answered->set_value(); });
  answered->get_future().wait();
}

// The first key after all that start with `prefix`; empty if there is none.
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
