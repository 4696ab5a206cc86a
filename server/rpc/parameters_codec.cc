#include "server/rpc/parameters_codec.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/tensor_codec.h"
#include "server/session/status.h"

namespace backprop::rpc {
namespace {

using session::FieldError;

// A tensor of the parameters or of a slot, and where it begins among the state's values.
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
  const auto slots = network.slot_names();
  for (const engine::TensorInfo& tensor : network.tensors()) {
    for (size_t s = 0; s < slots.size(); ++s) {
      const int64_t slot = static_cast<int64_t>(s + 1) * network.parameter_count();
      places.push_back({tensor, absl::StrCat(tensor.name, "/", slots[s]), slot + tensor.offset});
    }
  }
  return places;
}

void Encode(const std::vector<Place>& places, const engine::State& state,
            v1::TensorEncoding encoding,
            google::protobuf::RepeatedPtrField<v1::NamedTensor>* tensors) {
  const engine::DataType type = state.values.type();
  for (const Place& place : places) {
    v1::NamedTensor* out = tensors->Add();
    out->set_name(place.name);
    std::vector<int64_t> shape = {place.tensor.cols};
    if (!place.tensor.is_bias) shape.insert(shape.begin(), place.tensor.rows);
    EncodeTensor(state.values.bytes() + place.first * engine::SizeOf(type), type, shape, encoding,
                 out->mutable_tensor());
  }
}

// Copies tensors to their places; each at most once, and all of them if asked.
absl::Status Decode(const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors,
                    const std::string& field, const std::vector<Place>& places, bool require_all,
                    engine::State* state) {
  absl::flat_hash_map<absl::string_view, const Place*> missing;
  for (const Place& place : places) missing[place.name] = &place;
  for (int i = 0; i < tensors.size(); ++i) {
    const v1::NamedTensor& tensor = tensors[i];
    const auto it = missing.find(tensor.name());
    if (it == missing.end()) {
      return FieldError(absl::StrCat(field, "[", i, "].name"),
                        absl::StrCat("is not a tensor of this model, or is there twice, got \"",
                                     absl::CEscape(tensor.name().substr(0, 80)), "\""));
    }
    const Place& place = *it->second;
    MatrixRules rules;
    rules.field = absl::StrCat(field, "[", i, "].tensor");
    rules.rows = place.tensor.rows;
    rules.cols = place.tensor.cols;
    rules.type = state->values.type();
    const auto matrix = DecodeMatrix(tensor.tensor(), rules);
    if (!matrix.ok()) return matrix.status();
    std::memcpy(state->values.bytes() + place.first * engine::SizeOf(rules.type),
                matrix->elements.bytes(), matrix->elements.size_bytes());
    missing.erase(it);
  }
  if (!require_all || missing.empty()) return absl::OkStatus();
  for (const Place& place : places) {
    if (missing.contains(place.name)) {
      return FieldError(field, absl::StrCat("expected all ", places.size(),
                                            " tensors of the model, ", place.name, " is missing"));
    }
  }
  return absl::OkStatus();
}

// Adam divides by the root of the mean of squared gradients.
absl::Status CheckSlots(const engine::Network& network, const engine::State& state,
                        const std::string& field) {
  if (network.spec().optimizer.kind != engine::OptimizerKind::kAdam) return absl::OkStatus();
  const int64_t P = network.parameter_count();
  for (int64_t i = 2 * P; i < 3 * P; ++i) {
    if (state.values.Get(i) < 0) {
      return FieldError(field,
                        absl::StrCat("exp_avg_sq must not be negative, got ", state.values.Get(i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeParameters(const engine::Network& network, const engine::State& state,
                      v1::TensorEncoding encoding, bool with_optimizer_state,
                      v1::Parameters* message) {
  Encode(ParameterPlaces(network), state, encoding, message->mutable_tensors());
  message->set_step(state.step);
  message->set_optimizer_step(state.optimizer_step);
  if (!with_optimizer_state) return;
  Encode(SlotPlaces(network), state, encoding, message->mutable_optimizer_state());
}

int64_t EncodedParametersBytes(const engine::Network& network, v1::TensorEncoding encoding,
                               bool with_optimizer_state) {
  const int64_t copies = with_optimizer_state ? 1 + network.slot_count() : 1;
  const int64_t element =
      encoding == v1::TENSOR_ENCODING_RAW ? engine::SizeOf(network.spec().data_type) : 8;
  return network.parameter_count() * copies * element;
}

absl::StatusOr<std::shared_ptr<engine::State>> DecodeParameters(const v1::Parameters& message,
                                                                absl::string_view field,
                                                                const engine::Network& network,
                                                                const engine::State& current,
                                                                bool require_all) {
  for (const auto& [name, has, value] :
       {std::tuple(".step", message.has_step(), message.step()),
        std::tuple(".optimizer_step", message.has_optimizer_step(), message.optimizer_step())}) {
    if (has && value < 0) {
      return FieldError(absl::StrCat(field, name), absl::StrCat("must be at least 0, got ", value));
    }
  }
  auto next = std::make_shared<engine::State>(network);
  const auto parameter_bytes =
      static_cast<size_t>(network.parameter_count() * engine::SizeOf(current.values.type()));
  std::memcpy(next->values.bytes(), current.values.bytes(), parameter_bytes);
  absl::Status status = Decode(message.tensors(), absl::StrCat(field, ".tensors"),
                               ParameterPlaces(network), require_all, next.get());
  if (!status.ok()) return status;
  const bool has_slots = !message.optimizer_state().empty();
  if (has_slots) {
    const std::string path = absl::StrCat(field, ".optimizer_state");
    status = Decode(message.optimizer_state(), path, SlotPlaces(network), true, next.get());
    if (status.ok()) status = CheckSlots(network, *next, path);
    if (!status.ok()) return status;
  }
  next->step = message.has_step() ? message.step() : current.step;
  // Without its slots the optimiser begins anew, and Adam's t with it.
  const int64_t restart = network.slot_count() == 0 ? next->step : 0;
  next->optimizer_step = has_slots || network.slot_count() == 0
                             ? (message.has_optimizer_step() ? message.optimizer_step() : restart)
                             : 0;
  return next;
}

}  // namespace backprop::rpc
