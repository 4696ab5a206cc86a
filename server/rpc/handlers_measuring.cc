// Evaluate, GradCheck. Both read one state of a model and never change it.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/measuring_codec.h"
#include "server/codec/reply_size.h"
#include "server/codec/training_codec.h"
#include "server/engine/grad_check.h"
#include "server/engine/metrics.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/exec/sliced_work.h"
#include "server/records/metrics.h"
#include "server/rpc/handlers.h"
#include "server/rpc/rows.h"
#include "server/session/rows_in_use.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

using StatePtr = session::Session::StatePtr;

constexpr int64_t kDefaultTopK = 2;  // as in scikit-learn

class EvaluateWork {
 public:
  // `top_k` 0: the summary only.
  EvaluateWork(UnaryCall* call, ModelPtr model, StatePtr state,
               std::shared_ptr<const engine::Dataset> data, int64_t top_k,
               v1::EvaluateResponse* response)
      : call_(call),
        model_(std::move(model)),
        state_(std::move(state)),
        data_(std::move(data)),
        top_k_(top_k),
        response_(response),
        at_once_(engine::Workspace::RowsAtOnce(network())) {
    if (top_k_ > 0) collector_.emplace(network(), *data_, top_k_);
  }

  bool cancelled() const { return call_->cancelled(); }

  bool Advance() {
    if (done_ == data_->rows) return collector_->AdvanceCurves();
    const int64_t count = std::min(at_once_, data_->rows - done_);
    sum_ += engine::Evaluate(network(), *state_, data_->View(done_, count), &workspace_);
    if (collector_.has_value()) {
      collector_->Add(done_, count, engine::OutputBytes(network(), count, &workspace_));
    }
    done_ += count;
    return done_ < data_->rows || collector_.has_value();
  }

  void Finish(const absl::Status& status) {
    if (!status.ok()) return call_->Done(status);
    codec::EncodeMetrics(records::MetricsOf(network(), sum_, data_->rows),
                         response_->mutable_metrics());
    response_->set_step(state_->step);
    if (collector_.has_value()) {
      if (engine::Classifies(network().spec().loss.kind)) {
        codec::EncodeClassification(collector_->Classification(), top_k_,
                                    model_->info().class_names,
                                    response_->mutable_classification());
      } else {
        codec::EncodeRegression(collector_->Regression(), response_->mutable_regression());
      }
    }
    data_ = nullptr;  // before the response: the caller may delete the dataset when it arrives
    call_->Done(absl::OkStatus());
  }

 private:
  const engine::Network& network() const { return model_->network(); }

  UnaryCall* const call_;
  const ModelPtr model_;
  const StatePtr state_;
  std::shared_ptr<const engine::Dataset> data_;
  const int64_t top_k_;
  v1::EvaluateResponse* const response_;
  const int64_t at_once_;
  engine::Workspace workspace_;
  std::optional<engine::MetricsCollector> collector_;
  engine::LossResult sum_;
  int64_t done_ = 0;
};

class GradCheckWork {
 public:
  GradCheckWork(UnaryCall* call, ModelPtr model, StatePtr state, const engine::Dataset& data,
                const engine::GradCheckOptions& options, v1::GradCheckResponse* response)
      : call_(call),
        model_(std::move(model)),
        state_(std::move(state)),
        options_(options),
        response_(response),
        checker_(model_->network(), *state_, data, options) {}

  bool cancelled() const { return call_->cancelled(); }
  bool Advance() { return checker_.Advance(1); }

  void Finish(const absl::Status& status) {
    if (!status.ok()) return call_->Done(status);
    codec::EncodeGradCheck(checker_.report(), options_, response_->mutable_result());
    response_->set_step(state_->step);
    call_->Done(absl::OkStatus());
  }

 private:
  UnaryCall* const call_;
  const ModelPtr model_;
  const StatePtr state_;
  const engine::GradCheckOptions options_;
  v1::GradCheckResponse* const response_;
  engine::GradChecker checker_;
};

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

