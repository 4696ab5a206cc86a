// Every rule about the other requests, at its limit and one past it.
#include "server/base/limits.h"
#include "tests/rpc/validation_fixture.h"

namespace backprop::rpc {
namespace {

TEST_F(ValidationTest, InputStandardization) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto with = [](const std::string& fields) {
    return Spec(R"("inputSize":2,"layers":[{"units":2}],"inputStandardization":{)" + fields + "}");
  };
  const std::string at = "spec.input_standardization";
  Check(&Stub::CreateModel,
        std::vector<Rule>{
            {with(""), StatusCode::OK, ""},
            {with(R"("mean":[0,1],"std":[1,2])"), StatusCode::OK, ""},
            {with(R"("mean":[0],"std":[1,2])"), bad,
             at + ".mean: expected 2 numbers, one per feature, or none, got 1"},
            {with(R"("mean":[0,0],"std":[1,0])"), bad,
             at + ".std[1]: must be positive and finite in the model's precision, got 0"},
            {with(R"("mean":[0,"NaN"],"std":[1,1])"), bad,
             at + ".mean[1]: must be finite in the model's precision, got nan"},
            {with(R"("mean":[0,0])"), bad,
             at + ": expected both mean and std or neither, got only mean"},
            {with(R"("std":[1,1])"), bad,
             at + ": expected both mean and std or neither, got only std"},
        });
  CreateModel("fits", R"({"inputSize":2,"layers":[{"units":2}],"inputStandardization":{}})");
  const std::string rows = R"({"model":"models/fits","batch":)" + std::string(kXorBatch) + "}";
  const std::string refusal =
      "models/fits: the first Train fits input_standardization; call Train first, or set "
      "mean and std";
  const auto unfitted = StatusCode::FAILED_PRECONDITION;
  Check(&Stub::Step, std::vector<Rule>{{rows, unfitted, refusal}});
  Check(&Stub::GradCheck, std::vector<Rule>{{rows, unfitted, refusal}});
  Check(&Stub::ComputeGradients, std::vector<Rule>{{rows, unfitted, refusal}});
  Check(&Stub::Evaluate,
        std::vector<Rule>{{R"({"model":"models/fits","data":)" + std::string(kXorBatch) + "}",
                           unfitted, refusal}});
  Check(&Stub::Predict, std::vector<Rule>{{R"({"model":"models/fits","inputs":{"values":[0,0]}})",
                                           unfitted, refusal}});
  Check(
      &Stub::SetParameters,
      std::vector<Rule>{
          {R"({"model":"models/line","parameters":{"inputStandardization":{}}})", bad,
           "parameters.input_standardization: must not be set, because the model does not "
           "standardise its inputs"},
          {R"({"model":"models/fits","parameters":{"inputStandardization":{}}})", bad,
           "parameters.input_standardization: expected mean and std, got neither"},
          {R"({"model":"models/fits","parameters":{"inputStandardization":{"mean":[1,1],"std":[1,2]}}})",
           StatusCode::OK, ""},
          {R"({"model":"models/fits","parameters":{"plateau":{"learningRate":1,"best":1}}})", bad,
           "parameters.plateau: must not be set, because the model's schedule is not "
           "reduce_on_plateau"},
      });
  changes_ = true;
  Check(&Stub::Step, std::vector<Rule>{{rows, StatusCode::OK, ""}});
}

TEST_F(ValidationTest, SampleWeights) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto with = [](const std::string& weights) {
    return StepOn("xor", R"({"inputs":{"values":[0,0,1,1]},"labels":{"values":[0,1]},
                             "sampleWeights":)" +
                             weights + "}");
  };
  changes_ = true;
  Check(&Stub::Step,
        std::vector<Rule>{
            {with(R"({"values":[0,2]})"), StatusCode::OK, ""},
            {with(R"({"values":[0,0]})"), bad, "batch.sample_weights: must not all be 0"},
            {StepOn("double", R"({"inputs":{"values":[0,1]},"targets":{"values":[0,1]},
                                  "sampleWeights":{"values":[1e308,1e308]}})"),
             bad, "batch.sample_weights: must have a finite sum"},
            {with(R"({"values":[-1,2]})"), bad,
             "batch.sample_weights[0]: must be at least 0, got -1"},
            {with(R"({"values":[1]})"), bad,
             "batch.sample_weights.values: expected 2 values for shape [2], got 1"},
            {with(R"({"values":[1,"Infinity"]})"), bad,
             "batch.sample_weights[1]: must be finite, got inf"},
        });
}

