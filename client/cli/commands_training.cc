// train, watch, stop.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/data_source.h"
#include "client/cli/follow.h"
#include "client/cli/progress.h"

namespace backprop::cli {
namespace {

int ExitStatus(const TrainingSummary& summary) {
  return summary.stop_reason == StopReason::kDiverged ? kFailed : kOk;
}

int Train(const Globals& globals, const std::string& model, const DataSource& source,
          TrainOptions options, const ViewOptions& view_options) {
  Client client = globals.Connect(Globals::kPatiently, Globals::Replies::kLines);
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  options.dataset = source.dataset;
  const Batch data = source.dataset.empty() ? source.Load(*info) : Batch();
  if (!source.validation_file.empty()) options.validation = source.LoadValidation(*info);
  EventView view(globals, client, view_options);
  bool detached = false;
  const auto on_event = [&](const TrainingEvent& event) {
    if (!options.detach) {
      view.Show(event);
      return true;
    }
    detached = true;
    if (!globals.json) {
      std::printf("%s is under way; watch it with: backprop watch %s\n", event.run.c_str(),
                  model.c_str());
    }
    return false;
  };
  const auto summary = client.Train(model, data, options, on_event, globals.Call());
  if (detached) return kOk;
  view.End();
  if (summary.ok()) return ExitStatus(*summary);
  if (options.detach &&
      (globals.interrupt.cancelled() || summary.status().code == StatusCode::kDeadlineExceeded ||
       summary.status().code == StatusCode::kUnavailable)) {
    // The server may have started the run although its first event did not arrive.
    const std::string fate = "the run may have started; " + HowToFollow(model);
    if (!globals.interrupt.cancelled()) return globals.Fail(summary.status(), fate);
    return globals.FailHere(kInterrupted, "INTERRUPTED", "interrupted; " + fate);
  }
  return GiveUp(globals, model, view.run(), summary.status(), false);
}

int Watch(const Globals& globals, const std::string& model, const WatchOptions& options,
          const ViewOptions& view_options) {
  Client client = globals.Connect(Globals::kPatiently, Globals::Replies::kLines);
  EventView view(globals, client, view_options);
  const auto summary = client.WatchTraining(
      model, options,
      [&](const TrainingEvent& event) {
        view.Show(event);
        return true;
      },
      globals.Call());
  view.End();
  if (summary.ok()) return ExitStatus(*summary);
  const bool gave_up =
      globals.interrupt.cancelled() || summary.status().code == StatusCode::kDeadlineExceeded;
  return GiveUp(globals, model, view.run(), summary.status(), gave_up);
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

// The command line of `train`.
struct TrainFlags {
  std::string model;
  DataSource source;
  TrainOptions options;  // without the members below
  std::optional<double> report_interval_seconds;
  bool early_stopping = false;
  EarlyStopping stopping;
  CheckpointOptions checkpoints;
  ViewOptions view;

  // The options of the run. Throws CLI::RequiredError if the run has no length.
  TrainOptions Options() const {
    if (!options.iterations.has_value() && !options.epochs.has_value()) {
      throw CLI::RequiredError("--iterations or --epochs");
    }
    TrainOptions run = options;
    if (checkpoints.every_iterations.has_value() || checkpoints.keep_best) {
      run.checkpoints = checkpoints;
    }
    if (report_interval_seconds.has_value()) {
      run.report_interval = std::chrono::nanoseconds(std::llround(*report_interval_seconds * 1e9));
    }
    if (early_stopping) run.early_stopping = stopping;
    return run;
  }
};

// The functions below add flags that set members of their last argument, which must outlive the
// command.

void AddRunFlags(CLI::App* train, TrainFlags* flags) {
  TrainOptions* const options = &flags->options;
  auto* iterations =
      train->add_option("--iterations", options->iterations, "Number of optimiser steps");
  auto* epochs = train->add_option("--epochs", options->epochs, "Number of passes over the data");
  iterations->excludes(epochs);
  train->add_option("--batch-size", options->batch_size,
                    "Rows per step; default and maximum: all rows");
  train->add_flag_callback(
      "--shuffle", [options] { options->shuffle = true; },
      "Shuffle the rows in each epoch; default with --batch-size");
  train->add_flag_callback(
      "--no-shuffle", [options] { options->shuffle = false; }, "Keep the order of the rows");
  train->add_option("--report-every", options->report_every,
                    "Iterations between reports; default: 1/100 of the run");
  train
      ->add_option("--report-interval", flags->report_interval_seconds,
                   "Maximum time between two reports; default: 1")
      ->check(CLI::Range(0.001, 1e8))
      ->type_name("SECONDS");
  train->add_flag("--continue-epoch", options->continue_epoch,
                  "Resume the epoch that the previous run left unfinished, at its next batch");
}

void AddValidationFlags(CLI::App* train, TrainFlags* flags) {
  TrainOptions* const options = &flags->options;
  auto* split = train->add_option("--validation-split", options->validation_split,
                                  "Fraction of the rows to hold out for validation, in (0, 1)");
  train
      ->add_flag("--redraw-validation-split", options->redraw_validation_split,
                 "Draw a new split for this run")
      ->needs(split);
  train
      ->add_flag_callback(
          "--no-stratify", [options] { options->stratify = false; },
          "Do not stratify the split by class")
      ->needs(split);
  train
      ->add_option("--validation-data", flags->source.validation_file,
                   "CSV file of validation rows")
      ->type_name("FILE.csv")
      ->excludes(split);
  train
      ->add_option("--validation-dataset", options->validation_dataset,
                   "Uploaded dataset of validation rows")
      ->type_name("ID")
      ->excludes(split);
}

void AddEarlyStoppingFlags(CLI::App* train, TrainFlags* flags) {
  EarlyStopping* const stopping = &flags->stopping;
  auto* early = train->add_flag("--early-stopping", flags->early_stopping,
                                "Stop the run when the validation loss (without validation: the "
                                "epoch's loss) no longer falls");
  train->add_option("--patience", stopping->patience, "Epochs without improvement")
      ->capture_default_str()
      ->needs(early);
  train
      ->add_option("--min-delta", stopping->min_delta,
                   "Smallest decrease that counts as an improvement")
      ->capture_default_str()
      ->needs(early);
  train
      ->add_flag_callback(
          "--no-restore-best", [stopping] { stopping->restore_best = false; },
          "Keep the last parameters instead of the best epoch's")
      ->needs(early);
}

void AddCheckpointFlags(CLI::App* train, CheckpointOptions* checkpoints) {
  auto* every = train->add_option("--checkpoint-every", checkpoints->every_iterations,
                                  "Iterations between checkpoints");
  train
      ->add_option("--keep-last", checkpoints->keep_last,
                   "Number of these checkpoints to keep; default 3")
      ->needs(every);
  train->add_flag("--keep-best", checkpoints->keep_best,
                  "Keep a checkpoint of the epoch with the lowest loss");
}

void AddViewFlags(CLI::App* command, ViewOptions* view) {
  command
      ->add_option("--quiet-after", view->quiet_after_seconds,
                   "Time without events after which a notice is printed")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
}

void AddTrain(CLI::App* app, Globals* globals, Command* chosen) {
  auto* train = app->add_subcommand("train", "Train a model and show the progress");
  auto flags = std::make_shared<TrainFlags>();
  train->add_option("model", flags->model, "Id of the model")->required();
  AddRunFlags(train, flags.get());
  AddValidationFlags(train, flags.get());
  AddEarlyStoppingFlags(train, flags.get());
  AddCheckpointFlags(train, &flags->checkpoints);
  AddViewFlags(train, &flags->view);
  train->add_flag("--detach", flags->options.detach, "Start the run and return while it continues");
  train->add_flag("--wait", flags->options.wait, "Wait until the active run has ended");
  flags->source.AddTo(train, DataSource::Instead::kDataset);
  train->callback([=] {
    const TrainOptions options = flags->Options();
    flags->source.CheckGiven();
    *chosen = [=] { return Train(*globals, flags->model, flags->source, options, flags->view); };
  });
}

void AddWatch(CLI::App* app, Globals* globals, Command* chosen) {
  auto* watch = app->add_subcommand("watch", "Follow a run to its end");
  auto model = std::make_shared<std::string>();
  auto options = std::make_shared<WatchOptions>();
  auto view = std::make_shared<ViewOptions>();
  watch->add_option("model", *model, "Id of the model")->required();
  watch->add_option("--run", options->run, "models/{id}/runs/{n}; default: the latest");
  watch->add_option("--from", options->from_sequence, "Sequence number of the first event to show");
  AddViewFlags(watch, view.get());
  watch->callback([=] { *chosen = [=] { return Watch(*globals, *model, *options, *view); }; });
}

void AddStop(CLI::App* app, Globals* globals, Command* chosen) {
  auto* stop = app->add_subcommand("stop", "Stop a run and keep its parameters");
  auto model = std::make_shared<std::string>();
  stop->add_option("model", *model, "Id of the model")->required();
  stop->callback([=] { *chosen = [=] { return Stop(*globals, *model); }; });
}

}  // namespace

void AddTrainingCommands(CLI::App* app, Globals* globals, Command* chosen) {
  AddTrain(app, globals, chosen);
  AddWatch(app, globals, chosen);
  AddStop(app, globals, chosen);
}

}  // namespace backprop::cli
