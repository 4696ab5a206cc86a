// Evaluate, GradCheck. Both read one state of a model and never change it.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/measuring_codec.h"
#include "server/codec/reply_size.h"
#include "server/codec/training_codec.h"
#include "server/engine/grad_check_report.h"
#include "server/engine/loss.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/handlers.h"
#include "server/rpc/overload.h"
#include "server/rpc/rows.h"
#include "server/session/queries.h"
#include "server/session/rows_in_use.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

constexpr int64_t kDefaultTopK = 2;  // as in scikit-learn
// The cost of work that may take long, and never runs on gRPC's thread.
constexpr int64_t kUnknownCost = exec::ComputePool::kSliceCost + 1;

// Upper bound of the size in bytes of the detailed metrics: a confusion matrix, and the scores and
// the name of each class.
int64_t DetailsBytes(const session::Session& model) {
  constexpr int64_t kScoresBytes = 64;
  const auto& loss = model.network().spec().loss;
  if (!engine::Classifies(loss.kind)) return 0;
  const int64_t outputs = model.network().outputs();
  const int64_t classes = engine::ClassesOf(loss.kind, outputs);
  return classes * classes * static_cast<int64_t>(sizeof(double)) +
         std::max(classes, outputs) *
             (kScoresBytes + codec::LongestFieldBytes(model.info().class_names));
}

// The k of top-k accuracy, or 0 for the summary only. Checks that the detailed metrics fit into a
// reply.
absl::StatusOr<int64_t> DecodeTopK(const v1::EvaluateRequest& request,
                                   const session::Session& model, const base::Limits& limits) {
  if (request.has_top_k() && request.top_k() < 1) {
    return base::FieldError("top_k", absl::StrCat("must be at least 1, got ", request.top_k()));
  }
  if (request.summary_only()) return 0;
  const absl::Status fits =
      codec::CheckReplyBytes("model", DetailsBytes(model), limits, "set summary_only");
  if (!fits.ok()) return fits;
  return request.has_top_k() ? request.top_k() : kDefaultTopK;
}

void EncodeEvaluation(const session::Evaluation& evaluation, int64_t top_k,
                      const session::Session& model, v1::EvaluateResponse* response) {
  codec::EncodeMetrics(evaluation.metrics, response->mutable_metrics());
  response->set_step(evaluation.step);
  if (evaluation.classification.has_value()) {
    codec::EncodeClassification(*evaluation.classification, top_k, model.info().class_names,
                                response->mutable_classification());
  }
  if (evaluation.regression.has_value()) {
    codec::EncodeRegression(*evaluation.regression, response->mutable_regression());
  }
}

void EvaluateRows(Context* context, UnaryCall* call, const ModelPtr& model,
                  std::shared_ptr<const engine::Dataset> rows, const v1::EvaluateRequest& request,
                  v1::EvaluateResponse* response) {
  const auto top_k = DecodeTopK(request, *model, context->limits());
  if (!top_k.ok()) return call->Done(top_k.status());
  const absl::Status allowed = ChargeRows(*context, *model, rows->rows);
  if (!allowed.ok()) return call->Done(allowed);
  session::Evaluate(
      model,
      {std::move(rows), *top_k, "data", [call] { return call->cancelled(); }, call->Decoded()},
      call->Answer([model, top_k = *top_k, response](const session::Evaluation& evaluation) {
        EncodeEvaluation(evaluation, top_k, *model, response);
      }));
}

// How expensive an evaluation is, as far as that is known before its rows are read.
int64_t CostOfEvaluation(const v1::EvaluateRequest& request, const session::Session& model) {
  if (!request.has_data()) return kUnknownCost;
  const engine::Network& network = model.network();
  return engine::ForwardCost(network, RowsOf(request.data().inputs(), network));
}

// Decodes and checks a request. The caller must set `cancelled` of the result.
absl::StatusOr<session::GradCheckArgs> DecodeGradCheck(const Context& context,
                                                       const session::Session& model,
                                                       const v1::GradCheckRequest& request) {
  const engine::Network& network = model.network();
  auto batch =
      codec::DecodeBatch(request.batch(), "batch", network, model.info(), context.limits());
  if (!batch.ok()) return batch.status();
  const auto options = codec::DecodeGradCheckConfig(request.config(), network.spec().data_type);
  if (!options.ok()) return options.status();
  constexpr int64_t kTensorReportBytes = 768;  // of one tensor, with its explanation
  const absl::Status fits = codec::CheckReplyBytes(
      "model", 2 * static_cast<int64_t>(network.spec().layers.size()) * kTensorReportBytes,
      context.limits(), "check a model with fewer layers");
  if (!fits.ok()) return fits;
  const absl::Status allowed = ChargeRows(context, model, batch->rows);
  if (!allowed.ok()) return allowed;
  return session::GradCheckArgs{*std::move(batch), *options, "batch.inputs", {}};
}

}  // namespace

void HandleEvaluate(Context* context, UnaryCall* call, const ModelPtr& model,
                    const v1::EvaluateRequest& request, v1::EvaluateResponse* response) {
  const int64_t cost = CostOfEvaluation(request, *model);
  if (!AdmitQuery(context, call, *model, cost, /*sliced=*/true)) return;
  const RowsAsked asked{request.has_data() ? &request.data() : nullptr, request.dataset(), "data",
                        "dataset"};
  GetRows(context, model, asked, [=, &request](absl::StatusOr<session::RowsInUse> rows) {
    if (!rows.ok()) return call->Done(rows.status());
    EvaluateRows(context, call, model, std::move(rows->rows), request, response);
  });
}

void HandleGradCheck(Context* context, UnaryCall* call, const ModelPtr& model,
                     const v1::GradCheckRequest& request, v1::GradCheckResponse* response) {
  if (!AdmitQuery(context, call, *model, kUnknownCost, /*sliced=*/true)) return;
  auto args = DecodeGradCheck(*context, *model, request);
  if (!args.ok()) return call->Done(args.status());
  args->cancelled = [call] { return call->cancelled(); };
  args->times = call->Decoded();
  const engine::GradCheckOptions options = args->options;
  session::GradCheck(model, *std::move(args),
                     call->Answer([options, response](const session::GradCheckOutcome& outcome) {
                       codec::EncodeGradCheck(outcome.report, options, response->mutable_result());
                       response->set_step(outcome.step);
                     }));
}

}  // namespace backprop::rpc
