// Every rule about specs, at its limit and one past it.
#include "tests/rpc/validation_fixture.h"

namespace backprop::rpc {
namespace {

using SpecValidationTest = ValidationTest;

TEST_F(SpecValidationTest, CreateModel) {
  const std::string one = R"("inputSize":2,"layers":[{"units":2}])";
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto full = StatusCode::RESOURCE_EXHAUSTED;
  Check(
      &Stub::CreateModel,
      std::vector<Rule>{
          {"{}", bad, "spec: is required"},
          {Spec(one), StatusCode::OK, ""},
          {R"({"modelId":"A","spec":{}})", bad,
           "model_id: expected 1 to 63 characters of [a-z0-9_-], starting with a letter or digit, "
           "got \"A\""},
          {R"({"modelId":"-a","spec":{}})", bad,
           "model_id: expected 1 to 63 characters of [a-z0-9_-], starting with a letter or digit, "
           "got \"-a\""},
          {R"({"modelId":")" + std::string(63, 'a') + R"(","spec":{)" + one + "}}", StatusCode::OK,
           ""},
          {R"({"modelId":")" + std::string(64, 'a') + R"(","spec":{)" + one + "}}", bad,
           "model_id: expected 1 to 63 characters of [a-z0-9_-], starting with a letter or digit, "
           "got \"" +
               std::string(64, 'a') + "\""},
          {R"({"modelId":"xor","spec":{)" + one + "}}", StatusCode::ALREADY_EXISTS,
           "models/xor: already exists"},
          {Spec(R"("layers":[{"units":2}])"), bad, "spec.input_size: must be at least 1, got 0"},
          {Spec(R"("inputSize":-1,"layers":[{"units":2}])"), bad,
           "spec.input_size: must be at least 1, got -1"},
          {Spec(R"("inputSize":2)"), bad, "spec.layers: must have at least one layer, got 0"},
          {Spec(R"("inputSize":2,"layers":[{"units":0},{"units":2}])"), bad,
           "spec.layers[0].units: must be at least 1, got 0"},
          {Spec(R"("inputSize":0,"layers":[{"units":0},{"units":2}])"), bad,
           "spec.input_size: must be at least 1, got 0; "
           "spec.layers[0].units: must be at least 1, got 0"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"activation":99},{"units":2}])"), bad,
           "spec.layers[0].activation: expected a known activation, got 99"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"initializer":99}])"), bad,
           "spec.layers[0].initializer: expected a known initializer, got 99"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"biasInitializer":"INITIALIZER_ZEROS"}])"),
           StatusCode::OK, ""},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"initializer":"INITIALIZER_HE_NORMAL",
                     "biasInitializer":"INITIALIZER_PYTORCH_LINEAR"}])"),
           StatusCode::OK, ""},
          {Spec(
               R"("inputSize":2,"layers":[{"units":2,"biasInitializer":"INITIALIZER_HE_NORMAL"}])"),
           bad,
           "spec.layers[0].bias_initializer: expected ZEROS, CONSTANT or PYTORCH_LINEAR, got 1"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"biasInitializer":99}])"), bad,
           "spec.layers[0].bias_initializer: expected ZEROS, CONSTANT or PYTORCH_LINEAR, got 99"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"biasInitializer":"INITIALIZER_CONSTANT"}])"),
           bad, "spec.layers[0].initial_bias: is required with CONSTANT"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"initialBias":0}])"), bad,
           "spec.layers[0].initial_bias: is allowed only with CONSTANT"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"biasInitializer":"INITIALIZER_CONSTANT",
                     "initialBias":1e39}])"),
           bad, "spec.layers[0].initial_bias: must be finite in the model's precision, got 1e+39"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"biasInitializer":"INITIALIZER_CONSTANT",
                     "initialBias":-1}])"),
           StatusCode::OK, ""},
          {Spec(R"("inputSize":2,"layers":[{"units":1}])"), bad,
           "spec.layers[0].units: must be at least 2 for softmax cross-entropy, got 1"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"activation":"ACTIVATION_TANH"}])"), bad,
           "spec.layers[0].activation: must be IDENTITY, because a cross-entropy loss takes "
           "logits"},
          {Spec(R"("inputSize":2,"layers":[{"units":1,"activation":"ACTIVATION_TANH"}],
                     "loss":{"meanSquaredError":{}})"),
           StatusCode::OK, ""},
          {Spec(one + R"(,"loss":{})"), bad, "spec.loss: expected one kind of loss, got none"},
          {Spec(one + R"(,"optimizer":{})"), bad,
           "spec.optimizer: expected one kind of optimiser, got none"},
          {Spec(one + R"(,"dataType":3)"), bad,
           "spec.data_type: expected FLOAT32 or FLOAT64, got 3"},
          // The limit of layers, and one past it.
          {Spec(R"("inputSize":1,"layers":[{"units":1},{"units":1},{"units":1},{"units":2}])"),
           StatusCode::OK, ""},
          {Spec(
               R"("inputSize":1,"layers":[{"units":1},{"units":1},{"units":1},{"units":1},{"units":2}])"),
           full, "spec.layers: has 5 layers, more than the limit of 4"},
          // (inputs + 1)·units parameters: 1000, and one past it.
          {Spec(R"("inputSize":499,"layers":[{"units":2}])"), StatusCode::OK, ""},
          {Spec(R"("inputSize":90,"layers":[{"units":11}])"), full,
           "spec.layers: the model would have more parameters than the limit of 1000"},
          {Spec(R"("inputSize":2147483647,"layers":[{"units":2147483647},{"units":2147483647}])"),
           full, "spec.layers: the model would have more parameters than the limit of 1000"},
          {Spec(one + R"(,"classNames":["a"])"), bad,
           "spec.class_names: expected 2 names or none, got 1"},
          {Spec(one + R"(,"classNames":["a","a"])"), bad,
           "spec.class_names[1]: must be unique, got \"a\" twice"},
          {Spec(one + R"(,"classNames":["a",""])"), bad, "spec.class_names[1]: must not be empty"},
          {Spec(one + R"(,"classNames":["a",")" + std::string(255, 'n') + R"("])"), StatusCode::OK,
           ""},
          {Spec(one + R"(,"classNames":["a",")" + std::string(256, 'n') + R"("])"), bad,
           "spec.class_names[1]: must have at most 255 bytes, got 256"},
          {Spec(one + R"(,"featureNames":["a"])"), bad,
           "spec.feature_names: expected 2 names or none, got 1"},
          {Spec(R"("inputSize":2,"layers":[{"units":2}],"loss":{"meanSquaredError":{}},
                     "classNames":["a","b"])"),
           bad, "spec.class_names: must be empty for a regression model, got 2 names"},
          {Spec(R"("inputSize":2,"layers":[{"units":1}],"loss":{"binaryCrossEntropy":{}},
                     "classNames":["no","yes"])"),
           StatusCode::OK, ""},
      });
}

