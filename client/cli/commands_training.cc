// train, watch, stop.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/data_source.h"
#include "client/cli/progress.h"

namespace backprop::cli {
namespace {

// What is left to say after a stream of events: how it ended, or that Ctrl-C was pressed.
int Conclude(const Globals& globals, Client* client, const std::string& model,
             const Result<TrainingSummary>& summary, bool run_goes_on) {
  if (summary.ok()) {
    return summary->stop_reason == StopReason::kDiverged ? kFailed : kOk;
  }
  if (!globals.interrupt.cancelled()) return globals.Fail(summary.status());
  if (run_goes_on) {
    std::fprintf(stderr, "\ninterrupted; the run goes on: backprop watch %s\n", model.c_str());
    return kInterrupted;
  }
  // The server stops the run at its next step.
  const auto info = client->GetModel(model);
  const std::string step = info.ok() ? " up to step " + std::to_string(info->step) : "";
  std::fprintf(stderr, "\ninterrupted; the run was stopped and what it learned%s is kept\n",
               step.c_str());
  return kInterrupted;
}

int Train(const Globals& globals, const std::string& model, const DataSource& source,
          TrainOptions options) {
  Client client = globals.Connect(Globals::kPatiently);
  Client quiet(globals.server);
  const auto info = quiet.GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  options.dataset = source.dataset;
  const Batch data = source.dataset.empty() ? source.Load(*info) : Batch();
  if (!source.validation_file.empty()) options.validation = source.LoadValidation(*info);
  ProgressView view(IsTerminal());
  bool detached = false;
  const auto on_event = [&](const TrainingEvent& event) {
    if (options.detach) {
      detached = true;
      if (!globals.json) {
        std::printf("%s is under way; watch it with: backprop watch %s\n", event.run.c_str(),
                    model.c_str());
      }
      return false;
    }
    if (!globals.json) view.Show(event);
    return true;
  };
  const auto summary = client.Train(model, data, options, on_event, globals.Call());
  if (detached) return kOk;
  return Conclude(globals, &quiet, model, summary, false);
}

int Watch(const Globals& globals, const std::string& model, const WatchOptions& options) {
  Client client = globals.Connect(Globals::kPatiently);
  ProgressView view(IsTerminal());
  const auto summary = client.WatchTraining(
      model, options,
      [&](const TrainingEvent& event) {
        if (!globals.json) view.Show(event);
        return true;
      },
      globals.Call());
  return Conclude(globals, &client, model, summary, true);
}

int Stop(const Globals& globals, const std::string& model) {
  Client client = globals.Connect();
  const auto stopped = client.StopTraining(model, globals.Call());
  if (!stopped.ok()) return globals.Fail(stopped.status());
  if (!globals.json) {
    std::printf("%s %s\n", stopped->run.c_str(), SummaryLine(stopped->summary).c_str());
  }
  return kOk;
}

}  // namespace

void AddTrainingCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto model = std::make_shared<std::string>();
  auto source = std::make_shared<DataSource>();

