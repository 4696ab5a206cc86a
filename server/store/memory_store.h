// A store in memory. Its contents are lost when the process ends.
#ifndef BACKPROP_SERVER_STORE_MEMORY_STORE_H_
#define BACKPROP_SERVER_STORE_MEMORY_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/mutex.h"
#include "server/store/group_commit.h"
#include "server/store/store.h"

namespace backprop::store {

// Sessions may be destroyed before the store. Thread-safe.
class MemoryStore final : public Store {
 public:
  // Batches that would make the store hold more than `limit` bytes fail with RESOURCE_EXHAUSTED; 0:
  // no limit.
  explicit MemoryStore(size_t limit = 0);
  void Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
              Done done) override;
  absl::StatusOr<std::optional<std::string>> Get(const Table& table,
                                                 absl::string_view key) override;
  absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override;
  absl::StatusOr<std::unique_ptr<Snapshot>> TakeSnapshot() override;
  absl::Status health() const override { return absl::OkStatus(); }

 private:
  class Copy;
  using Records = std::map<std::string, std::string, std::less<>>;
  using Tables = std::map<uint8_t, Records>;  // by number
  absl::Status Write(const std::vector<const WriteBatch*>& batches);
  void Apply(const WriteBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Erase(Records* records, Records::iterator first, Records::iterator end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t limit_;
  base::Mutex mu_;
  Tables tables_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  GroupCommit commits_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_MEMORY_STORE_H_
