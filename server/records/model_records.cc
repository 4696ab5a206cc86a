#include "server/records/model_records.h"

#include <cmath>
#include <limits>

#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/project.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"

namespace backprop::records {

std::string EncodeModel(const StoredModel& model) {
  v1::Model message;
  message.set_uid(model.uid);
  message.set_spec(model.spec);
  message.mutable_labels()->insert(model.labels.begin(), model.labels.end());
  message.set_ttl_nanos(model.ttl.has_value() ? absl::ToInt64Nanoseconds(*model.ttl) : 0);
  message.set_create_time_unix_nanos(absl::ToUnixNanos(model.create_time));
  Encode(model.created_by, message.mutable_created_by());
  message.set_created_at_step(model.created_at_step);
  message.set_numbers(model.value_count);
  message.set_value_bytes(model.value_bytes);
  message.set_durability(static_cast<uint32_t>(model.durability));
  return Seal(message);
}

absl::StatusOr<StoredModel> DecodeModel(absl::string_view value, absl::string_view id) {
  v1::Model message;
  const std::string name = ModelName(id);
  const absl::Status opened = Open(value, name, &message);
  if (!opened.ok()) return opened;
  Rules rules(name);
  rules.Require(message.uid() != 0, "uid", "a number that is not 0", message.uid());
  rules.Between("ttl_nanos", message.ttl_nanos(), 0, std::numeric_limits<int64_t>::max());
  rules.Steps("created_at_step", message.created_at_step());
  rules.Between("numbers", message.numbers(), 0, kMostRecordBytes);
  rules.Between("value_bytes", message.value_bytes(), 0, kMostRecordBytes);
  rules.Between("durability", message.durability(), 0,
                static_cast<int64_t>(store::Durability::kNone));
  if (!rules.ok()) return rules.status();
  StoredModel model;
  model.uid = message.uid();
  model.spec = message.spec();
  model.labels.insert(message.labels().begin(), message.labels().end());
  if (message.ttl_nanos() > 0) model.ttl = absl::Nanoseconds(message.ttl_nanos());
  model.create_time = absl::FromUnixNanos(message.create_time_unix_nanos());
  model.created_by = Decode(message.created_by());
  model.created_at_step = message.created_at_step();
  model.value_count = message.numbers();
  model.value_bytes = message.value_bytes();
  model.durability = static_cast<store::Durability>(message.durability());
  return model;
}

std::string EncodeState(const engine::State& state) {
  v1::State message;
  message.set_values(state.values.bytes(), state.values.size_bytes());
  message.set_step(state.step);
  message.set_optimizer_step(state.optimizer_step);
  v1::Plateau* plateau = message.mutable_plateau();
  plateau->set_learning_rate(state.plateau.learning_rate);
  plateau->set_best(state.plateau.best);
  plateau->set_bad_epochs(state.plateau.bad_epochs);
  plateau->set_cooldown(state.plateau.cooldown);
  if (state.standardization != nullptr) {
    message.mutable_mean()->Add(state.standardization->mean.begin(),
                                state.standardization->mean.end());
    message.mutable_std()->Add(state.standardization->std.begin(),
                               state.standardization->std.end());
  }
  return Seal(message);
}

namespace {

absl::Status CheckStandardization(const v1::State& message, const engine::Network& network,
                                  absl::string_view model) {
  Rules rules(model);
  const bool standardizes = network.spec().standardize != engine::Standardize::kNo;
  // Both may be missing: it is not fitted yet.
  const bool missing = message.mean().empty() && message.std().empty();
  const int64_t expected = standardizes && !missing ? network.inputs() : 0;
  rules.Equal("number of means", message.mean_size(), expected);
  rules.Equal("number of standard deviations", message.std_size(), expected);
  for (const double mean : message.mean()) {
    if (!std::isfinite(mean)) rules.Require(false, "mean", "finite numbers", mean);
  }
  for (const double std : message.std()) {
    if (!(std > 0 && std::isfinite(std))) {
      rules.Require(false, "std", "finite numbers above 0", std);
    }
  }
  return rules.status();
}

absl::Status CheckPlateau(const v1::Plateau& plateau, const engine::Network& network,
                          absl::string_view model) {
  Rules rules(model);
  rules.Steps("plateau.bad_epochs", plateau.bad_epochs());
  rules.Between("plateau.cooldown", plateau.cooldown(), 0, std::numeric_limits<int64_t>::max());
  if (network.spec().optimizer.schedule.kind == engine::ScheduleKind::kReduceOnPlateau) {
    const double rate = plateau.learning_rate();
    rules.Require(rate > 0 && std::isfinite(rate), "plateau.learning_rate",
                  "a finite number above 0", rate);
    rules.Require(!std::isnan(plateau.best()), "plateau.best", "a number", plateau.best());
  }
  return rules.status();
}

absl::Status CheckValues(const engine::Buffer& values, const engine::Network& network,
                         absl::string_view model) {
  Rules rules(model);
  rules.Require(AllFinite(values), "values", "finite numbers", "one that is not");
  const int64_t P = network.parameter_count();
  for (int64_t s = 0; s < network.slot_count(); ++s) {
    const engine::SlotInfo& slot = network.slots()[static_cast<size_t>(s)];
    if (!slot.non_negative) continue;
    rules.Require(NoneNegative(values, (1 + s) * P, P), slot.name, "numbers from 0", "one below 0");
  }
  return rules.status();
}

}  // namespace

absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model) {
  v1::State message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  Rules rules(model);
  rules.Equal("bytes of its parameters and optimiser state",
              static_cast<int64_t>(message.values().size()), engine::StateBytes(network));
  rules.Steps("step", message.step());
  rules.Steps("optimizer_step", message.optimizer_step());
  if (!rules.ok()) return rules.status();
  absl::Status checked = CheckStandardization(message, network, model);
  if (checked.ok()) checked = CheckPlateau(message.plateau(), network, model);
  if (!checked.ok()) return checked;
  auto state =
      std::make_shared<engine::State>(BufferOf(message.values(), network.spec().data_type));
  checked = CheckValues(state->values, network, model);
  if (!checked.ok()) return checked;
  state->step = message.step();
  state->optimizer_step = message.optimizer_step();
  state->plateau.learning_rate = message.plateau().learning_rate();
  state->plateau.best = message.plateau().best();
  state->plateau.bad_epochs = message.plateau().bad_epochs();
  state->plateau.cooldown = message.plateau().cooldown();
  if (!message.mean().empty()) {
    state->standardization = std::make_shared<engine::Standardization>(
        engine::Standardization{{message.mean().begin(), message.mean().end()},
                                {message.std().begin(), message.std().end()}});
  }
  return state;
}

absl::StatusOr<int64_t> DecodeStepCount(absl::string_view value, absl::string_view model) {
  v1::State message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  Rules rules(model);
  rules.Steps("step", message.step());
  if (!rules.ok()) return rules.status();
  return message.step();
}

}  // namespace backprop::records