TEST_F(ValidationTest, Gradients) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto on = [](const std::string& gradients) {
    return R"({"model":"models/line","gradients":[)" + gradients + "]}";
  };
  const std::string weights = R"({"name":"layers[0].weights","tensor":{"values":[2]}})";
  const std::string bias = R"({"name":"layers[0].bias","tensor":{"values":[2]}})";
  changes_ = true;
  Check(
      &Stub::ApplyGradients,
      std::vector<Rule>{
          {on(weights + "," + bias), StatusCode::OK, ""},
          {on(weights), bad,
           "gradients: expected all 2 tensors of the model, but layers[0].bias is missing"},
          {on(weights + "," + weights), bad,
           "gradients[1].name: must be the name of a tensor of this model and occur only once, got "
           "\"layers[0].weights\""},
          {on(weights + R"(,{"name":"layers[0].bias","tensor":{"values":["NaN"]}})"), bad,
           "gradients[1].tensor[0]: must be finite, got nan"},
          {R"({"model":"models/line","expectedStep":7,"gradients":[)" + weights + "," + bias + "]}",
           StatusCode::ABORTED, "expected_step: expected 7, but the model is at step 1"},
          {on(R"({"name":"layers[0].weights","tensor":{"values":[1e38]}})" + std::string(",") +
              R"({"name":"layers[0].bias","tensor":{"values":[3e38]}})"),
           StatusCode::OK, ""},
      });
  changes_ = false;
  Check(
      &Stub::ComputeGradients,
      std::vector<Rule>{
          {R"({"model":"models/xor","batch":)" + std::string(kXorBatch) + "}", StatusCode::OK, ""},
          {R"({"model":"models/xor","encoding":9,"batch":)" + std::string(kXorBatch) + "}", bad,
           "encoding: expected VALUES or RAW, got 9"},
          {R"({"model":"models/xor"})", bad, "batch.inputs: expected values or raw, got neither"},
      });
}

TEST_F(ValidationTest, LabelsTtlAndRequestId) {
  const std::string spec = R"("spec":{"inputSize":2,"layers":[{"units":2}]},)";
  const auto bad = StatusCode::INVALID_ARGUMENT;
  std::string labels64, labels65;
  for (int i = 0; i < 65; ++i) {
    if (i < 64) labels64 += (i == 0 ? "" : ",") + ("\"k" + std::to_string(i) + "\":\"\"");
    labels65 += (i == 0 ? "" : ",") + ("\"k" + std::to_string(i) + "\":\"\"");
  }
  Check(&Stub::CreateModel,
        std::vector<Rule>{
            {"{" + spec + R"("labels":{"tenant.a-b_c":"x"}})", StatusCode::OK, ""},
            {"{" + spec + R"("labels":{"A":"x"}})", bad,
             "labels: a key must have 1 to 63 characters of [a-z0-9_.-], got \"A\""},
            {"{" + spec + R"("labels":{)" + labels64 + "}}", StatusCode::OK, ""},
            {"{" + spec + R"("labels":{)" + labels65 + "}}", bad,
             "labels: must have at most 64 entries, got 65"},
            {"{" + spec + R"("labels":{"a":")" + std::string(255, 'v') + R"("}})", StatusCode::OK,
             ""},
            {"{" + spec + R"("labels":{"a":")" + std::string(256, 'v') + R"("}})", bad,
             "labels[a]: must have at most 255 bytes, got 256"},
            {"{" + spec + R"("ttl":"1s"})", StatusCode::OK, ""},
            {"{" + spec + R"("ttl":"0.999s"})", bad,
             "ttl: must be between 1s and 10 years, got 999ms"},
            {"{" + spec + R"("ttl":"-5s"})", bad, "ttl: must be between 1s and 10 years, got -5s"},
            {"{" + spec + R"("ttl":"999999999s"})", bad,
             "ttl: must be between 1s and 10 years, got 277777h46m39s"},
            {"{" + spec + R"("requestId":")" + std::string(128, 'r') + R"("})", StatusCode::OK, ""},
            {"{" + spec + R"("requestId":")" + std::string(129, 'r') + R"("})", bad,
             "request_id: must have at most 128 characters, got 129"},
            {"{" + spec + R"("requestId":"a b"})", bad,
             "request_id: must be printable ASCII without spaces"},
        });
}

