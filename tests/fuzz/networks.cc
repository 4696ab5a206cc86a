#include "tests/fuzz/networks.h"

#include "server/codec/spec_codec.h"

namespace backprop::fuzz {

const std::vector<KnownModel>& KnownModels() {
  static const std::vector<KnownModel> all = [] {
    std::vector<KnownModel> models;
    for (const char* json : kSpecs) {
      const auto message = FromJson<v1::ModelSpec>(json);
      const auto spec = codec::DecodeSpec(message, SmallLimits());
      BP_HOLDS(spec.ok(), spec.status().ToString());
      KnownModel model{std::make_shared<engine::Network>(*spec), {}};
      model.info.id = "default/m";
      model.info.class_names = {message.class_names().begin(), message.class_names().end()};
      models.push_back(std::move(model));
    }
    return models;
  }();
  return all;
}

}  // namespace backprop::fuzz