  auto* train = app->add_subcommand("train", "Train a model and show how it goes");
  auto options = std::make_shared<TrainOptions>();
  train->add_option("model", *model, "Id of the model")->required();
  auto* iterations = train->add_option("--iterations", options->iterations, "Optimiser steps");
  auto* epochs = train->add_option("--epochs", options->epochs, "Passes over the data");
  iterations->excludes(epochs);
  train->add_option("--batch-size", options->batch_size,
                    "Rows in a step; default, and with more than there are: all");
  train->add_flag_callback(
      "--shuffle", [options] { options->shuffle = true; },
      "Give each epoch an order of its own; default: with --batch-size");
  train->add_flag_callback(
      "--no-shuffle", [options] { options->shuffle = false; }, "Keep the order of the rows");
  train->add_option("--report-every", options->report_every,
                    "Iterations between reports; default: a hundredth of the run");
  auto interval = std::make_shared<std::optional<double>>();
  train
      ->add_option("--report-interval", *interval,
                   "Longest time between two reports, in seconds; default: 1")
      ->check(CLI::Range(0.001, 1e8))
      ->type_name("SECONDS");
  train->add_flag("--continue-epoch", options->continue_epoch,
                  "Resume the epoch that the previous run left, at its next batch");
  auto* split = train->add_option("--validation-split", options->validation_split,
                                  "Share of the rows to hold out and validate on, in (0, 1)");
  train
      ->add_flag("--redraw-validation-split", options->redraw_validation_split,
                 "Hold out other rows than earlier runs did")
      ->needs(split);
  train
      ->add_flag_callback(
          "--no-stratify", [options] { options->stratify = false; },
          "Draw the split without regard to the classes")
      ->needs(split);
  train->add_option("--validation-data", source->validation_file, "Rows to validate on")
      ->type_name("FILE.csv")
      ->excludes(split);
  train
      ->add_option("--validation-dataset", options->validation_dataset,
                   "A dataset that was uploaded, to validate on")
      ->type_name("ID")
      ->excludes(split);
  auto stopping = std::make_shared<EarlyStopping>();
  auto wants_stopping = std::make_shared<bool>(false);
  auto* early = train->add_flag("--early-stopping", *wants_stopping,
                                "End the run when the validation loss, or without validation the "
                                "epoch's loss, does not fall");
  train->add_option("--patience", stopping->patience, "Epochs without improvement")
      ->capture_default_str()
      ->needs(early);
  train->add_option("--min-delta", stopping->min_delta, "Improvement that counts")
      ->capture_default_str()
      ->needs(early);
  train
      ->add_flag_callback(
          "--no-restore-best", [stopping] { stopping->restore_best = false; },
          "Keep the last parameters instead of the best epoch's")
      ->needs(early);
  auto checkpoints = std::make_shared<CheckpointOptions>();
  auto* every = train->add_option("--checkpoint-every", checkpoints->every_iterations,
                                  "Make a checkpoint after every so many iterations");
  train->add_option("--keep-last", checkpoints->keep_last, "So many of these are kept; default 3")
      ->needs(every);
  train->add_flag("--keep-best", checkpoints->keep_best,
                  "Keep a checkpoint of the epoch with the lowest loss");
  train->add_flag("--detach", options->detach, "Start the run and leave it to the server");
  train->add_flag("--wait", options->wait, "Wait for a run under way");
  source->AddTo(train, DataSource::Instead::kDataset);
  train->callback([=] {
    if (!options->iterations.has_value() && !options->epochs.has_value()) {
      throw CLI::RequiredError("--iterations or --epochs");
    }
    if (checkpoints->every_iterations.has_value() || checkpoints->keep_best) {
      options->checkpoints = *checkpoints;
    }
    if (interval->has_value()) {
      options->report_interval = std::chrono::nanoseconds(std::llround(**interval * 1e9));
    }
    source->CheckGiven();
    if (*wants_stopping) options->early_stopping = *stopping;
    *chosen = [=] { return Train(*globals, *model, *source, *options); };
  });

  auto* watch = app->add_subcommand("watch", "Follow a run to its end");
  auto watch_options = std::make_shared<WatchOptions>();
  watch->add_option("model", *model, "Id of the model")->required();
  watch->add_option("--run", watch_options->run, "models/{id}/runs/{n}; default: the latest");
  watch->add_option("--from", watch_options->from_sequence, "First event to show");
  watch->callback([=] { *chosen = [=] { return Watch(*globals, *model, *watch_options); }; });

  auto* stop = app->add_subcommand("stop", "Stop a run and keep what it learned");
  stop->add_option("model", *model, "Id of the model")->required();
  stop->callback([=] { *chosen = [=] { return Stop(*globals, *model); }; });
}

}  // namespace backprop::cli