TEST_F(ValidationTest, Batches) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto full = StatusCode::RESOURCE_EXHAUSTED;
  const auto xor_batch = [](const std::string& inputs, const std::string& labels) {
    return StepOn("xor", R"({"inputs":)" + inputs + R"(,"labels":)" + labels + "}");
  };
  const std::string two = R"({"shape":[2,2],"values":[0,0,1,1]})";
  const std::string labels = R"({"values":[0,1]})";
  const std::string sixteen = R"({"values":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]})";
  changes_ = true;  // some pass
  Check(
      &Stub::Step,
      std::vector<Rule>{
          {xor_batch(two, labels), StatusCode::OK, ""},
          {StepOn("nope", kXorBatch), StatusCode::NOT_FOUND, "models/nope: no such model"},
          {R"({"model":"xor"})", bad, "model: expected models/{id}, got \"xor\""},
          {R"({"model":"models/x/y"})", bad, "model: expected models/{id}, got \"models/x/y\""},
          {StepOn("xor", "{}"), bad, "batch.inputs: expected values or raw, got neither"},
          {xor_batch(R"({"values":[1,1],"raw":"AAAAAA=="})", labels), bad,
           "batch.inputs: expected values or raw, got both"},
          {xor_batch(R"({"shape":[2,3],"values":[0,0,0,1,1,1]})", labels), bad,
           "batch.inputs.shape[1]: expected 2, got 3"},
          {xor_batch(R"({"shape":[0,2],"values":[0,0]})", labels), bad,
           "batch.inputs.shape[0]: must be at least 1, got 0"},
          {xor_batch(R"({"shape":[-1,2],"values":[0,0]})", labels), bad,
           "batch.inputs.shape[0]: must be at least 1, got -1"},
          {xor_batch(R"({"shape":[1,2,1],"values":[0,0]})", labels), bad,
           "batch.inputs.shape: expected at most 2 dimensions, got 3"},
          {xor_batch(R"({"shape":[2,2],"values":[0,0,1]})", labels), bad,
           "batch.inputs.values: expected 4 values for shape [2, 2], got 3"},
          {xor_batch(R"({"values":[0,0,1]})", labels), bad,
           "batch.inputs: expected a multiple of 2 values, as no shape is given, got 3"},
          {xor_batch(R"({"shape":[2147483647,2],"values":[0,0]})", labels), full,
           "batch.inputs: has 2147483647 rows, more than the limit of 8"},
          {xor_batch(sixteen, R"({"values":[0,0,0,0,0,0,0,0]})"), StatusCode::OK, ""},
          {xor_batch(R"({"values":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]})", labels), full,
           "batch.inputs: has 9 rows, more than the limit of 8"},
          {xor_batch(R"({"values":[0,"NaN",1,1]})", labels), bad,
           "batch.inputs[0][1]: must be finite, got nan"},
          {xor_batch(R"({"values":[0,0,"-Infinity",1]})", labels), bad,
           "batch.inputs[1][0]: must be finite, got -inf"},
          {xor_batch(R"({"values":[0,0,1,1e39]})", labels), bad,
           "batch.inputs[1][1]: does not fit float32, got 1e+39"},
          {StepOn("double", R"({"inputs":{"values":[1e39]},"targets":{"values":[0]}})"),
           StatusCode::OK, ""},
          // Raw bytes.
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAAAAAAA=","dataType":"DATA_TYPE_FLOAT32"})",
                     R"({"values":[0]})"),
           StatusCode::OK, ""},
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAAAAAAA="})", R"({"values":[0]})"), bad,
           "batch.inputs.data_type: must be FLOAT32 or FLOAT64 with raw, got unspecified"},
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAAAAAAA=","dataType":"DATA_TYPE_INT32"})",
                     R"({"values":[0]})"),
           bad, "batch.inputs.data_type: must be FLOAT32 or FLOAT64 with raw, got int32"},
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAAAAAAA=","dataType":77})", R"({"values":[0]})"),
           bad, "batch.inputs.data_type: expected a known data type, got 77"},
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAAAAAA==","dataType":"DATA_TYPE_FLOAT32"})",
                     R"({"values":[0]})"),
           bad,
           "batch.inputs.raw: must be a whole number of float32 elements of 4 bytes, got 7 bytes"},
          {xor_batch(R"({"shape":[1,2],"raw":"AAAAAA==","dataType":"DATA_TYPE_FLOAT32"})",
                     R"({"values":[0]})"),
           bad, "batch.inputs.raw: expected 8 bytes for shape [1, 2] of float32, got 4"},
          // Labels.
          {xor_batch(two, R"({"values":[0,2]})"), bad,
           "batch.labels[1]: must be a class index in [0, 2), got 2"},
          {xor_batch(two, R"({"values":[-1,0]})"), bad,
           "batch.labels[0]: must be a class index in [0, 2), got -1"},
          {xor_batch(two, R"({"values":[0,0.5]})"), bad,
           "batch.labels[1]: must be a class index in [0, 2), got 0.5"},
          {xor_batch(two, R"({"values":[0,"NaN"]})"), bad,
           "batch.labels[1]: must be a class index in [0, 2), got nan"},
          {xor_batch(two, R"({"values":[0]})"), bad,
           "batch.labels.values: expected 2 values for shape [2], got 1"},
          {xor_batch(two, R"({"shape":[3],"values":[0,0,0]})"), bad,
           "batch.labels.shape[0]: expected 2, got 3"},
          {xor_batch(two, R"({"raw":"AAAAAAEAAAA=","dataType":"DATA_TYPE_INT32"})"), StatusCode::OK,
           ""},
          {xor_batch(two, R"({"raw":"AAAAAP////8=","dataType":"DATA_TYPE_INT32"})"), bad,
           "batch.labels[1]: must be a class index in [0, 2), got -1"},
          {xor_batch(two, R"({"raw":"AAAAAAEAAAA=","dataType":"DATA_TYPE_FLOAT32"})"), bad,
           "batch.labels.data_type: must be INT32 or INT64 with raw, got float32"},
          {StepOn("xor", R"({"inputs":)" + two + "}"), bad,
           "batch: expected one of labels, label_names and targets, got none"},
          {StepOn("xor",
                  R"({"inputs":)" + two + R"(,"labels":)" + labels + R"(,"labelNames":["a"]})"),
           bad, "batch: expected one of labels, label_names and targets, got several"},
          {StepOn("xor", R"({"inputs":)" + two + R"(,"labelNames":["a","b"]})"), bad,
           "batch.label_names: must not be set, because the model has no class_names; set labels "
           "instead"},
          // Names.
          {StepOn("named", R"({"inputs":)" + two + R"(,"labelNames":["dog","owl"]})"),
           StatusCode::OK, ""},
          {StepOn("named", R"({"inputs":)" + two + R"(,"labelNames":["dog"]})"), bad,
           "batch.label_names: expected 2 names, got 1"},
          {StepOn("named", R"({"inputs":)" + two + R"(,"labelNames":["dog","cow"]})"), bad,
           "batch.label_names[1]: expected one of cat, dog, owl, got \"cow\""},
          {StepOn("named", R"({"inputs":{"values":[0,0,1,"NaN"]},"labelNames":["dog","owl"]})"),
           bad, "batch.inputs[1][1] (height): must be finite, got nan"},
          // Targets.
          {StepOn("xor", R"({"inputs":)" + two + R"(,"targets":{"values":[0.3,0.7,1,0]}})"),
           StatusCode::OK, ""},
          {StepOn("xor", R"({"inputs":)" + two + R"(,"targets":{"values":[0.3,0.7009,1,0]}})"),
           StatusCode::OK, ""},
          {StepOn("xor", R"({"inputs":)" + two + R"(,"targets":{"values":[0.25,0.5,1,0]}})"), bad,
           "batch.targets[0]: must sum to 1, got 0.75"},
          {StepOn("xor", R"({"inputs":)" + two + R"(,"targets":{"values":[1.5,-0.5,1,0]}})"), bad,
           "batch.targets[0][0]: must be in [0, 1], got 1.5"},
          {StepOn("xor", R"({"inputs":)" + two + R"(,"targets":{"shape":[2,1],"values":[1,1]}})"),
           bad, "batch.targets.shape[1]: expected 2, got 1"},
          {StepOn("binary", R"({"inputs":)" + two + R"(,"labels":)" + labels + "}"), StatusCode::OK,
           ""},
          {StepOn("binary", R"({"inputs":)" + two + R"(,"targets":{"values":[0,1.5]}})"), bad,
           "batch.targets[1][0]: must be in [0, 1], got 1.5"},
          {StepOn("multi", R"({"inputs":)" + two + R"(,"labels":)" + labels + "}"), bad,
           "batch.labels: must not be set, because a model with several binary outputs takes "
           "targets"},
          {StepOn("line", R"({"inputs":{"values":[1,2]},"labels":)" + labels + "}"), bad,
           "batch.labels: must not be set, because a regression model takes targets"},
          {StepOn("line", R"({"inputs":{"values":[1,2]},"targets":{"values":[-5,1e6]}})"),
           StatusCode::OK, ""},
      });
}

