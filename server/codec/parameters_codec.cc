#include "server/codec/parameters_codec.h"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/number_rules.h"
#include "server/codec/reply_size.h"
#include "server/codec/spec_codec.h"
#include "server/codec/tensor_codec.h"

namespace backprop::codec {
namespace {

using base::FieldError;

// A tensor of the parameters or of a slot, and the index of its first element in State::values.
struct Place {
  engine::TensorInfo tensor;
  std::string name;
  int64_t first;
};

std::vector<Place> ParameterPlaces(const engine::Network& network) {
  std::vector<Place> places;
  for (const engine::TensorInfo& tensor : network.tensors()) {
    places.push_back({tensor, tensor.name, tensor.offset});
  }
  return places;
}

std::vector<Place> SlotPlaces(const engine::Network& network) {
  std::vector<Place> places;
  const auto& slots = network.slots();
  for (const engine::TensorInfo& tensor : network.tensors()) {
    for (size_t s = 0; s < slots.size(); ++s) {
      const int64_t slot = static_cast<int64_t>(s + 1) * network.parameter_count();
      places.push_back(
          {tensor, absl::StrCat(tensor.name, "/", slots[s].name), slot + tensor.offset});
    }
  }
  return places;
}

void Encode(const std::vector<Place>& places, const std::byte* values, engine::DataType type,
            v1::TensorEncoding encoding, NamedTensors* tensors) {
  for (const Place& place : places) {
    v1::NamedTensor* out = tensors->Add();
    out->set_name(place.name);
    std::vector<int64_t> shape = {place.tensor.cols};
    if (!place.tensor.is_bias) shape.insert(shape.begin(), place.tensor.rows);
    EncodeTensor(values + place.first * engine::SizeOf(type), type, shape, encoding,
                 out->mutable_tensor());
  }
}

// Copies each tensor to its place in `values`. A tensor may occur once; with `require_all`, none
// may be missing.
absl::Status Decode(const NamedTensors& tensors, const std::string& field,
                    const std::vector<Place>& places, bool require_all, engine::Buffer* values) {
  absl::flat_hash_map<absl::string_view, const Place*> missing;
  for (const Place& place : places) missing[place.name] = &place;
  for (int i = 0; i < tensors.size(); ++i) {
    const v1::NamedTensor& tensor = tensors[i];
    const auto it = missing.find(tensor.name());
    if (it == missing.end()) {
      return FieldError(
          absl::StrCat(field, "[", i, "].name"),
          absl::StrCat("must be the name of a tensor of this model and occur only once, got ",
                       base::Quote(tensor.name())));
    }
    const Place& place = *it->second;
    MatrixRules rules;
    rules.field = absl::StrCat(field, "[", i, "].tensor");
    rules.rows = place.tensor.rows;
    rules.cols = place.tensor.cols;
    rules.type = values->type();
    rules.is_vector = place.tensor.is_bias;
    const auto matrix = DecodeMatrix(tensor.tensor(), rules);
    if (!matrix.ok()) return matrix.status();
    std::memcpy(values->bytes() + place.first * engine::SizeOf(rules.type),
                matrix->elements.bytes(), matrix->elements.size_bytes());
    missing.erase(it);
  }
  if (!require_all || missing.empty()) return absl::OkStatus();
  for (const Place& place : places) {
    if (missing.contains(place.name)) {
      return FieldError(field,
                        absl::StrCat("expected all ", places.size(), " tensors of the model, but ",
                                     place.name, " is missing"));
    }
  }
  return absl::OkStatus();
}

// Optimisers take the square root of the means and sums of squares, so these must not be negative.
absl::Status CheckSlots(const engine::Network& network, const engine::State& state,
                        const std::string& field) {
  const int64_t P = network.parameter_count();
  for (int64_t s = 0; s < network.slot_count(); ++s) {
    const engine::SlotInfo& slot = network.slots()[static_cast<size_t>(s)];
    if (!slot.non_negative) continue;
    for (int64_t i = (1 + s) * P; i < (2 + s) * P; ++i) {
      if (state.values.Get(i) < 0) {
        return FieldError(
            field, absl::StrCat(slot.name, " must not be negative, got ", state.values.Get(i)));
      }
    }
  }
  return absl::OkStatus();
}

// Sets the standardisation of `state` if the message has one.
absl::Status DecodeStandardized(const v1::Parameters& message, const std::string& field,
                                const engine::Network& network, engine::State* state) {
  if (!message.has_input_standardization()) return absl::OkStatus();
  if (network.spec().standardize == engine::Standardize::kNo) {
    return FieldError(field, "must not be set, because the model does not standardise its inputs");
  }
  base::Fields fields;
  auto decoded =
      DecodeStandardization(message.input_standardization(), field, network.inputs(), &fields);
  if (fields.ok() && decoded.mean.empty()) fields.Add(field, "expected mean and std, got neither");
  if (!fields.ok()) return fields.status();
  state->standardization = std::make_shared<engine::Standardization>(std::move(decoded));
  return absl::OkStatus();
}

absl::Status DecodePlateau(const v1::Parameters& message, const std::string& field,
                           const engine::Network& network, engine::State* state) {
  if (!message.has_plateau()) return absl::OkStatus();
  const v1::PlateauState& plateau = message.plateau();
  base::Fields fields;
  const NumberRules check(engine::DataType::kFloat64, &fields);
  check.Positive(field + ".learning_rate", plateau.learning_rate());
  check.AtLeast(field + ".bad_epochs", plateau.bad_epochs(), 0);
  if (plateau.bad_epochs() > base::kMaxSetSteps) {
    fields.Add(field + ".bad_epochs",
               absl::StrCat("must be at most 2^61, got ", plateau.bad_epochs()));
  }
  check.AtLeast(field + ".cooldown", plateau.cooldown(), 0);
  if (std::isnan(plateau.best())) fields.Add(field + ".best", "must be a number, got nan");
  if (network.spec().optimizer.schedule.kind != engine::ScheduleKind::kReduceOnPlateau) {
    fields.Add(field, "must not be set, because the model's schedule is not reduce_on_plateau");
  }
  if (!fields.ok()) return fields.status();
  state->plateau = {plateau.learning_rate(), plateau.best(), plateau.bad_epochs(),
                    plateau.cooldown()};
  return absl::OkStatus();
}

}  // namespace

void EncodeParameters(const engine::Network& network, const engine::State& state,
                      v1::TensorEncoding encoding, bool with_optimizer_state,
                      v1::Parameters* message) {
  const engine::DataType type = state.values.type();
  Encode(ParameterPlaces(network), state.values.bytes(), type, encoding,
         message->mutable_tensors());
  message->set_step(state.step);
  message->set_optimizer_step(state.optimizer_step);
  if (state.standardization != nullptr) {
    EncodeStandardization(*state.standardization, message->mutable_input_standardization());
  }
  if (!with_optimizer_state) return;
  Encode(SlotPlaces(network), state.values.bytes(), type, encoding,
         message->mutable_optimizer_state());
  if (network.spec().optimizer.schedule.kind != engine::ScheduleKind::kReduceOnPlateau) return;
  v1::PlateauState* plateau = message->mutable_plateau();
  plateau->set_learning_rate(state.plateau.learning_rate);
  plateau->set_best(state.plateau.best);
  plateau->set_bad_epochs(state.plateau.bad_epochs);
  plateau->set_cooldown(state.plateau.cooldown);
}

void EncodeGradients(const engine::Network& network, const std::byte* gradients,
                     v1::TensorEncoding encoding, NamedTensors* tensors) {
  Encode(ParameterPlaces(network), gradients, network.spec().data_type, encoding, tensors);
}

absl::StatusOr<engine::Buffer> DecodeGradients(const NamedTensors& tensors,
                                               const std::string& field,
                                               const engine::Network& network) {
  engine::Buffer gradients(network.spec().data_type, network.parameter_count());
  const absl::Status status =
      Decode(tensors, field, ParameterPlaces(network), /*require_all=*/true, &gradients);
  if (!status.ok()) return status;
  return gradients;
}

int64_t EncodedParametersBytes(const engine::Network& network, v1::TensorEncoding encoding,
                               bool with_optimizer_state) {
  // Name, shape and the other fields of a tensor, without its elements.
  constexpr int64_t kTensorBytes = 96;
  const int64_t copies = with_optimizer_state ? 1 + network.slot_count() : 1;
  const int64_t tensors = 2 * static_cast<int64_t>(network.spec().layers.size());
  const bool standardizes = network.spec().standardize != engine::Standardize::kNo;
  return copies * (network.parameter_count() * ElementBytes(encoding, network.spec().data_type) +
                   tensors * kTensorBytes) +
         (standardizes ? 2 * network.inputs() * static_cast<int64_t>(sizeof(double)) : 0);
}

absl::Status CheckParametersSize(const engine::Network& network, v1::TensorEncoding encoding,
                                 bool with_optimizer_state, const base::Limits& limits) {
  return CheckReplyBytes("model", EncodedParametersBytes(network, encoding, with_optimizer_state),
                         limits,
                         with_optimizer_state ? "set encoding to RAW and omit_optimizer_state"
                                              : "set encoding to RAW");
}

absl::Status CheckEncoding(v1::TensorEncoding encoding) {
  if (v1::TensorEncoding_IsValid(encoding)) return absl::OkStatus();
  return FieldError("encoding",
                    absl::StrCat("expected VALUES or RAW, got ", static_cast<int>(encoding)));
}

absl::StatusOr<std::shared_ptr<engine::State>> DecodeParameters(const v1::Parameters& message,
                                                                absl::string_view field,
                                                                const engine::Network& network,
                                                                const engine::State& current,
                                                                bool require_all) {
  for (const auto& [name, has, value] :
       {std::tuple(".step", message.has_step(), message.step()),
        std::tuple(".optimizer_step", message.has_optimizer_step(), message.optimizer_step())}) {
    if (!has || (value >= 0 && value <= base::kMaxSetSteps)) continue;
    return FieldError(
        absl::StrCat(field, name),
        absl::StrCat("must be at ", value < 0 ? "least 0" : "most 2^61", ", got ", value));
  }
  auto next = engine::EmptyState(network);
  next->standardization = current.standardization;
  const auto parameter_bytes =
      static_cast<size_t>(network.parameter_count() * engine::SizeOf(current.values.type()));
  std::memcpy(next->values.bytes(), current.values.bytes(), parameter_bytes);
  absl::Status status = Decode(message.tensors(), absl::StrCat(field, ".tensors"),
                               ParameterPlaces(network), require_all, &next->values);
  if (!status.ok()) return status;
  const bool has_slots = !message.optimizer_state().empty();
  if (has_slots) {
    const std::string path = absl::StrCat(field, ".optimizer_state");
    status = Decode(message.optimizer_state(), path, SlotPlaces(network), true, &next->values);
    if (status.ok()) status = CheckSlots(network, *next, path);
    if (!status.ok()) return status;
  }
  status = DecodeStandardized(message, absl::StrCat(field, ".input_standardization"), network,
                              next.get());
  if (status.ok())
    status = DecodePlateau(message, absl::StrCat(field, ".plateau"), network, next.get());
  if (!status.ok()) return status;
  next->step = message.has_step() ? message.step() : current.step;
  // Without slots in the message the optimiser restarts, so its step count (Adam's t) restarts too.
  // An optimiser that has no slots has no state to lose and keeps the count.
  const int64_t restart = network.slot_count() == 0 ? next->step : 0;
  next->optimizer_step = has_slots || network.slot_count() == 0
                             ? (message.has_optimizer_step() ? message.optimizer_step() : restart)
                             : 0;
  return next;
}

}  // namespace backprop::codec
