// Queries of one model: predictions, metrics, gradients, gradient checks.
//
// A query computes with the state after the last step (Session::ReadFitted), also during a run, and
// never changes the model. It does not wait for mutations, and mutations do not wait for it. A
// model that is deleted after its session was found still answers.
//
// A cheap query runs on the calling thread; the pool runs all others, in slices if they may take
// long (exec/sliced_work.h).
//
// Every function is thread-safe, and calls `done` exactly once, from any thread, possibly before it
// returns. The query holds the session until then. Callers must have checked the rows against the
// model: they are in its precision and have its numbers of inputs and outputs. Errors: NOT_FITTED;
// CANCELLED if `cancelled` returns true, which every query asks before it begins and a sliced one
// also before each piece; and those of each function.
//
// In the comments n is the number of rows, d of inputs, k of outputs and P of parameters.
#ifndef BACKPROP_SERVER_SESSION_QUERIES_H_
#define BACKPROP_SERVER_SESSION_QUERIES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/strings/string_view.h"
#include "server/base/call_times.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/grad_check_report.h"
#include "server/engine/metrics.h"
#include "server/engine/workspace.h"
#include "server/records/metrics.h"
#include "server/session/operation.h"
#include "server/session/session.h"

namespace backprop::session {

// Which outputs of the network the caller wants. The model must have them (engine::PredictTargets).
struct PredictArgs {
  engine::Dataset rows;  // inputs (n, d), n ≥ 1
  bool logits = false;
  bool probabilities = false;  // only for a model that classifies
  // Destination of the classes (n), which must live until `done` is called; null: not wanted.
  int32_t* classes = nullptr;
  IsCancelled cancelled;             // must be set
  base::CallTimes* times = nullptr;  // must live until `done` is called; null: not timed
};
struct Prediction {
  engine::Buffer logits;         // (n, k), in the network's precision; empty if not wanted
  engine::Buffer probabilities;  // the same
  int64_t rows = 0;              // n
  int64_t step = 0;              // of the state
};
// Computes the outputs of the network, without dropout.
void Predict(const std::shared_ptr<Session>& model, PredictArgs args, Callback<Prediction> done);

struct EvaluateArgs {
  // With classes or targets. The query releases them before it calls `done`, so that the caller may
  // then delete their dataset.
  std::shared_ptr<const engine::Dataset> rows;
  int64_t top_k = 0;        // k of the top-k accuracy, ≥ 1; 0: mean loss and accuracy only
  absl::string_view field;  // names the rows in errors; must outlive the call of Evaluate
  IsCancelled cancelled;    // must be set
  base::CallTimes* times = nullptr;  // as in PredictArgs
};
struct Evaluation {
  records::Metrics metrics;
  // All metrics: the one of the two that fits the loss. Both unset with top_k 0.
  std::optional<engine::ClassificationMetrics> classification;
  std::optional<engine::RegressionMetrics> regression;
  int64_t step = 0;  // of the state
};
// Computes metrics of the predictions. With top_k ≥ 1: RESOURCE_EXHAUSTED about `field` if all
// metrics need more memory than max_workspace_bytes.
void Evaluate(const std::shared_ptr<Session>& model, EvaluateArgs args, Callback<Evaluation> done);

struct GradientsArgs {
  engine::Dataset batch;    // with classes or targets
  absl::string_view field;  // names the batch in errors; must outlive the call of ComputeGradients
  IsCancelled cancelled;    // must be set
  base::CallTimes* times = nullptr;  // as in PredictArgs
};
struct Gradients {
  engine::Workspace workspace;  // of the pass; holds the values
  // Gradient (P) of the mean loss of the batch, without L1, clipping and decay, laid out like the
  // parameters and in their precision. Valid while this object lives.
  const std::byte* values() const { return workspace.gradient_bytes(); }
  records::Metrics metrics;  // of the batch
  double norm = 0;           // Euclidean, of the values
  double weight = 0;         // sum of the weights of the rows, by which the loss is a mean
  int64_t step = 0;          // of the state
};
// Makes the first half of a step, with the dropout of that step. Errors: RESOURCE_EXHAUSTED about
// `field` if the pass needs more memory than max_workspace_bytes; NOT_FINITE. Not sliced.
void ComputeGradients(const std::shared_ptr<Session>& model, GradientsArgs args,
                      Callback<Gradients> done);

struct GradCheckArgs {
  engine::Dataset batch;  // with classes or targets
  engine::GradCheckOptions options;
  absl::string_view field;  // names the batch in errors; must outlive the call of GradCheck
  IsCancelled cancelled;    // must be set
  base::CallTimes* times = nullptr;  // as in PredictArgs
};
struct GradCheckOutcome {
  engine::GradCheckReport report;
  int64_t step = 0;  // of the state
};
// Checks the gradients of the batch by finite differences (engine/grad_check.h), always on the
// pool. RESOURCE_EXHAUSTED about `field` if the check needs more memory than max_workspace_bytes.
void GradCheck(const std::shared_ptr<Session>& model, GradCheckArgs args,
               Callback<GradCheckOutcome> done);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_QUERIES_H_