TEST_F(ValidationTest, StepKeys) {
  const std::string step = R"({"model":"models/xor","batch":)" + std::string(kXorBatch);
  changes_ = true;
  Check(&Stub::Step,
        std::vector<Rule>{
            {step + R"(,"expectedStep":0})", StatusCode::OK, ""},
            {step + R"(,"expectedStep":0})", StatusCode::ABORTED,
             "expected_step: expected 0, but the model is at step 1"},
            {step + R"(,"expectedStep":2})", StatusCode::ABORTED,
             "expected_step: expected 2, but the model is at step 1"},
            {step + R"(,"requestId":"a"})", StatusCode::OK, ""},
            {step + R"(,"requestId":"a"})", StatusCode::OK, ""},
            {step + R"(,"requestId":"a","expectedStep":1})", StatusCode::INVALID_ARGUMENT,
             "request_id: was already used for a different request"},
        });
  EXPECT_EQ(GetModel("xor").step(), 2);
}

TEST_F(ValidationTest, Predict) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto on = [](const std::string& model, const std::string& outputs) {
    const std::string inputs = model == "line" ? "[1]" : "[1,2]";
    return R"({"model":"models/)" + model + R"(","inputs":{"values":)" + inputs +
           R"(},"outputs":[)" + outputs + "]}";
  };
  Check(&Stub::Predict,
        std::vector<Rule>{
            {on("xor", ""), StatusCode::OK, ""},
            {R"({"model":"models/xor"})", bad, "inputs: expected values or raw, got neither"},
            {on("xor", "0"), bad, "outputs[0]: expected LOGITS, PROBABILITIES or CLASSES, got 0"},
            {on("xor", "1,9"), bad, "outputs[1]: expected LOGITS, PROBABILITIES or CLASSES, got 9"},
            {on("line", "1"), StatusCode::OK, ""},
            {on("line", "2"), bad, "outputs[0]: a regression model has no probabilities"},
            {on("line", "3"), bad, "outputs[0]: a regression model has no classes"},
            {on("multi", "2"), StatusCode::OK, ""},
            {on("multi", "3"), bad,
             "outputs[0]: a model with several binary outputs has no single class; request "
             "PROBABILITIES"},
        });
}

