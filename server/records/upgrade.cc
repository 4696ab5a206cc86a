#include "server/records/upgrade.h"

#include <future>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/records/frame.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/records.pb.h"
#include "server/records/tables.h"

namespace backprop::records {
namespace {

// In kMeta while an upgrade is under way.
constexpr char kUpgradingKey[] = "upgrading";

bool IsScoped(absl::string_view id) { return absl::StrContains(id, '/'); }

absl::Status CommitNow(store::Store* store, store::WriteBatch batch) {
  std::promise<absl::Status> committed;
  store->Commit(std::move(batch), store::Durability::kSync, nullptr,
                [&](const absl::Status& status) { committed.set_value(status); });
  return committed.get_future().get();
}

// Changes the records of a table whose keys begin with `prefix`.
absl::StatusOr<int64_t> UpgradeTable(store::Store* store, const store::Table& table,
                                     const std::string& prefix, size_t records_at_once) {
  int64_t changed = 0;
  for (std::string next = prefix;;) {
    store::WriteBatch batch;
    size_t in_batch = 0;
    bool more = false;
    absl::Status status = store->Scan(table, next, store::EndOfPrefix(prefix),
                                      [&](absl::string_view old_key, absl::string_view old_value) {
                                        if (in_batch == records_at_once) {
                                          more = true;
                                          next = std::string(old_key);
                                          return false;
                                        }
                                        std::string key(old_key), value(old_value);
                                        if (!UpgradeRecord(table, &key, &value)) return true;
                                        if (key != old_key)
                                          batch.Delete(table, std::string(old_key));
                                        batch.Put(table, std::move(key), std::move(value));
                                        ++in_batch;
                                        return true;
                                      });
    if (status.ok() && in_batch > 0) status = CommitNow(store, std::move(batch));
    if (!status.ok()) return status;
    changed += static_cast<int64_t>(in_batch);
    if (!more) return changed;
  }
}

}  // namespace

bool UpgradeRecord(const store::Table& table, std::string* key, std::string* value) {
  if (table.number == kModels.number || table.number == kDatasets.number) {
    if (IsScoped(*key)) return false;
    *key = ScopedId(kDefaultProject, *key);
    return true;
  }
  if (table.number != kRequests.number ||
      !absl::StartsWith(*key, RegistryResponsesKey(RegistryRequestKind::kCreate))) {
    return false;
  }
  v1::RegistryResponse response;
  if (!Open(*value, "", &response).ok() || IsScoped(response.model_id())) return false;
  response.set_model_id(ScopedId(kDefaultProject, response.model_id()));
  *value = Seal(response);
  return true;
}

absl::StatusOr<int64_t> UpgradeStore(store::Store* store, size_t records_at_once) {
  const std::string current = absl::StrCat(kFormatVersion);
  const auto format = store->Get(store::kMeta, store::kFormatKey);
  if (!format.ok()) return format.status();
  const auto upgrading = store->Get(store::kMeta, kUpgradingKey);
  if (!upgrading.ok()) return upgrading.status();
  if (*format == current && !upgrading->has_value()) return 0;
  store::WriteBatch begin;
  begin.Put(store::kMeta, store::kFormatKey, current);
  begin.Put(store::kMeta, kUpgradingKey, "1");
  absl::Status status = CommitNow(store, std::move(begin));
  if (!status.ok()) return status;
  int64_t changed = 0;
  const std::pair<const store::Table*, std::string> parts[] = {
      {&kModels, ""},
      {&kDatasets, ""},
      {&kRequests, RegistryResponsesKey(RegistryRequestKind::kCreate)}};
  for (const auto& [table, prefix] : parts) {
    const auto count = UpgradeTable(store, *table, prefix, records_at_once);
    if (!count.ok()) return count.status();
    changed += *count;
  }
  store::WriteBatch end;
  end.Delete(store::kMeta, kUpgradingKey);
  status = CommitNow(store, std::move(end));
  if (!status.ok()) return status;
  return changed;
}

}  // namespace backprop::records