TEST_F(SpecValidationTest, Optimizers) {
  const std::string one = R"("inputSize":2,"layers":[{"units":2}],"optimizer":)";
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const std::string positive = ": must be positive and finite in the model's precision, got ";
  const std::string fraction = ": must be in [0, 1), got ";
  const std::string sgd = "spec.optimizer.sgd.", adam = "spec.optimizer.adam.";
  Check(&Stub::CreateModel,
        std::vector<Rule>{
            {Spec(one + R"({"sgd":{}})"), StatusCode::OK, ""},
            {Spec(one + R"({"sgd":{"learningRate":0}})"), bad,
             sgd + "learning_rate" + positive + "0"},
            {Spec(one + R"({"sgd":{"learningRate":-1}})"), bad,
             sgd + "learning_rate" + positive + "-1"},
            {Spec(one + R"({"sgd":{"learningRate":"NaN"}})"), bad,
             sgd + "learning_rate" + positive + "nan"},
            {Spec(one + R"({"sgd":{"learningRate":"Infinity"}})"), bad,
             sgd + "learning_rate" + positive + "inf"},
            {Spec(one + R"({"sgd":{"learningRate":1e39}})"), bad,
             sgd + "learning_rate" + positive + "1e+39"},
            {Spec(one + R"({"sgd":{"learningRate":1e-60}})"), bad,
             sgd + "learning_rate" + positive + "1e-60"},
            {Spec(one + R"({"sgd":{"learningRate":1e39}},"dataType":"DATA_TYPE_FLOAT64")"),
             StatusCode::OK, ""},
            {Spec(one + R"({"sgd":{"momentum":0.999}})"), StatusCode::OK, ""},
            {Spec(one + R"({"sgd":{"momentum":1}})"), bad, sgd + "momentum" + fraction + "1"},
            {Spec(one + R"({"sgd":{"momentum":-0.1}})"), bad, sgd + "momentum" + fraction + "-0.1"},
            {Spec(one + R"({"sgd":{"momentum":"NaN"}})"), bad, sgd + "momentum" + fraction + "nan"},
            {Spec(one + R"({"adam":{"beta1":0,"beta2":0}})"), StatusCode::OK, ""},
            {Spec(one + R"({"adam":{"beta1":1}})"), bad, adam + "beta1" + fraction + "1"},
            {Spec(one + R"({"adam":{"beta2":1}})"), bad, adam + "beta2" + fraction + "1"},
            {Spec(one + R"({"adam":{"epsilon":0}})"), bad, adam + "epsilon" + positive + "0"},
            {Spec(one + R"({"adam":{"learningRate":-1,"beta1":2}})"), bad,
             adam + "learning_rate" + positive + "-1; " + adam + "beta1" + fraction + "2"},
        });
}