TEST_F(ValidationTest, EvaluateAndGradCheck) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  Check(&Stub::Evaluate,
        std::vector<Rule>{
            {R"({"model":"models/xor","data":)" + std::string(kXorBatch) + "}", StatusCode::OK, ""},
            {R"({"model":"models/xor","data":{"inputs":{"values":[1,1]}}})", bad,
             "data: expected one of labels, label_names and targets, got none"},
            {R"({"model":"models/none"})", StatusCode::NOT_FOUND, "models/none: no such model"},
            {R"({"model":"models/xor","topK":1,"data":)" + std::string(kXorBatch) + "}",
             StatusCode::OK, ""},
            {R"({"model":"models/xor","topK":0,"data":)" + std::string(kXorBatch) + "}", bad,
             "top_k: must be at least 1, got 0"},
        });
  const auto with = [](const std::string& config) {
    return R"({"model":"models/xor","batch":)" + std::string(kXorBatch) + R"(,"config":{)" +
           config + "}}";
  };
  Check(&Stub::GradCheck,
        std::vector<Rule>{
            {with(""), StatusCode::OK, ""},
            {with(R"("epsilon":1e-12)"), StatusCode::OK, ""},
            {with(R"("epsilon":9e-13)"), bad, "config.epsilon: must be in [1e-12, 1], got 9e-13"},
            {with(R"("epsilon":1.1)"), bad, "config.epsilon: must be in [1e-12, 1], got 1.1"},
            {with(R"("epsilon":"NaN")"), bad, "config.epsilon: must be in [1e-12, 1], got nan"},
            {with(R"("tolerance":1)"), StatusCode::OK, ""},
            {with(R"("tolerance":0)"), bad, "config.tolerance: must be in (0, 1], got 0"},
            {with(R"("kernelTolerance":2)"), bad,
             "config.kernel_tolerance: must be in (0, 1], got 2"},
            {with(R"("maxEntriesPerTensor":1)"), StatusCode::OK, ""},
            {with(R"("maxEntriesPerTensor":0)"), bad,
             "config.max_entries_per_tensor: must be at least 1, got 0"},
        });
}

