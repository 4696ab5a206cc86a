// demo: the whole main job in one go.
#include <cstdio>
#include <memory>

#include "backprop/datasets.h"
#include "client/cli/command.h"
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
  uint64_t seed = 67;  // a typical one: the loss falls from 0.689 to 0.081, accuracy 0.975
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

int Demo(const Globals& globals, const DemoOptions& options) {
  Client client(globals.server);
  const CallOptions call = globals.Call();
  const Batch data = *MakeDataset("xor", {200, std::nullopt, options.seed});

  const Status removed = client.DeleteModel(options.model, call);
  if (!removed.ok() && removed.code != StatusCode::kNotFound) return globals.Fail(removed);
  const auto model = client.CreateModel(XorSpec(options.seed), {.model_id = options.model}, call);
  if (!model.ok()) return globals.Fail(model.status());
  std::printf("%s: 2 → 8 relu → 2, %lld parameters, 200 points of XOR\n\n", model->name.c_str(),
              static_cast<long long>(model->parameter_count));

  std::vector<double> losses;
  std::printf("%s\n", ProgressHeader().c_str());
  TrainOptions train;
  train.iterations = kIterations;
  train.report_every = kReportEvery;
  const auto summary = client.Train(
      options.model, data, train,
      [&](const TrainingEvent& event) {
        const auto* progress = std::get_if<Progress>(&event.body);
        if (progress == nullptr) return true;
        losses.push_back(progress->metrics.loss);
        if (progress->iteration == 1 || progress->iteration % kRowsEvery == 0) {
          std::printf("%s\n", ProgressRow(*progress).c_str());
          std::fflush(stdout);
        }
        return true;
      },
      call);
  if (!summary.ok()) return globals.Fail(summary.status());
  std::printf("%s\n\nLoss\n\n%s\n", SummaryLine(*summary).c_str(),
              LossCurve(losses, kIterations, 64, 10).c_str());

  const BoundaryPicture picture;
  const auto prediction = client.Predict(options.model, picture.Grid(), {.classes = true}, call);
  if (!prediction.ok()) return globals.Fail(prediction.status());
  std::printf("What it learned (░ same sign, · different signs; x and o are the points)\n\n%s\n",
              picture.Draw(prediction->classes, data, IsTerminal()).c_str());

  const auto check = client.GradCheck(options.model, data, {}, call);
  if (!check.ok()) return globals.Fail(check.status());
  std::printf("Its gradients against finite differences in float64\n\n%s\n",
              GradCheckTable(*check).c_str());
  if (!check->passed) return kFailed;
  const double accuracy = summary->metrics.has_value() ? summary->metrics->accuracy.value_or(0) : 0;
  if (summary->stop_reason != StopReason::kCompleted || accuracy < kWantedAccuracy) {
    std::fprintf(stderr, "accuracy %.4f is below %.2f\n", accuracy, kWantedAccuracy);
    return kFailed;
  }
  return kOk;
}

}  // namespace

void AddDemoCommand(CLI::App* app, Globals* globals, Command* chosen) {
  auto* demo = app->add_subcommand("demo", "Train XOR, draw what it learned, prove its gradients");
  auto options = std::make_shared<DemoOptions>();
  demo->add_option("--model", options->model, "Id of the model, which is made anew")
      ->capture_default_str();
  demo->add_option("--seed", options->seed, "Of the points, the weights and the shuffles")
      ->capture_default_str();
  demo->callback([=] { *chosen = [=] { return Demo(*globals, *options); }; });
}

}  // namespace backprop::cli
