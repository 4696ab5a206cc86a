#include "server/records/model_records.h"

#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/project.h"
#include "server/records/records.pb.h"

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
  const absl::Status opened = Open(value, ModelName(id), &message);
  if (!opened.ok()) return opened;
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

absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model) {
  v1::State message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  auto state = std::make_shared<engine::State>(engine::Buffer());
  const auto d = static_cast<int>(network.inputs());
  const bool standardizes = message.mean_size() > 0;
  if (!ReadBytes(message.values(), network.spec().data_type,
                 network.parameter_count() * (1 + network.slot_count()), &state->values) ||
      message.mean_size() != message.std_size() || (standardizes && message.mean_size() != d)) {
    return Damaged(model, "its parameters do not match its spec");
  }
  state->step = message.step();
  state->optimizer_step = message.optimizer_step();
  state->plateau.learning_rate = message.plateau().learning_rate();
  state->plateau.best = message.plateau().best();
  state->plateau.bad_epochs = message.plateau().bad_epochs();
  state->plateau.cooldown = message.plateau().cooldown();
  if (standardizes) {
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
  return message.step();
}

}  // namespace backprop::records
