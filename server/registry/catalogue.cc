#include "server/registry/catalogue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/spec_codec.h"
#include "server/records/frame.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"

namespace backprop::registry {
namespace {

// Adds to a counter unless the sum would exceed the limit.
bool AddWithin(std::atomic<int64_t>* counter, int64_t amount, int64_t limit) {
  if (counter->fetch_add(amount) + amount <= limit) return true;
  counter->fetch_sub(amount);
  return false;
}

// The step count after the last stored change: that of the last logged step, or of the state.
absl::StatusOr<int64_t> LastStep(store::Store* store, records::Uid uid, absl::string_view model) {
  const std::string prefix = records::UidKey(uid);
  int64_t last = 0;
  const absl::Status scanned = store->Scan(records::kLog, prefix, store::EndOfPrefix(prefix),
                                           [&](absl::string_view key, absl::string_view) {
                                             last = records::StepOfLoggedStepKey(key);
                                             return true;
                                           });
  if (!scanned.ok()) return scanned;
  if (last > 0) return last;
  const auto state = store->Get(records::kStates, prefix);
  if (!state.ok()) return state.status();
  if (!state->has_value()) return records::Damaged(model, "its state is missing");
  return records::DecodeStepCount(**state, model);
}

// The run that resumes when the model is loaded; empty if there is none.
absl::StatusOr<std::string> ResumingRun(store::Store* store, records::Uid uid,
                                        absl::string_view model) {
  const auto record = store->Get(records::kRuns, records::RunKey(uid, records::RunPart::kRun));
  if (!record.ok()) return record.status();
  if (!record->has_value()) return std::string();
  const auto run = records::DecodeRun(**record, model);
  if (!run.ok()) return run.status();
  return run->resumes ? absl::StrCat(model, "/runs/", run->number) : std::string();
}

}  // namespace

bool HasLabels(const Labels& all, const Labels& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& label) {
    const auto it = all.find(label.first);
    return it != all.end() && it->second == label.second;
  });
}

int64_t ValueCount(const engine::Network& network) {
  return network.parameter_count() * (1 + network.slot_count());
}

absl::Status Catalogue::Reserve(absl::string_view id, int64_t value_count) {
  if (!AddWithin(&models_, 1, limits().max_models)) {
    return base::ReasonError(absl::StatusCode::kResourceExhausted,
                             absl::StrCat("the server already holds ", limits().max_models,
                                          " models, the limit (max_models)"),
                             {"LIMIT_EXCEEDED", {{"limit", "max_models"}}});
  }
  if (!AddWithin(&values_, value_count, limits().max_total_parameters)) {
    models_.fetch_sub(1);
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("the model's ", value_count,
                     " parameters and optimiser values would exceed the limit of ",
                     limits().max_total_parameters, " for all models (max_total_parameters)"),
        {"LIMIT_EXCEEDED", {{"limit", "max_total_parameters"}}});
  }
  session::Project* const project = ProjectOf(id);
  absl::Status allowed = project->Take(session::Resource::kModels, 1);
  if (allowed.ok()) {
    allowed = project->Take(session::Resource::kParameters, value_count);
    if (!allowed.ok()) project->Release(session::Resource::kModels, 1);
  }
  if (!allowed.ok()) {
    models_.fetch_sub(1);
    values_.fetch_sub(value_count);
  }
  return allowed;
}

void Catalogue::Release(absl::string_view id, int64_t value_count) {
  models_.fetch_sub(1);
  values_.fetch_sub(value_count);
  session::Project* const project = ProjectOf(id);
  project->Release(session::Resource::kModels, 1);
  project->Release(session::Resource::kParameters, value_count);
}

void Catalogue::Count(absl::string_view id, int64_t value_count) {
  models_.fetch_add(1);
  values_.fetch_add(value_count);
  session::Project* const project = ProjectOf(id);
  project->Count(session::Resource::kModels, 1);
  project->Count(session::Resource::kParameters, value_count);
}

void Catalogue::ResetCounts() {
  models_ = 0;
  values_ = 0;
  for (session::Project* project : environment_->projects.All()) {
    project->Reset(session::Resource::kModels);
    project->Reset(session::Resource::kParameters);
  }
}

absl::StatusOr<bool> Catalogue::Contains(absl::string_view id) const {
  if (store_ == nullptr) return false;
  const auto value = store_->Get(records::kModels, id);
  if (!value.ok()) return value.status();
  return value->has_value();
}

absl::StatusOr<std::optional<records::StoredModel>> Catalogue::Find(absl::string_view id) const {
  if (store_ == nullptr) return std::nullopt;
  const auto value = store_->Get(records::kModels, id);
  if (!value.ok()) return value.status();
  if (!value->has_value()) return std::nullopt;
  auto model = records::DecodeModel(**value, id);
  if (!model.ok()) return model.status();
  return *std::move(model);
}

absl::Status Catalogue::Scan(absl::string_view prefix, absl::string_view after,
                             Visitor visit) const {
  if (store_ == nullptr) return absl::OkStatus();
  const std::string first =
      after < prefix ? std::string(prefix) : absl::StrCat(after, absl::string_view("\0", 1));
  return store_->Scan(records::kModels, first, store::EndOfPrefix(prefix),
                      [&](absl::string_view id, absl::string_view value) {
                        return visit(id, records::DecodeModel(value, id));
                      });
}

absl::StatusOr<Description> Catalogue::Describe(absl::string_view id,
                                                const records::StoredModel& model) const {
  const std::string name = records::ModelName(id);
  auto spec = codec::DecodeSpecRecord(model.spec);
  if (!spec.ok()) {
    return records::Damaged(name, absl::StrCat("its spec: ", spec.status().message()));
  }
  const auto step = LastStep(store_, model.uid, name);
  if (!step.ok()) return step.status();
  auto run = ResumingRun(store_, model.uid, name);
  if (!run.ok()) return run.status();
  Description description;
  description.info = {std::string(id), model.labels, std::move(spec->class_names),
                      std::move(spec->feature_names), model.ttl};
  description.network = std::make_shared<const engine::Network>(std::move(spec->spec));
  description.create_time = model.create_time;
  description.durability = model.durability;
  description.step = *step;
  description.active_run = *std::move(run);
  return description;
}

}  // namespace backprop::registry
