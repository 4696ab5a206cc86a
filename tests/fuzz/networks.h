// The networks against which requests and records are decoded.
#ifndef BACKPROP_TESTS_FUZZ_NETWORKS_H_
#define BACKPROP_TESTS_FUZZ_NETWORKS_H_

#include <google/protobuf/util/json_util.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "backprop/v1/model.pb.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/records/model_info.h"
#include "tests/fuzz/harness.h"

namespace backprop::fuzz {

// Parses a message of a seed.
template <class Message>
Message FromJson(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  BP_HOLDS(status.ok(), status.ToString(), "\n", json);
  return message;
}

// So small that an input cannot ask for much work.
inline base::Limits SmallLimits() {
  base::Limits limits;
  limits.max_models = 16;
  limits.max_parameters = 400;
  limits.max_total_parameters = 20'000;
  limits.max_layers = 6;
  limits.max_rows = 64;
  limits.max_workspace_bytes = 8 << 20;
  limits.max_concurrent_runs = 8;
  limits.max_message_bytes = 1 << 20;
  return limits;
}

// A classifier in float32, a regression in float64 with every part of a state, and a classifier
// with two outputs for each row.
inline constexpr const char* kSpecs[] = {
    R"({"inputSize":2,"layers":[{"units":4,"activation":"ACTIVATION_RELU"},{"units":2}],
        "optimizer":{"adam":{"learningRate":0.01}},"classNames":["no","yes"]})",
    R"({"inputSize":3,"layers":[{"units":3,"activation":"ACTIVATION_TANH","dropout":0.25},
        {"units":2}],"loss":{"meanSquaredError":{}},"dataType":"DATA_TYPE_FLOAT64",
        "optimizer":{"sgd":{"learningRate":0.01,"momentum":0.9},"clipNorm":1,
        "schedule":{"reduceOnPlateau":{"patience":"1"}}},
        "inputStandardization":{"mean":[0,1,2],"std":[1,2,3]}})",
    R"({"inputSize":2,"layers":[{"units":2}],"loss":{"binaryCrossEntropy":{"posWeight":[2,1]}},
        "optimizer":{"rmsprop":{"momentum":0.5,"centered":true}}})"};

struct KnownModel {
  std::shared_ptr<const engine::Network> network;
  records::ModelInfo info;
};

// The models of kSpecs.
const std::vector<KnownModel>& KnownModels();

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_NETWORKS_H_