TEST_F(ValidationTest, Parameters) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto set = [](const std::string& parameters) {
    return R"({"model":"models/line","parameters":{)" + parameters + "}}";
  };
  const std::string weights = R"({"name":"layers[0].weights","tensor":{"values":[2]}})";
  changes_ = true;
  Check(&Stub::SetParameters,
        std::vector<Rule>{
            {R"({"model":"models/line"})", bad, "parameters: is required"},
            {set(R"("tensors":[)" + weights + "]"), StatusCode::OK, ""},
            {set(R"("tensors":[)" + weights + "," + weights + "]"), bad,
             "parameters.tensors[1].name: must be the name of a tensor of this model and occur "
             "only once, got "
             "\"layers[0].weights\""},
            {set(R"("tensors":[{"name":"layers[1].weights","tensor":{"values":[2]}}])"), bad,
             "parameters.tensors[0].name: must be the name of a tensor of this model and occur "
             "only once, got "
             "\"layers[1].weights\""},
            {set(R"("tensors":[{"name":"layers[0].bias","tensor":{"values":[2,3]}}])"), bad,
             "parameters.tensors[0].tensor.values: expected 1 values for shape [1], got 2"},
            {set(R"("tensors":[{"name":"layers[0].bias","tensor":{"values":["NaN"]}}])"), bad,
             "parameters.tensors[0].tensor[0]: must be finite, got nan"},
            {set(R"("step":-1)"), bad, "parameters.step: must be at least 0, got -1"},
            {set(R"("optimizerStep":-1)"), bad,
             "parameters.optimizer_step: must be at least 0, got -1"},
            {set(R"("step":"9223372036854775807")"), bad,
             "parameters.step: must be at most 2^61, got 9223372036854775807"},
            {set(R"("optimizerStep":"2305843009213693953")"), bad,
             "parameters.optimizer_step: must be at most 2^61, got 2305843009213693953"},
            {set(R"("step":7)"), StatusCode::OK, ""},
        });
  Check(&Stub::GetParameters, std::vector<Rule>{{R"({"model":"models/line","encoding":9})", bad,
                                                 "encoding: expected VALUES or RAW, got 9"}});
  Check(
      &Stub::CreateModel,
      std::vector<Rule>{
          {R"({"spec":{"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}}},
                 "initialParameters":{"tensors":[)" +
               weights + "]}}",
           bad,
           "initial_parameters.tensors: expected all 2 tensors of the model, but layers[0].bias is "
           "missing"}});
}

TEST_F(ValidationTest, ThePlateauOfASchedule) {
  CreateModel("plateau", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}},
                             "optimizer":{"sgd":{},"schedule":{"reduceOnPlateau":{}}}})");
  const auto set = [](const std::string& bad_epochs) {
    return R"({"model":"models/plateau","parameters":{"plateau":{"learningRate":1,"best":1,
               "badEpochs":")" +
           bad_epochs + R"("}}})";
  };
  changes_ = true;
  Check(&Stub::SetParameters,
        std::vector<Rule>{
            {set("2305843009213693952"), StatusCode::OK, ""},
            {set("2305843009213693953"), StatusCode::INVALID_ARGUMENT,
             "parameters.plateau.bad_epochs: must be at most 2^61, got 2305843009213693953"}});
}

TEST_F(ValidationTest, AdamsStateIsWholeAndNotNegative) {
  CreateModel("adam", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}},
                          "optimizer":{"adam":{}}})");
  const auto set = [](const std::string& v) {
    std::string state;
    for (const char* tensor : {"weights", "bias"}) {
      for (const char* slot : {"exp_avg", "exp_avg_sq"}) {
        state += (state.empty() ? "" : ",") + std::string(R"({"name":"layers[0].)") + tensor + "/" +
                 slot + R"(","tensor":{"values":[)" +
                 (std::string(slot) == "exp_avg_sq" ? v : "-1") + "]}}";
      }
    }
    return R"({"model":"models/adam","parameters":{"optimizerState":[)" + state + "]}}";
  };
  changes_ = true;
  Check(
      &Stub::SetParameters,
      std::vector<Rule>{
          {set("0"), StatusCode::OK, ""},
          {set("-1"), StatusCode::INVALID_ARGUMENT,
           "parameters.optimizer_state: exp_avg_sq must not be negative, got -1"},
          {R"({"model":"models/adam","parameters":{"optimizerState":[{"name":"layers[0].bias/exp_avg",
                 "tensor":{"values":[0]}}]}})",
           StatusCode::INVALID_ARGUMENT,
           "parameters.optimizer_state: expected all 4 tensors of the model, but "
           "layers[0].weights/exp_avg is missing"},
      });
}