TEST_F(SpecValidationTest, LayersOfEveryKind) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto hidden = [](const std::string& fields) {
    return Spec(R"("inputSize":2,"layers":[{"units":3,)" + fields + R"(},{"units":2}])");
  };
  const std::string at = "spec.layers[0].";
  Check(
      &Stub::CreateModel,
      std::vector<Rule>{
          {hidden(R"("activation":"ACTIVATION_LEAKY_RELU","negativeSlope":0)"), StatusCode::OK, ""},
          {hidden(R"("activation":"ACTIVATION_LEAKY_RELU","negativeSlope":1)"), bad,
           at + "negative_slope: must be in [0, 1), got 1"},
          {hidden(R"("activation":"ACTIVATION_LEAKY_RELU","negativeSlope":-0.1)"), bad,
           at + "negative_slope: must be in [0, 1), got -0.1"},
          {hidden(R"("negativeSlope":0.1)"), bad,
           at + "negative_slope: is allowed only with LEAKY_RELU"},
          {hidden(R"("activation":"ACTIVATION_ELU","alpha":2)"), StatusCode::OK, ""},
          {hidden(R"("activation":"ACTIVATION_ELU","alpha":0)"), bad,
           at + "alpha: must be positive and finite in the model's precision, got 0"},
          {hidden(R"("alpha":1)"), bad, at + "alpha: is allowed only with ELU"},
          {hidden(R"("dropout":0.99)"), StatusCode::OK, ""},
          {hidden(R"("dropout":1)"), bad, at + "dropout: must be in [0, 1), got 1"},
          {hidden(R"("dropout":"NaN")"), bad, at + "dropout: must be in [0, 1), got nan"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"dropout":0.1}])"), bad,
           at + "dropout: must be 0 in the last layer, got 0.1"},
          {Spec(R"("inputSize":2,"layers":[{"units":2,"dropout":0}])"), StatusCode::OK, ""},
          {hidden(R"("initializer":"INITIALIZER_CONSTANT","initialValue":-3)"), StatusCode::OK, ""},
          {hidden(R"("initializer":"INITIALIZER_CONSTANT")"), bad,
           at + "initial_value: is required with CONSTANT"},
          {hidden(R"("initializer":"INITIALIZER_CONSTANT","initialValue":1e39)"), bad,
           at + "initial_value: must be finite in the model's precision, got 1e+39"},
          {hidden(R"("initialValue":1)"), bad, at + "initial_value: is allowed only with CONSTANT"},
      });
}

