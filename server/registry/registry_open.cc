// How a registry starts with a store.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/records/answer_records.h"
#include "server/records/keys.h"
#include "server/records/model_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/session/registry.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

// The uid in a key of table runs.
records::Uid UidOf(absl::string_view key) {
  records::Uid uid = 0;
  for (const char byte : key.substr(1)) uid = (uid << 8) | static_cast<unsigned char>(byte);
  return uid;
}

}  // namespace

absl::StatusOr<Registry::Found> Registry::Open() {
  Found found;
  if (environment_->store == nullptr) return found;
  const auto with_runs = UidsWithRuns();
  if (!with_runs.ok()) return with_runs.status();
  absl::Status status = OpenAnswers();
  if (status.ok()) status = OpenModels(&found, *with_runs);
  if (!status.ok()) return status;
  return found;
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

absl::Status Registry::OpenModels(Found* found, const std::vector<records::Uid>& with_runs) {
  std::vector<std::string> run_on;
  const absl::Time now = environment_->clock->Now();
  absl::Status scanned = environment_->store->Scan(
      records::kModels, "", "", [&](absl::string_view id, absl::string_view value) {
        ++found->models;
        const auto model = records::DecodeModel(value, id);
        if (!model.ok()) {  // its numbers are unknown and not counted
          found->damaged.emplace_back(id);
          return true;
        }
        parameters_.fetch_add(model->value_count);
        if (model->ttl.has_value()) {
          Shard& shard = ShardOf(id);
          const base::MutexLock lock(&shard.mu);
          shard.unloaded_expiry.insert_or_assign(std::string(id), now + *model->ttl);
        }
        if (std::binary_search(with_runs.begin(), with_runs.end(), model->uid)) {
          run_on.emplace_back(id);
        }
        return true;
      });
  if (!scanned.ok()) return scanned;
  models_ = found->models;
  for (const std::string& id : run_on) {
    const auto session = FindOrLoad(id);
    if (session.ok() && *session != nullptr) {
      ++found->runs;
    } else if (!session.ok()) {
      found->damaged.push_back(id);
    }
  }
  return absl::OkStatus();
}

absl::Status Registry::OpenAnswers() {
  for (Shard& shard : shards_) {  // a restore has replaced the store
    const base::MutexLock lock(&shard.mu);
    shard.creations.Clear();
    shard.deletions.Clear();
  }
  for (const auto kind :
       {records::RegistryAnswerKind::kCreate, records::RegistryAnswerKind::kDelete}) {
    const auto answers = records::ReadRegistryAnswers(environment_->store, kind);
    if (!answers.ok()) return answers.status();
    for (const records::RegistryAnswer& answer : *answers) {
      Shard& shard = ShardOf(answer.key.id);
      const base::MutexLock lock(&shard.mu);
      if (kind == records::RegistryAnswerKind::kCreate) {
        shard.creations.Restore(
            {answer.key, answer.time, answer.sequence, {answer.model_id, true}});
      } else {
        shard.deletions.Restore({answer.key, answer.time, answer.sequence, {}});
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace backprop::session