TEST_F(ValidationTest, NamesOfModels) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  Check(&Stub::GetModel, std::vector<Rule>{{"{}", bad, "name: expected models/{id}, got \"\""},
                                           {R"({"name":"models/none"})", StatusCode::NOT_FOUND,
                                            "models/none: no such model"}});
  Check(&Stub::DeleteModel,
        std::vector<Rule>{
            {R"({"name":"x\n"})", bad, "name: expected models/{id}, got \"x\\n\""},
            {R"({"name":"models/none"})", StatusCode::NOT_FOUND, "models/none: no such model"}});
  Check(
      &Stub::ListModels,
      std::vector<Rule>{{R"({"pageSize":1000})", StatusCode::OK, ""},
                        {R"({"pageSize":1001})", bad, "page_size: must be in [0, 1000], got 1001"},
                        {R"({"pageSize":-1})", bad, "page_size: must be in [0, 1000], got -1"},
                        {R"({"pageToken":"!"})", bad,
                         "page_token: must be a next_page_token of ListModels, got \"!\""}});
  Check(&Stub::StopTraining,
        std::vector<Rule>{
            {R"({"model":"models/none"})", StatusCode::NOT_FOUND, "models/none: no such model"},
            {R"({"model":"models/xor"})", StatusCode::FAILED_PRECONDITION,
             "models/xor: no run is under way"},
            {R"({"model":"models/xor","run":"models/line/runs/1"})", bad,
             "run: expected models/xor/runs/{n}, got \"models/line/runs/1\""},
            {R"({"model":"models/xor","run":"models/xor/runs/01"})", bad,
             "run: expected models/xor/runs/{n}, got \"models/xor/runs/01\""}});
}