TEST_F(SpecValidationTest, LossesOfEveryKind) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto with = [](const std::string& loss) {
    return Spec(R"("inputSize":2,"layers":[{"units":2}],"loss":)" + loss);
  };
  const std::string softmax = "spec.loss.softmax_cross_entropy.";
  const std::string binary = "spec.loss.binary_cross_entropy.";
  Check(&Stub::CreateModel,
        std::vector<Rule>{
            {with(R"({"softmaxCrossEntropy":{"labelSmoothing":0.9,"classWeights":[0,1]}})"),
             StatusCode::OK, ""},
            {with(R"({"softmaxCrossEntropy":{"labelSmoothing":1}})"), bad,
             softmax + "label_smoothing: must be in [0, 1), got 1"},
            {with(R"({"softmaxCrossEntropy":{"classWeights":[1]}})"), bad,
             softmax + "class_weights: expected 2 numbers, one per output, or none, got 1"},
            {with(R"({"softmaxCrossEntropy":{"classWeights":[1,-1]}})"), bad,
             softmax + "class_weights[1]: must be at least 0 and finite in the model's precision, "
                       "got -1"},
            {with(R"({"softmaxCrossEntropy":{"classWeights":[0,0]}})"), bad,
             softmax + "class_weights: must not all be 0"},
            {with(R"({"binaryCrossEntropy":{"posWeight":[1,0.5],"classWeights":[1,0]}})"),
             StatusCode::OK, ""},
            {with(R"({"binaryCrossEntropy":{"posWeight":[1,0]}})"), bad,
             binary + "pos_weight[1]: must be positive and finite in the model's precision, got 0"},
            {with(R"({"binaryCrossEntropy":{"posWeight":[1,1,1]}})"), bad,
             binary + "pos_weight: expected 2 numbers, one per output, or none, got 3"},
            {with(R"({"meanAbsoluteError":{}})"), StatusCode::OK, ""},
            {with(R"({"huber":{"delta":0.1}})"), StatusCode::OK, ""},
            {with(R"({"huber":{"delta":0}})"), bad,
             "spec.loss.huber.delta: must be positive and finite in the model's precision, got 0"},
        });
}

