// demo: creates, trains, plots and checks a model.
#include <cstdio>
#include <memory>

#include "backprop/datasets.h"
#include "client/cli/command.h"
#include "client/cli/live_line.h"
#include "client/cli/plot.h"
#include "client/cli/progress.h"

namespace backprop::cli {
namespace {

constexpr int64_t kIterations = 3000;
constexpr int64_t kRowsEvery = 300;
constexpr int64_t kReportEvery = 30;
constexpr double kWantedAccuracy = 0.97;

struct DemoOptions {
  std::string model = "xor-demo";
  uint64_t seed = 67;  // typical: the loss falls from 0.689 to 0.081, accuracy 0.975
};

ModelSpec XorSpec(uint64_t seed) {
  ModelSpec spec;
  spec.input_size = 2;
  spec.layers = {{8}, {2}};
  spec.optimizer = Sgd{.learning_rate = 0.1};
  spec.seed = seed;
  spec.class_names = {"different signs", "same sign"};
  return spec;
}

// Prints output of the demo; nothing with --json.
void Say(const Globals& globals, const std::string& text) {
  if (globals.json) return;
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

Result<TrainingSummary> TrainAndShow(const Globals& globals, Client* client,
                                     const std::string& model, const Batch& data) {
  std::vector<double> losses;
  RateMeter rate;
  Say(globals, ProgressHeader());
  TrainOptions train;
  train.iterations = kIterations;
  train.report_every = kReportEvery;
  auto summary = client->Train(
      model, data, train,
      [&](const TrainingEvent& event) {
        const auto* progress = std::get_if<Progress>(&event.body);
        if (progress == nullptr) return true;
        losses.push_back(progress->metrics.loss);
        rate.Add(progress->iteration, RateMeter::Clock::now());
        if (progress->iteration == 1 || progress->iteration % kRowsEvery == 0) {
          Say(globals, ProgressRow(*progress, rate.PerSecond()));
        }
        return true;
      },
      globals.Call());
  if (!summary.ok()) return summary;
  Say(globals, SummaryLine(*summary));
  Say(globals, "\nLoss\n\n" + LossCurve(losses, kIterations, 64, 10));
  return summary;
}

int Demo(const Globals& globals, const DemoOptions& options) {
  Client client = globals.ConnectHidden();
  const CallOptions call = globals.Call();
  const Batch data = *MakeDataset("xor", {200, std::nullopt, options.seed});

  const Status removed = client.DeleteModel(options.model, call);
  if (!removed.ok() && removed.code != StatusCode::kNotFound) return globals.Fail(removed);
  const auto model = client.CreateModel(XorSpec(options.seed), {.model_id = options.model}, call);
  if (!model.ok()) return globals.Fail(model.status());
  Say(globals, model->name + ": 2 → 8 relu → 2, " + std::to_string(model->parameter_count) +
                   " parameters, 200 points of XOR\n");
  const auto summary = TrainAndShow(globals, &client, options.model, data);
  if (!summary.ok()) return globals.Fail(summary.status());

  const BoundaryPicture picture;
  const auto prediction = client.Predict(options.model, picture.Grid(), {.classes = true}, call);
  if (!prediction.ok()) return globals.Fail(prediction.status());
  Say(globals, "Predicted classes (░ same sign, · different signs; x and o are the points)\n\n" +
                   picture.Draw(prediction->classes, data, UsesColor(stdout)));

  const auto check = client.GradCheck(options.model, data, {}, call);
  if (!check.ok()) return globals.Fail(check.status());
  Say(globals,
      "Gradients compared with finite differences in float64\n\n" + GradCheckTable(*check));
  const Metrics metrics = summary->metrics.value_or(Metrics());
  const double accuracy = metrics.accuracy.value_or(0);
  char numbers[160];
  std::snprintf(numbers, sizeof(numbers),
                R"(,"iterations":%lld,"loss":%.9g,"accuracy":%.9g,"gradCheckPassed":%s})",
                static_cast<long long>(summary->iterations), metrics.loss, accuracy,
                check->passed ? "true" : "false");
  globals.SetDocument(R"({"model":)" + JsonString(model->name) + numbers);
  if (!check->passed) return kFailed;
  if (summary->stop_reason != StopReason::kCompleted || accuracy < kWantedAccuracy) {
    char message[64];
    std::snprintf(message, sizeof(message), "accuracy %.4f is below %.2f", accuracy,
                  kWantedAccuracy);
    return globals.FailHere(kFailed, "ACCURACY", message);
  }
  return kOk;
}

}  // namespace

void AddDemoCommand(CLI::App* app, Globals* globals, Command* chosen) {
  auto* demo = app->add_subcommand("demo", "Train XOR, plot the result and check the gradients");
  auto options = std::make_shared<DemoOptions>();
  demo->add_option("--model", options->model, "Id of the model; an existing one is replaced")
      ->capture_default_str();
  demo->add_option("--seed", options->seed, "Seed of the points, the weights and the shuffles")
      ->capture_default_str();
  demo->callback([=] { *chosen = [=] { return Demo(*globals, *options); }; });
}

}  // namespace backprop::cli