// The k of top-k accuracy, or 0 for the summary only. Checks that the detailed metrics fit the
// limits on memory and on replies.
absl::StatusOr<int64_t> DecodeTopK(const v1::EvaluateRequest& request,
                                   const session::Session& model, int64_t rows,
                                   const base::Limits& limits) {
  const engine::Network& network = model.network();
  if (request.has_top_k() && request.top_k() < 1) {
    return base::FieldError("top_k", absl::StrCat("must be at least 1, got ", request.top_k()));
  }
  if (request.summary_only()) return 0;
  const int64_t bytes = engine::MetricsCollector::BytesNeeded(network, rows);
  if (bytes > limits.max_workspace_bytes) {
    return base::LimitError(
        "data",
        absl::StrCat("detailed metrics of ", rows, " rows and ", network.outputs(),
                     " outputs need ", bytes, " bytes, more than the limit of ",
                     limits.max_workspace_bytes, " (max_workspace_bytes); set summary_only"));
  }
  const absl::Status fits =
      codec::CheckReplyBytes("model", DetailsBytes(model), limits, "set summary_only");
  if (!fits.ok()) return fits;
  return request.has_top_k() ? request.top_k() : kDefaultTopK;
}

void EvaluateRows(Context* context, UnaryCall* call, const ModelPtr& model,
                  std::shared_ptr<const engine::Dataset> rows, const v1::EvaluateRequest& request,
                  v1::EvaluateResponse* response) {
  const engine::Network& network = model->network();
  const auto top_k = DecodeTopK(request, *model, rows->rows, context->limits());
  if (!top_k.ok()) return call->Done(top_k.status());
  // Detailed metrics sort the rows for every output.
  const int64_t cost = engine::ForwardCost(network, rows->rows) +
                       (*top_k > 0 ? 200 * rows->rows * network.outputs() : 0);
  auto state = model->ReadFitted();
  if (!state.ok()) return call->Done(state.status());
  exec::RunSliced(context->environment->pool, cost,
                  std::make_shared<EvaluateWork>(call, model, *std::move(state), std::move(rows),
                                                 *top_k, response));
}

}  // namespace

void HandleEvaluate(Context* context, UnaryCall* call, const ModelPtr& model,
                    const v1::EvaluateRequest& request, v1::EvaluateResponse* response) {
  const RowsAsked asked{request.has_data() ? &request.data() : nullptr, request.dataset(), "data",
                        "dataset"};
  GetRows(context, model, asked, [=, &request](absl::StatusOr<session::RowsInUse> rows) {
    if (!rows.ok()) return call->Done(rows.status());
    EvaluateRows(context, call, model, std::move(rows->rows), request, response);
  });
}

void HandleGradCheck(Context* context, UnaryCall* call, const ModelPtr& model,
                     const v1::GradCheckRequest& request, v1::GradCheckResponse* response) {
  const engine::Network& network = model->network();
  auto data = codec::DecodeBatch(request.batch(), "batch", model->network(), model->info(),
                                 context->limits());
  if (!data.ok()) return call->Done(data.status());
  const auto options = codec::DecodeGradCheckConfig(request.config(), network.spec().data_type);
  if (!options.ok()) return call->Done(options.status());
  absl::Status fits =
      codec::CheckMemory(engine::GradChecker::BytesNeeded(network, data->rows), "a gradient check",
                         data->rows, "batch.inputs", context->limits());
  if (!fits.ok()) return call->Done(fits);
  constexpr int64_t kTensorReportBytes = 768;  // of one tensor, with its explanation
  fits = codec::CheckReplyBytes(
      "model", 2 * static_cast<int64_t>(network.spec().layers.size()) * kTensorReportBytes,
      context->limits(), "check a model with fewer layers");
  if (!fits.ok()) return call->Done(fits);
  auto state = model->ReadFitted();
  if (!state.ok()) return call->Done(state.status());
  // The constructor of the work already makes two passes with gradients, so it runs on the pool.
  exec::ComputePool* const pool = context->environment->pool;
  pool->Post(exec::Priority::kInteractive,
             [=, data = *std::move(data), state = *std::move(state), options = *options]() mutable {
               auto work = std::make_shared<GradCheckWork>(call, model, std::move(state), data,
                                                           options, response);
               exec::ContinueSliced(pool, std::move(work));
             });
}

}  // namespace backprop::rpc