TEST_F(SpecValidationTest, OptimizersAndSchedulesOfEveryKind) {
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const auto with = [](const std::string& fields) {
    return Spec(R"("inputSize":2,"layers":[{"units":2}],"optimizer":{)" + fields + "}");
  };
  const auto schedule = [&](const std::string& fields) {
    return with(R"("sgd":{"learningRate":0.5},"schedule":{)" + fields + "}");
  };
  const std::string positive = ": must be positive and finite in the model's precision, got ";
  const std::string least = ": must be at least 0 and finite in the model's precision, got ";
  const std::string at = "spec.optimizer.", plan = "spec.optimizer.schedule.";
  Check(
      &Stub::CreateModel,
      std::vector<Rule>{
          {with(R"("sgd":{"momentum":0.5,"nesterov":true})"), StatusCode::OK, ""},
          {with(R"("sgd":{"nesterov":true})"), bad,
           at + "sgd.nesterov: requires a momentum above 0"},
          {with(R"("sgd":{"weightDecay":-1})"), bad, at + "sgd.weight_decay" + least + "-1"},
          {with(R"("adam":{"weightDecay":"Infinity"})"), bad,
           at + "adam.weight_decay" + least + "inf"},
          {with(R"("adamw":{})"), StatusCode::OK, ""},
          {with(R"("adamw":{"beta1":1})"), bad, at + "adamw.beta1: must be in [0, 1), got 1"},
          {with(R"("rmsprop":{"alpha":0,"centered":true,"momentum":0.9})"), StatusCode::OK, ""},
          {with(R"("rmsprop":{"alpha":1})"), bad, at + "rmsprop.alpha: must be in [0, 1), got 1"},
          {with(R"("rmsprop":{"momentum":1})"), bad,
           at + "rmsprop.momentum: must be in [0, 1), got 1"},
          {with(R"("rmsprop":{"epsilon":0})"), bad, at + "rmsprop.epsilon" + positive + "0"},
          {with(R"("adagrad":{"lrDecay":0,"initialAccumulatorValue":0})"), StatusCode::OK, ""},
          {with(R"("adagrad":{"lrDecay":-1})"), bad, at + "adagrad.lr_decay" + least + "-1"},
          {with(R"("adagrad":{"initialAccumulatorValue":-1})"), bad,
           at + "adagrad.initial_accumulator_value" + least + "-1"},
          {with(R"("sgd":{},"l1":0)"), StatusCode::OK, ""},
          {with(R"("sgd":{},"l1":-1)"), bad, at + "l1" + least + "-1"},
          {with(R"("sgd":{},"clipNorm":1)"), StatusCode::OK, ""},
          {with(R"("sgd":{},"clipNorm":0)"), bad, at + "clip_norm" + positive + "0"},
          {with(R"("sgd":{},"clipValue":-1)"), bad, at + "clip_value" + positive + "-1"},
          {schedule(R"("warmupSteps":10)"), StatusCode::OK, ""},
          {schedule(R"("warmupSteps":-1)"), bad, plan + "warmup_steps: must be at least 0, got -1"},
          {schedule(R"("warmupStartFactor":0.5)"), bad,
           plan + "warmup_start_factor: requires warmup_steps above 0"},
          {schedule(R"("warmupSteps":1,"warmupStartFactor":0)"), bad,
           plan + "warmup_start_factor: must be in (0, 1], got 0"},
          {schedule(R"("step":{"stepSize":1,"gamma":1})"), StatusCode::OK, ""},
          {schedule(R"("step":{})"), bad, plan + "step.step_size: must be at least 1, got 0"},
          {schedule(R"("step":{"stepSize":1,"gamma":1.1})"), bad,
           plan + "step.gamma: must be in (0, 1], got 1.1"},
          {schedule(R"("exponential":{})"), bad,
           plan + "exponential.gamma: must be in (0, 1], got 0"},
          {schedule(R"("cosine":{"totalSteps":1,"minLearningRate":0.5})"), StatusCode::OK, ""},
          {schedule(R"("cosine":{})"), bad, plan + "cosine.total_steps: must be at least 1, got 0"},
          {schedule(R"("cosine":{"totalSteps":1,"minLearningRate":0.6})"), bad,
           plan + "cosine.min_learning_rate: must be in [0, learning_rate], got 0.6"},
          {schedule(R"("reduceOnPlateau":{})"), StatusCode::OK, ""},
          {schedule(R"("reduceOnPlateau":{"factor":1})"), bad,
           plan + "reduce_on_plateau.factor: must be in (0, 1), got 1"},
          {schedule(R"("reduceOnPlateau":{"patience":-1})"), bad,
           plan + "reduce_on_plateau.patience: must be at least 0, got -1"},
          {schedule(R"("reduceOnPlateau":{"threshold":1})"), bad,
           plan + "reduce_on_plateau.threshold: must be in [0, 1), got 1"},
          {schedule(R"("reduceOnPlateau":{"cooldown":-1})"), bad,
           plan + "reduce_on_plateau.cooldown: must be at least 0, got -1"},
      });
}

}  // namespace
}  // namespace backprop::rpc
