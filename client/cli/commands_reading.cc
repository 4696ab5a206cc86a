// predict, evaluate, grad-check.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/command.h"
#include "client/cli/data_source.h"

namespace backprop::cli {
namespace {

void PrintRow(const char* label, const Tensor& tensor, int64_t row) {
  if (tensor.empty()) return;
  std::printf("%s", label);
  for (int64_t j = 0; j < tensor.cols(); ++j) std::printf(" %.6g", tensor.at(row, j));
}

// Prints one line per row: the class, then the numbers.
void Print(const Prediction& prediction) {
  const int64_t rows =
      std::max<int64_t>({static_cast<int64_t>(prediction.classes.size()),
                         prediction.probabilities.rows(), prediction.logits.rows()});
  for (int64_t i = 0; i < rows; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!prediction.class_names.empty()) {
      std::printf("%s", prediction.class_names[at].c_str());
    } else if (!prediction.classes.empty()) {
      std::printf("%d", prediction.classes[at]);
    }
    const bool more = !prediction.classes.empty();
    PrintRow(more ? "  probabilities" : "probabilities", prediction.probabilities, i);
    PrintRow(more || !prediction.probabilities.empty() ? "  logits" : "", prediction.logits, i);
    std::printf("\n");
  }
}

int Predict(const Globals& globals, const std::string& model, const DataSource& source,
            const PredictOutputs& outputs) {
  Client client = globals.Connect();
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  const auto prediction = client.Predict(model, source.LoadInputs(*info), outputs, globals.Call());
  if (!prediction.ok()) return globals.Fail(prediction.status());
  if (!globals.json) Print(*prediction);
  return kOk;
}

std::string Optional(const std::optional<double>& value) {
  char text[32] = "-";
  if (value.has_value()) std::snprintf(text, sizeof(text), "%.4f", *value);
  return text;
}

void Print(const ClassificationMetrics& metrics) {
  constexpr size_t kMostClasses = 30;
  std::printf("%-20s %9s %9s %9s %9s %9s\n", "", "precision", "recall", "f1", "support", "roc_auc");
  for (const ClassMetrics& scores : metrics.classes) {
    if (metrics.classes.size() > kMostClasses) break;
    const std::string name =
        scores.class_name.empty() ? std::to_string(scores.class_index) : scores.class_name;
    std::printf("%-20s %9.4f %9.4f %9.4f %9g %9s\n", name.c_str(), scores.precision, scores.recall,
                scores.f1, scores.support, Optional(scores.roc_auc).c_str());
  }
  const auto average = [](const char* name, const AverageMetrics& scores) {
    std::printf("%-20s %9.4f %9.4f %9.4f\n", name, scores.precision, scores.recall, scores.f1);
  };
  average("macro", metrics.macro);
  average("weighted", metrics.weighted);
  std::printf("roc_auc %s, log_loss %s", Optional(metrics.roc_auc).c_str(),
              Optional(metrics.log_loss).c_str());
  if (metrics.top_k_accuracy.has_value()) {
    std::printf(", top-%d accuracy %.4f", metrics.top_k, *metrics.top_k_accuracy);
  }
  std::printf("\n");
  const size_t classes = metrics.classes.size();
  if (metrics.confusion_matrix.empty() || classes > kMostClasses) return;
  std::printf("confusion matrix (label in the row, prediction in the column)\n");
  for (size_t i = 0; i < classes; ++i) {
    for (size_t j = 0; j < classes; ++j) {
      std::printf("%s%7g", j == 0 ? "" : " ", metrics.confusion_matrix[i * classes + j]);
    }
    std::printf("\n");
  }
}

int Evaluate(const Globals& globals, const std::string& model, const DataSource& source,
             EvaluateOptions options) {
  Client client = globals.Connect();
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  options.dataset = source.dataset;
  const Batch rows = source.dataset.empty() ? source.Load(*info) : Batch();
  const auto evaluation = client.Evaluate(model, rows, options, globals.Call());
  if (!evaluation.ok()) return globals.Fail(evaluation.status());
  if (globals.json) return kOk;
  const Metrics& metrics = evaluation->metrics;
  std::printf("%lld rows at step %lld: loss %.6f", static_cast<long long>(metrics.rows),
              static_cast<long long>(evaluation->step), metrics.loss);
  if (metrics.accuracy.has_value()) std::printf(", accuracy %.4f", *metrics.accuracy);
  std::printf("\n");
  if (evaluation->classification.has_value()) Print(*evaluation->classification);
  if (evaluation->regression.has_value()) {
    const RegressionMetrics& regression = *evaluation->regression;
    std::printf("mse %.6g, rmse %.6g, mae %.6g, r2 %.6f\n", regression.mean_squared_error,
                regression.root_mean_squared_error, regression.mean_absolute_error, regression.r2);
  }
  return kOk;
}

int GradCheck(const Globals& globals, const std::string& model, const DataSource& source,
              const GradCheckOptions& options) {
  Client client = globals.Connect();
  const auto info = globals.ConnectHidden().GetModel(model, globals.Call());
  if (!info.ok()) return globals.Fail(info.status());
  const auto result = client.GradCheck(model, source.Load(*info), options, globals.Call());
  if (!result.ok()) return globals.Fail(result.status());
  if (!globals.json) std::printf("%s", GradCheckTable(*result).c_str());
  return result->passed ? kOk : kFailed;
}

}  // namespace

void AddReadingCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto model = std::make_shared<std::string>();
  auto source = std::make_shared<DataSource>();

  auto* predict = app->add_subcommand("predict", "Predict the outputs for rows");
  auto outputs = std::make_shared<PredictOutputs>();
  predict->add_option("model", *model, "Id of the model")->required();
  predict->add_flag("--logits", outputs->logits, "Print the outputs of the last layer");
  predict->add_flag("--probabilities", outputs->probabilities, "Print probabilities");
  predict->add_flag("--classes", outputs->classes, "Print classes");
  source->AddTo(predict, DataSource::Instead::kRows);
  predict->callback(
      [=] { *chosen = [=] { return Predict(*globals, *model, *source, *outputs); }; });

  auto* evaluate =
      app->add_subcommand("evaluate", "Compute the loss and metrics of a model on rows");
  evaluate->add_option("model", *model, "Id of the model")->required();
  auto evaluate_options = std::make_shared<EvaluateOptions>();
  evaluate->add_option("--top-k", evaluate_options->top_k, "The k of top-k accuracy; default 2");
  evaluate->add_flag("--summary-only", evaluate_options->summary_only,
                     "Print only loss and accuracy");
  source->AddTo(evaluate, DataSource::Instead::kDataset);
  evaluate->callback([=] {
    source->CheckGiven();
    *chosen = [=] { return Evaluate(*globals, *model, *source, *evaluate_options); };
  });

  auto* check = app->add_subcommand("grad-check", "Compare the gradients with finite differences");
  auto options = std::make_shared<GradCheckOptions>();
  check->add_option("model", *model, "Id of the model")->required();
  check->add_option("--tolerance", options->tolerance,
                    "Largest accepted relative error; default 1e-4");
  check->add_option(
      "--kernel-tolerance", options->kernel_tolerance,
      "Largest accepted error of the training kernels in addition to the rounding bound; default "
      "1e-4, for float64 1e-9");
  check->add_option("--max-entries", options->max_entries_per_tensor,
                    "Maximum number of entries checked per tensor; default 256");
  check->add_option("--sample-seed", options->seed, "Seed of the sampling");
  source->AddTo(check, DataSource::Instead::kNothing);
  check->callback(
      [=] { *chosen = [=] { return GradCheck(*globals, *model, *source, *options); }; });
}

}  // namespace backprop::cli
