#include "server/store/memory_store.h"

#include <utility>

namespace backprop::store {

MemoryStore::MemoryStore()
    : commits_(
          [this](const std::vector<const Batch*>& batches, bool) {
            const std::lock_guard lock(mu_);
            for (const Batch* batch : batches) Apply(*batch);
            return absl::OkStatus();
          },
          [] { return absl::OkStatus(); }) {}

void MemoryStore::Commit(Batch batch, Durability durability, std::shared_ptr<Chain> chain,
                         Done done) {
  commits_.Commit(std::move(batch), durability, std::move(chain), std::move(done));
}

void MemoryStore::Apply(const Batch& batch) {
  for (const Batch::Op& op : batch.ops()) {
    Records& records = At(op.table);
    switch (op.kind) {
      case Batch::Kind::kPut:
        records.insert_or_assign(op.key, op.value);
        break;
      case Batch::Kind::kDelete:
        records.erase(op.key);
        break;
      case Batch::Kind::kDeletePrefix: {
        const std::string end = EndOfPrefix(op.key);
        records.erase(records.lower_bound(op.key),
                      end.empty() ? records.end() : records.lower_bound(end));
        break;
      }
    }
  }
}

absl::StatusOr<std::optional<std::string>> MemoryStore::Get(Table table, absl::string_view key) {
  const std::lock_guard lock(mu_);
  const auto it = At(table).find(key);
  if (it == At(table).end()) return std::nullopt;
  return it->second;
}

absl::Status MemoryStore::Scan(Table table, absl::string_view first, absl::string_view end,
                               Visitor visit) {
  const std::lock_guard lock(mu_);
  for (auto it = At(table).lower_bound(first); it != At(table).end(); ++it) {
    if (!end.empty() && it->first >= end) break;
    if (!visit(it->first, it->second)) break;
  }
  return absl::OkStatus();
}

}  // namespace backprop::store
