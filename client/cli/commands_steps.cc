// step, step-stream, gradients compute, gradients apply.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/data_source.h"
#include "client/cli/parameters_json.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

void PrintMetrics(const Metrics& metrics) {
  std::printf("loss %.6f", metrics.loss);
  if (metrics.accuracy.has_value()) std::printf(", accuracy %.4f", *metrics.accuracy);
}

int Step(const Globals& globals, const std::string& model, const DataSource& source,
         std::optional<int64_t> expected_step) {
  Client client = globals.Connect();
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  const auto step = client.Step(model, source.Load(*info), expected_step, globals.Call());
  if (!step.ok()) return globals.Fail(step.status());
  if (globals.json) return kOk;
  std::printf("step %lld: ", static_cast<long long>(step->step));
  PrintMetrics(step->metrics);
  std::printf(", gradient norm %.4e\n", step->gradient_norm);
  return kOk;
}

struct StreamOptions {
  int64_t steps = 1000;
  int64_t batch_size = 32;
  int64_t in_flight = 32;
};

// Counts the responses of a step stream.
struct StreamTally {
  int64_t answered = 0;
  int64_t refused = 0;
  std::optional<StepResult> last;
  Status first_refusal;

  // Takes the next response. Returns false if there is none.
  bool Take(StepStream* stream) {
    const auto answer = stream->Receive();
    if (!answer.has_value()) return false;
    ++answered;
    if (answer->ok()) {
      last = **answer;
    } else if (++refused == 1) {
      first_refusal = answer->status();
    }
    return true;
  }
};

// Sends mini-batches of the data in order, repeatedly.
int Stream(const Globals& globals, const std::string& model, const DataSource& source,
           const StreamOptions& options) {
  Client client = globals.Connect(Globals::kSoon, Globals::Replies::kLines);
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  const Batch data = source.Load(*info);
  const int64_t rows = data.inputs.rows();
  std::vector<Batch> batches;
  for (int64_t first = 0; first < rows; first += options.batch_size) {
    batches.push_back(Rows(data, first, std::min(options.batch_size, rows - first)));
  }
  StepStream stream = client.OpenStepStream(model, globals.Call());
  StreamTally tally;
  const auto begin = std::chrono::steady_clock::now();
  bool open = true;
  for (int64_t sent = 0; open && sent < options.steps; ++sent) {
    if (sent - tally.answered >= options.in_flight) open = tally.Take(&stream);
    open = open && stream.Send(batches[static_cast<size_t>(sent) % batches.size()]);
  }
  stream.DoneSending();
  while (tally.Take(&stream)) {
  }
  const Status status = stream.Finish();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!globals.json) {
    std::printf("%lld steps in %.2f s, %.0f steps/s", static_cast<long long>(tally.answered),
                seconds, static_cast<double>(tally.answered) / seconds);
    if (tally.last.has_value()) {
      std::printf("; step %lld: ", static_cast<long long>(tally.last->step));
      PrintMetrics(tally.last->metrics);
    }
    std::printf("\n");
  }
  if (!status.ok()) return globals.Fail(status);
  if (tally.refused == 0) return kOk;
  return globals.Fail(tally.first_refusal, std::to_string(tally.refused) + " of " +
                                               std::to_string(tally.answered) +
                                               " steps were rejected; this is the first error");
}

int Compute(const Globals& globals, const std::string& model, const DataSource& source,
            const std::string& file) {
  Client client = globals.ConnectHidden();
  const auto info = client.GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  const auto gradients = client.ComputeGradients(model, source.Load(*info), globals.Call());
  if (!gradients.ok()) return globals.Fail(gradients.status());
  v1::ComputeGradientsResponse message;
  WithValues(gradients->tensors, message.mutable_gradients());
  message.mutable_metrics()->set_loss(gradients->metrics.loss);
  message.mutable_metrics()->set_rows(gradients->metrics.rows);
  if (gradients->metrics.accuracy.has_value()) {
    message.mutable_metrics()->set_accuracy(*gradients->metrics.accuracy);
  }
  message.set_gradient_norm(gradients->gradient_norm);
  message.set_weight(gradients->weight);
  message.set_step(gradients->step);
  return WriteJson(globals, message, file);
}

// Applies the mean of the files' gradients, weighted by their weights.
int Apply(const Globals& globals, const std::string& model, const std::vector<std::string>& files,
          std::optional<int64_t> expected_step) {
  std::vector<v1::ComputeGradientsResponse> parts;
  for (const std::string& file : files) {
    parts.emplace_back();
    ReadJson(file, &parts.back());
  }
  const std::vector<NamedTensor> mean = WeightedMean(files, parts);
  Client client = globals.Connect();
  const auto applied = client.ApplyGradients(model, mean, expected_step, globals.Call());
  if (!applied.ok()) return globals.Fail(applied.status());
  if (globals.json) return kOk;
  std::printf("step %lld: gradient norm %.4e, learning rate %g\n",
              static_cast<long long>(applied->step), applied->gradient_norm,
              applied->learning_rate);
  return kOk;
}

}  // namespace

void AddStepCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto model = std::make_shared<std::string>();
  auto source = std::make_shared<DataSource>();
  auto expected = std::make_shared<std::optional<int64_t>>();
  const auto with_expected = [&](CLI::App* command) {
    command->add_option("--expected-step", *expected, "Fail unless the model is at this step");
  };

  auto* step = app->add_subcommand("step", "Make one optimiser step");
  step->add_option("model", *model, "Id of the model")->required();
  with_expected(step);
  source->AddTo(step, DataSource::Instead::kNothing);
  step->callback([=] { *chosen = [=] { return Step(*globals, *model, *source, *expected); }; });

  auto* stream = app->add_subcommand("step-stream", "Make many pipelined optimiser steps");
  auto options = std::make_shared<StreamOptions>();
  stream->add_option("model", *model, "Id of the model")->required();
  stream->add_option("--steps", options->steps, "Number of steps")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 53))
      ->capture_default_str();
  stream->add_option("--batch-size", options->batch_size, "Rows per step")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31))
      ->capture_default_str();
  stream->add_option("--in-flight", options->in_flight, "Maximum number of unanswered steps")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  source->AddTo(stream, DataSource::Instead::kNothing);
  stream->callback([=] { *chosen = [=] { return Stream(*globals, *model, *source, *options); }; });

  auto* gradients =
      app->add_subcommand("gradients", "Compute and apply gradients, the two halves of a step");
  gradients->require_subcommand(1);
  auto* compute =
      gradients->add_subcommand("compute", "Compute the gradient on rows and print it as JSON");
  auto output = std::make_shared<std::string>("-");
  compute->add_option("model", *model, "Id of the model")->required();
  compute->add_option("--output", *output, "Write to this file instead of standard output")
      ->type_name("FILE");
  source->AddTo(compute, DataSource::Instead::kNothing);
  compute->callback([=] { *chosen = [=] { return Compute(*globals, *model, *source, *output); }; });

  auto* apply = gradients->add_subcommand(
      "apply", "Make a step with the weighted mean of gradients from `compute`");
  auto files = std::make_shared<std::vector<std::string>>();
  apply->add_option("model", *model, "Id of the model")->required();
  apply->add_option("--input", *files, "JSON file; may be repeated; - for standard input")
      ->required()
      ->type_name("FILE");
  with_expected(apply);
  apply->callback([=] { *chosen = [=] { return Apply(*globals, *model, *files, *expected); }; });
}

}  // namespace backprop::cli