TEST_F(ValidationTest, TrainAndWatch) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto with = [](const std::string& config) {
    return R"({"model":"models/xor","data":)" + std::string(kXorBatch) + R"(,"config":{)" + config +
           "}}";
  };
  for (const Rule& rule : std::vector<Rule>{
           {with(R"("iterations":1)"), StatusCode::OK, ""},
           {with(""), bad, "config: expected iterations or epochs, got neither"},
           {with(R"("iterations":0)"), bad, "config.iterations: must be in [1, 2^53], got 0"},
           {with(R"("iterations":9007199254740993)"), bad,
            "config.iterations: must be in [1, 2^53], got 9007199254740993"},
           {with(R"("epochs":0)"), bad, "config.epochs: must be in [1, 9007199254740992], got 0"},
           {with(R"("epochs":9007199254740992,"batchSize":1)"), bad,
            "config.epochs: must be in [1, 2251799813685248], got 9007199254740992"},
           {with(R"("iterations":1,"batchSize":4)"), StatusCode::OK, ""},
           {with(R"("iterations":1,"batchSize":5)"), StatusCode::OK, ""},
           {with(R"("iterations":1,"batchSize":2147483647)"), StatusCode::OK, ""},
           {with(R"("iterations":1,"batchSize":0)"), bad,
            "config.batch_size: must be at least 1, got 0"},
           {with(R"("iterations":1,"batchSize":-1)"), bad,
            "config.batch_size: must be at least 1, got -1"},
           {with(R"("epochs":1,"validationSplit":0.25)"), StatusCode::OK, ""},
           {with(R"("epochs":1,"validationSplit":0.75)"), StatusCode::OK, ""},
           {with(R"("epochs":1,"validationSplit":0.76)"), bad,
            "config.validation_split: must leave rows for training, got 0.76 of 4 rows"},
           {with(R"("epochs":1,"validationSplit":0)"), bad,
            "config.validation_split: must be in (0, 1), got 0"},
           {with(R"("epochs":1,"validationSplit":1)"), bad,
            "config.validation_split: must be in (0, 1), got 1"},
           {with(R"("epochs":1,"validationSplit":0.25,"batchSize":4)"), StatusCode::OK, ""},
           {R"({"model":"models/xor","config":{"epochs":1,"validationSplit":0.5},"data":)" +
                std::string(kXorBatch) + R"(,"validation":)" + kXorBatch + "}",
            bad, "config.validation_split: must not be set, because validation data is given"},
           {R"({"model":"models/xor","config":{"epochs":1},"data":)" + std::string(kXorBatch) +
                R"(,"validation":{"inputs":{"values":[1]}}})",
            bad, "validation.inputs: expected a multiple of 2 values, as no shape is given, got 1"},
           {with(R"("epochs":1,"earlyStopping":{"patience":1})"), StatusCode::OK, ""},
           {with(R"("epochs":1,"earlyStopping":{"patience":0})"), bad,
            "config.early_stopping.patience: must be at least 1, got 0"},
           {with(R"("epochs":1,"earlyStopping":{"minDelta":-1})"), bad,
            "config.early_stopping.min_delta: must be at least 0 and finite in the model's "
            "precision, got -1"},
           {with(R"("iterations":1,"reportEvery":0)"), bad,
            "config.report_every: must be at least 1, got 0"},
           {with(R"("iterations":1,"reportInterval":"0.001s")"), StatusCode::OK, ""},
           {with(R"("iterations":1,"reportInterval":"0.000999999s")"), bad,
            "config.report_interval: must be between 1ms and 10 years, got 999.999us"},
           {with(R"("iterations":1,"reportInterval":"-1s")"), bad,
            "config.report_interval: must be between 1ms and 10 years, got -1s"},
           {with(R"("iterations":1,"reportInterval":"315619201s")"), bad,
            "config.report_interval: must be between 1ms and 10 years, got 87672h1s"},
           {R"({"model":"models/none"})", StatusCode::NOT_FOUND, "models/none: no such model"},
           {R"({"model":"models/xor","config":{"iterations":1}})", bad,
            "data.inputs: expected values or raw, got neither"},
       }) {
    SCOPED_TRACE(rule.json);
    std::vector<v1::TrainingEvent> events;
    ExpectAsRuled(Train(Json<v1::TrainRequest>(rule.json), &events), rule);
    EXPECT_EQ(events.empty(), rule.code != StatusCode::OK);
  }
  for (const Rule& rule : std::vector<Rule>{
           {R"({"model":"models/line"})", StatusCode::NOT_FOUND, "models/line: has no runs"},
           {R"({"model":"models/xor","run":"models/xor/runs/99"})", StatusCode::NOT_FOUND,
            "models/xor/runs/99: no such run"},
           {R"({"model":"models/xor","fromSequence":-1})", bad,
            "from_sequence: must be at least 0, got -1"},
           {R"({"model":"models/xor"})", StatusCode::OK, ""},
       }) {
    SCOPED_TRACE(rule.json);
    grpc::ClientContext call;
    const auto reader =
        server->stub->WatchTraining(&call, Json<v1::WatchTrainingRequest>(rule.json));
    v1::WatchTrainingResponse response;
    while (reader->Read(&response)) {
    }
    ExpectAsRuled(reader->Finish(), rule);
  }
}

TEST_F(ValidationTest, WorkspacesAndMessagesAreLimited) {
  base::Limits limits;
  limits.max_workspace_bytes = 100'000;
  limits.max_message_bytes = 100'000;
  server = std::make_unique<TestServer>(limits);
  CreateModel("wide", R"({"inputSize":1,"layers":[{"units":4000},{"units":2}]})");
  v1::StepResponse step;
  auto status =
      Call(&Stub::Step, Json<v1::StepRequest>(StepOn("wide", R"({"inputs":{"values":[1,2]},
                     "labels":{"values":[0,1]}})")),
           &step);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("batch.inputs: a pass over 2 rows of this model needs"),
            std::string::npos)
      << status.error_message();
  v1::GetParametersResponse parameters;
  status = Call(&Stub::GetParameters, Json<v1::GetParametersRequest>(R"({"model":"models/wide"})"),
                &parameters);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("set encoding to RAW"), std::string::npos);
  // Larger than the transport's limit: rejected by gRPC before it is read.
  v1::PredictRequest predict;
  predict.set_model("models/wide");
  predict.mutable_inputs()->set_raw(std::string(400'000, '\0'));
  predict.mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  v1::PredictResponse prediction;
  EXPECT_EQ(Call(&Stub::Predict, predict, &prediction).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  // A small request with a large response.
  CreateModel("many", R"({"inputSize":1,"layers":[{"units":100}]})");
  predict.set_model("models/many");
  predict.mutable_inputs()->set_raw(std::string(4 * 300, '\0'));
  status = Call(&Stub::Predict, predict, &prediction);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("inputs: the response would have 120300 bytes"),
            std::string::npos)
      << status.error_message();
}

}  // namespace
}  // namespace backprop::rpc
