#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/engine/loss.h"
#include "server/engine/step.h"
#include "server/exec/sliced_work.h"
#include "server/records/metrics.h"
#include "server/session/environment.h"
#include "server/session/queries.h"

namespace backprop::session {
namespace {

class EvaluateWork {
 public:
  EvaluateWork(std::shared_ptr<Session> model, Session::StatePtr state, EvaluateArgs args,
               Callback<Evaluation> done)
      : model_(std::move(model)),
        state_(std::move(state)),
        args_(std::move(args)),
        done_(std::move(done)),
        at_once_(engine::Workspace::RowsAtOnce(network())) {
    if (args_.top_k > 0) collector_.emplace(network(), rows(), args_.top_k);
  }

  bool cancelled() const { return args_.cancelled(); }

  bool Advance() {
    if (next_ == 0) base::EndOf(base::CallStage::kQueue, args_.times);
    if (next_ == rows().rows) return collector_->AdvanceCurves();
    const int64_t count = std::min(at_once_, rows().rows - next_);
    sum_ += engine::Evaluate(network(), *state_, rows().View(next_, count), &workspace_);
    if (collector_.has_value()) {
      collector_->Add(next_, count, engine::OutputBytes(network(), count, &workspace_));
    }
    next_ += count;
    return next_ < rows().rows || collector_.has_value();
  }

  void Finish(const absl::Status& status) {
    auto result = status.ok() ? absl::StatusOr<Evaluation>(Result()) : status;
    base::EndOf(base::CallStage::kCompute, args_.times);
    collector_.reset();  // refers to the rows
    args_.rows = nullptr;
    done_(std::move(result));
  }

 private:
  const engine::Network& network() const { return model_->network(); }
  const engine::Dataset& rows() const { return *args_.rows; }

  Evaluation Result() const {
    Evaluation result;
    result.metrics = records::MetricsOf(network(), sum_, rows().rows);
    result.step = state_->step;
    if (!collector_.has_value()) return result;
    if (engine::Classifies(network().spec().loss.kind)) {
      result.classification = collector_->Classification();
    } else {
      result.regression = collector_->Regression();
    }
    return result;
  }

  const std::shared_ptr<Session> model_;
  const Session::StatePtr state_;
  EvaluateArgs args_;
  Callback<Evaluation> done_;
  const int64_t at_once_;
  engine::Workspace workspace_;
  std::optional<engine::MetricsCollector> collector_;  // with top_k ≥ 1
  engine::LossResult sum_;
  int64_t next_ = 0;  // the first row that is not done
};

absl::Status CheckDetails(const engine::Network& network, int64_t rows, absl::string_view field,
                          const base::Limits& limits) {
  const int64_t bytes = engine::MetricsCollector::BytesNeeded(network, rows);
  if (bytes <= limits.max_workspace_bytes) return absl::OkStatus();
  return base::LimitError(
      field, absl::StrCat("detailed metrics of ", rows, " rows and ", network.outputs(),
                          " outputs need ", bytes, " bytes, more than the limit of ",
                          limits.max_workspace_bytes, " (max_workspace_bytes); set summary_only"));
}

// In floating-point operations.
int64_t CostOf(const engine::Network& network, const EvaluateArgs& args) {
  constexpr int64_t kSortingCost = 200;  // of a row and an output: all metrics sort the rows
  const int64_t rows = args.rows->rows;
  const int64_t sorting = args.top_k > 0 ? kSortingCost * rows * network.outputs() : 0;
  return engine::ForwardCost(network, rows) + sorting;
}

}  // namespace

void Evaluate(const std::shared_ptr<Session>& model, EvaluateArgs args, Callback<Evaluation> done) {
  const engine::Network& network = model->network();
  if (args.top_k > 0) {
    const absl::Status fits =
        CheckDetails(network, args.rows->rows, args.field, model->environment()->limits);
    if (!fits.ok()) return done(fits);
  }
  auto state = model->ReadFitted();
  if (!state.ok()) return done(state.status());
  const int64_t cost = CostOf(network, args);
  exec::RunSliced(
      model->share(), cost,
      std::make_shared<EvaluateWork>(model, *std::move(state), std::move(args), std::move(done)));
}

}  // namespace backprop::session
