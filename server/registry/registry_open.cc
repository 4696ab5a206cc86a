// How a registry starts with a store.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/records/keys.h"
#include "server/records/model_records.h"
#include "server/records/response_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/registry/registry.h"
#include "server/store/store.h"

namespace backprop::registry {
namespace {

// The uid in a key of table runs.
records::Uid UidOf(absl::string_view key) {
  records::Uid uid = 0;
  for (const char byte : key.substr(1)) uid = (uid << 8) | static_cast<unsigned char>(byte);
  return uid;
}

}  // namespace

absl::StatusOr<Registry::Opened> Registry::Open() {
  Opened opened;
  if (environment_->store == nullptr) return opened;
  const auto with_runs = UidsWithRuns();
  if (!with_runs.ok()) return with_runs.status();
  absl::Status status = OpenLedgers();
  if (status.ok()) status = OpenModels(*with_runs, &opened);
  if (!status.ok()) return status;
  return opened;
}

// The models whose run resumes, sorted.
absl::StatusOr<std::vector<records::Uid>> Registry::UidsWithRuns() {
  std::vector<records::Uid> uids;
  const std::string prefix(1, static_cast<char>(records::RunPart::kRun));
  absl::Status scanned =
      environment_->store->Scan(records::kRuns, prefix, store::EndOfPrefix(prefix),
                                [&](absl::string_view key, absl::string_view value) {
                                  const auto run = records::DecodeRun(value, "");
                                  // A damaged record is reported when its model is loaded.
                                  if (!run.ok() || run->resumes) uids.push_back(UidOf(key));
                                  return true;
                                });
  if (!scanned.ok()) return scanned;
  std::sort(uids.begin(), uids.end());
  return uids;
}

absl::Status Registry::OpenModels(const std::vector<records::Uid>& with_runs, Opened* opened) {
  catalogue_.ResetCounts();
  std::vector<std::string> to_resume;
  const absl::Time now = environment_->clock->Now();
  absl::Status scanned = catalogue_.Scan(
      "", "", [&](absl::string_view id, const absl::StatusOr<records::StoredModel>& model) {
        ++opened->models;
        catalogue_.Count(id, model.ok() ? model->value_count : 0);
        if (!model.ok()) {
          opened->damaged.emplace_back(id);
          return true;
        }
        if (model->ttl.has_value()) cache_.SetExpiry(id, now + *model->ttl);
        if (std::binary_search(with_runs.begin(), with_runs.end(), model->uid)) {
          to_resume.emplace_back(id);
        }
        return true;
      });
  if (!scanned.ok()) return scanned;
  for (const std::string& id : to_resume) {
    const auto session = cache_.FindOrLoad(id);
    if (session.ok() && *session != nullptr) {
      ++opened->runs;
    } else if (!session.ok()) {
      opened->damaged.push_back(id);
    }
  }
  return absl::OkStatus();
}

absl::Status Registry::OpenLedgers() {
  for (Ledgers& ledgers : ledgers_) {  // a restore has replaced the store
    const base::MutexLock lock(&ledgers.mu);
    ledgers.creations.Clear();
    ledgers.deletions.Clear();
  }
  for (const auto kind :
       {records::RegistryRequestKind::kCreate, records::RegistryRequestKind::kDelete}) {
    const auto responses = records::ReadRegistryResponses(environment_->store, kind);
    if (!responses.ok()) return responses.status();
    for (const records::RegistryResponse& response : *responses) {
      Ledgers& ledgers = LedgersOf(response.key.id);
      const base::MutexLock lock(&ledgers.mu);
      if (kind == records::RegistryRequestKind::kCreate) {
        ledgers.creations.Restore(
            {response.key, response.time, response.sequence, {response.model_id, true}});
      } else {
        ledgers.deletions.Restore({response.key, response.time, response.sequence, {}});
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace backprop::registry
