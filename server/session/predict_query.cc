#include <algorithm>
#include <memory>
#include <utility>

#include "server/base/call_times.h"
#include "server/engine/step.h"
#include "server/exec/sliced_work.h"
#include "server/session/environment.h"
#include "server/session/queries.h"

namespace backprop::session {
namespace {

class PredictWork {
 public:
  PredictWork(std::shared_ptr<Session> model, Session::StatePtr state, PredictArgs args,
              Callback<Prediction> done)
      : model_(std::move(model)),
        state_(std::move(state)),
        args_(std::move(args)),
        done_(std::move(done)),
        at_once_(engine::Workspace::RowsAtOnce(network())) {
    const engine::DataType type = network().spec().data_type;
    const int64_t elements = args_.rows.rows * network().outputs();
    if (args_.logits) result_.logits = engine::Buffer(type, elements);
    if (args_.probabilities) result_.probabilities = engine::Buffer(type, elements);
    result_.rows = args_.rows.rows;
    result_.step = state_->step;
  }

  bool cancelled() const { return args_.cancelled(); }

  bool Advance() {
    if (next_ == 0) base::EndOf(base::CallStage::kQueue, args_.times);
    const int64_t count = std::min(at_once_, result_.rows - next_);
    const int64_t offset = next_ * network().outputs() * engine::SizeOf(network().spec().data_type);
    engine::PredictTargets out;
    if (args_.logits) out.logits = result_.logits.bytes() + offset;
    if (args_.probabilities) out.probabilities = result_.probabilities.bytes() + offset;
    if (args_.classes != nullptr) out.classes = args_.classes + next_;
    engine::Predict(network(), *state_, args_.rows.View(next_, count), &workspace_, out);
    next_ += count;
    return next_ < result_.rows;
  }

  void Finish(const absl::Status& status) {
    base::EndOf(base::CallStage::kCompute, args_.times);
    if (!status.ok()) return done_(status);
    model_->environment()->work_counters.rows_predicted.Add(result_.rows);
    done_(std::move(result_));
  }

 private:
  const engine::Network& network() const { return model_->network(); }

  const std::shared_ptr<Session> model_;
  const Session::StatePtr state_;
  const PredictArgs args_;
  Callback<Prediction> done_;
  const int64_t at_once_;
  engine::Workspace workspace_;
  Prediction result_;
  int64_t next_ = 0;  // the first row that is not done
};

}  // namespace

void Predict(const std::shared_ptr<Session>& model, PredictArgs args, Callback<Prediction> done) {
  auto state = model->ReadFitted();
  if (!state.ok()) return done(state.status());
  const int64_t cost = engine::ForwardCost(model->network(), args.rows.rows);
  exec::RunSliced(
      model->share(), cost,
      std::make_shared<PredictWork>(model, *std::move(state), std::move(args), std::move(done)));
}

}  // namespace backprop::session
