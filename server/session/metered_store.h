// Counts what is stored of each project.
#ifndef BACKPROP_SERVER_SESSION_METERED_STORE_H_
#define BACKPROP_SERVER_SESSION_METERED_STORE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/records/keys.h"
#include "server/records/tables.h"
#include "server/session/projects.h"
#include "server/store/store.h"

namespace backprop::session {

// A store that counts each change against Resource::kStoredBytes of the project to which it
// belongs, when it is committed. What counts:
//   model      its description (key and value); its parameters and optimiser state, once, at their
//              size in memory; keys and values of its logged steps, responses, runs, rows of the
//              active run, and checkpoints
//   dataset    its description (key and value), and the bytes of its rows
// It does not count the remembered creations and deletions, which belong to the server, and what
// RocksDB adds (indexes, old versions until it compacts, its log) or saves (compression).
//
// Descriptions are counted by Open(), which reads all of them. Steps, responses, runs, rows and
// checkpoints that were stored before are counted by a thread of this object, from a snapshot:
// until it has finished the use is too low. A change of such a record during this time is not
// counted twice.
//
// Thread-safe. Sessions may be destroyed before or after it; the store and the projects must
// outlive it, and it must outlive callers that wait for Commit().
class MeteredStore final : public store::Store {
 public:
  // `on_warning` is called if stored records cannot be counted; it may be empty.
  MeteredStore(store::Store* store, Projects* projects,
               std::function<void(const std::string&)> on_warning);
  ~MeteredStore() override;

  // Counts what the store holds. Call once, before the first commit.
  absl::Status Open();
  // Whether all that was stored before Open() is counted.
  bool complete() const { return complete_.load(); }

  void Commit(store::WriteBatch batch, store::Durability durability,
              std::shared_ptr<store::Chain> chain, Done done) override;
  absl::StatusOr<std::optional<std::string>> Get(const store::Table& table,
                                                 absl::string_view key) override {
    return store_->Get(table, key);
  }
  absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    return store_->Scan(table, first, end, visit);
  }
  absl::StatusOr<std::unique_ptr<store::Snapshot>> TakeSnapshot() override {
    return store_->TakeSnapshot();
  }
  absl::Status health() const override { return store_->health(); }
  absl::Status CheckRoom(int64_t bytes) const override { return store_->CheckRoom(bytes); }
  const store::StoreStats* stats() const override { return store_->stats(); }
  store::DiskUse disk_use() const override { return store_->disk_use(); }

 private:
  // What one operation of a batch changes.
  struct Effect {
    enum class Kind {
      kOwner,  // a description was written: `project`, and `bytes` of the description and values
      kOwnerEnds,  // a model or dataset was deleted
      kAllEnd,     // everything was deleted
      kPut,
      kDelete,
      kDeletePrefix  // the rows of a run, or everything of a model in `table`
    };
    Kind kind;
    records::Uid uid = 0;
    uint8_t table = 0;      // its number
    std::string part = {};  // the key without the uid
    int64_t bytes = 0;      // of key and value
    Project* project = nullptr;
  };

  // What is stored of one model or dataset.
  struct Owner {
    Project* project = nullptr;
    int64_t bytes = 0;         // all
    int64_t description = 0;   // and values, or the rows of a dataset
    int64_t steps = 0;         // logged; they are deleted together
    bool steps_ended = false;  // since Open(): those of the snapshot are gone
    // Sizes by the place in the ring; they are not kept where the ring is not used.
    std::vector<uint32_t> responses;
    // Sizes of other records, by table and part of the key; 0: deleted before Open() had seen it.
    std::unique_ptr<absl::flat_hash_map<std::string, uint32_t>> records;
  };

  // Null if the operation does not concern a project.
  std::optional<Effect> EffectOf(const store::WriteBatch::Op& op) const;
  std::optional<Effect> DescriptionEffect(const store::WriteBatch::Op& op) const;
  void Apply(const std::vector<Effect>& effects);
  void ApplyTo(Owner* owner, const Effect& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetRecord(Owner* owner, const Effect& effect, uint32_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EraseRecords(Owner* owner, const Effect& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void Add(Owner* owner, int64_t bytes);
  void End(Owner* owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Body of the counting thread.
  void CountSnapshot();
  absl::Status CountTable(const store::Table& table);
  absl::Status CountCheckpoints();
  // A record of the snapshot. Does nothing if it was changed since.
  void Found(const Effect& effect);

  store::Store* const store_;
  Projects* const projects_;
  const std::function<void(const std::string&)> on_warning_;
  std::unique_ptr<store::Snapshot> snapshot_;  // used by the thread
  std::atomic<bool> complete_{false};
  std::atomic<bool> stop_{false};
  base::Mutex mu_;
  absl::flat_hash_map<records::Uid, Owner> owners_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last, because it uses the other members
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_METERED_STORE_H_
