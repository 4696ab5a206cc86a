#include "server/store/memory_store.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace backprop::store {

MemoryStore::MemoryStore(size_t limit)
    : limit_(limit),
      commits_([this](const auto& batches, bool) { return Write(batches); },
               [] { return absl::OkStatus(); }) {}

absl::Status MemoryStore::Write(const std::vector<const WriteBatch*>& batches) {
  const base::MutexLock lock(&mu_);
  size_t more = 0;
  for (const WriteBatch* batch : batches) {
    for (const WriteBatch::Op& op : batch->ops()) more += op.value.size();
  }
  if (limit_ > 0 && more > 0 && bytes_ + more > limit_) {
    return absl::ResourceExhaustedError(absl::StrCat("the data in memory would have ",
                                                     bytes_ + more,
                                                     " bytes, more than the limit of ", limit_));
  }
  for (const WriteBatch* batch : batches) Apply(*batch);
  return absl::OkStatus();
}

void MemoryStore::Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
                         Done done) {
  commits_.Commit(std::move(batch), durability, std::move(chain), std::move(done));
}

void MemoryStore::Apply(const WriteBatch& batch) {
  for (const WriteBatch::Op& op : batch.ops()) {
    Records& records = tables_[op.table->number];
    switch (op.kind) {
      case WriteBatch::Kind::kPut:
        Erase(&records, records.lower_bound(op.key), records.upper_bound(op.key));
        records.emplace(op.key, op.value);
        bytes_ += op.value.size();
        break;
      case WriteBatch::Kind::kDelete:
        Erase(&records, records.lower_bound(op.key), records.upper_bound(op.key));
        break;
      case WriteBatch::Kind::kDeletePrefix: {
        const std::string end = EndOfPrefix(op.key);
        Erase(&records, records.lower_bound(op.key),
              end.empty() ? records.end() : records.lower_bound(end));
        break;
      }
    }
  }
}

void MemoryStore::Erase(Records* records, Records::iterator first, Records::iterator end) {
  for (auto it = first; it != end; ++it) bytes_ -= it->second.size();
  records->erase(first, end);
}

absl::StatusOr<std::optional<std::string>> MemoryStore::Get(const Table& table,
                                                            absl::string_view key) {
  const base::MutexLock lock(&mu_);
  const Records& records = tables_[table.number];
  const auto it = records.find(key);
  if (it == records.end()) return std::nullopt;
  return it->second;
}

namespace {

template <class Records>
void ScanRecords(const Records& records, absl::string_view first, absl::string_view end,
                 Store::Visitor visit) {
  for (auto it = records.lower_bound(first); it != records.end(); ++it) {
    if (!end.empty() && it->first >= end) break;
    if (!visit(it->first, it->second)) break;
  }
}

}  // namespace

absl::Status MemoryStore::Scan(const Table& table, absl::string_view first, absl::string_view end,
                               Visitor visit) {
  const base::MutexLock lock(&mu_);
  ScanRecords(tables_[table.number], first, end, visit);
  return absl::OkStatus();
}

class MemoryStore::Copy final : public Snapshot {
 public:
  explicit Copy(Tables tables) : tables_(std::move(tables)) {}
  absl::Status Scan(const Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    const auto records = tables_.find(table.number);
    if (records != tables_.end()) ScanRecords(records->second, first, end, visit);
    return absl::OkStatus();
  }

 private:
  const Tables tables_;
};

absl::StatusOr<std::unique_ptr<Snapshot>> MemoryStore::TakeSnapshot() {
  const base::MutexLock lock(&mu_);
  return std::make_unique<Copy>(tables_);
}

}  // namespace backprop::store
