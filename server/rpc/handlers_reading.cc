// Predict. It reads one state of a model and never changes it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/codec/batch_codec.h"
#include "server/codec/reply_size.h"
#include "server/codec/tensor_codec.h"
#include "server/engine/loss.h"
#include "server/engine/step.h"
#include "server/exec/sliced_work.h"
#include "server/rpc/handlers.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

using StatePtr = session::Session::StatePtr;

struct Outputs {
  bool logits = false;
  bool probabilities = false;
  bool classes = false;
};

// The requested outputs, or the default for the model's loss.
absl::StatusOr<Outputs> DecodeOutputs(const v1::PredictRequest& request,
                                      const engine::Network& network) {
  const engine::Loss loss = network.spec().loss.kind;
  const bool classifies = engine::Classifies(loss);
  const bool one_class =
      loss == engine::Loss::kSoftmaxCrossEntropy || (classifies && network.outputs() == 1);
  if (request.outputs().empty()) return Outputs{!classifies, classifies, one_class};
  Outputs outputs;
  base::Fields fields;
  for (int i = 0; i < request.outputs_size(); ++i) {
    const std::string field = absl::StrCat("outputs[", i, "]");
    switch (request.outputs(i)) {
      case v1::PREDICT_OUTPUT_LOGITS:
        outputs.logits = true;
        break;
      case v1::PREDICT_OUTPUT_PROBABILITIES:
        outputs.probabilities = true;
        if (!classifies) fields.Add(field, "a regression model has no probabilities");
        break;
      case v1::PREDICT_OUTPUT_CLASSES:
        outputs.classes = true;
        if (!one_class) {
          fields.Add(
              field,
              classifies
                  ? "a model with several binary outputs has no single class; request PROBABILITIES"
                  : "a regression model has no classes");
        }
        break;
      default:
        fields.Add(field, absl::StrCat("expected LOGITS, PROBABILITIES or CLASSES, got ",
                                       static_cast<int>(request.outputs(i))));
    }
  }
  if (!fields.ok()) return fields.status();
  return outputs;
}

class PredictWork {
 public:
  PredictWork(UnaryCall* call, ModelPtr model, StatePtr state, engine::Dataset data,
              Outputs outputs, v1::TensorEncoding encoding, v1::PredictResponse* response)
      : call_(call),
        model_(std::move(model)),
        state_(std::move(state)),
        data_(std::move(data)),
        encoding_(encoding),
        response_(response),
        at_once_(engine::Workspace::RowsAtOnce(network())) {
    const engine::DataType type = network().spec().data_type;
    if (outputs.logits) logits_ = engine::Buffer(type, data_.rows * network().outputs());
    if (outputs.probabilities) {
      probabilities_ = engine::Buffer(type, data_.rows * network().outputs());
    }
    if (outputs.classes) response_->mutable_classes()->Resize(static_cast<int>(data_.rows), 0);
  }

  bool cancelled() const { return call_->cancelled(); }

  bool Advance() {
    const int64_t count = std::min(at_once_, data_.rows - done_);
    const int64_t offset = done_ * network().outputs() * engine::SizeOf(logits_.type());
    engine::PredictTargets out;
    if (logits_.count() > 0) out.logits = logits_.bytes() + offset;
    if (probabilities_.count() > 0) {
      out.probabilities = probabilities_.bytes() +
                          done_ * network().outputs() * engine::SizeOf(probabilities_.type());
    }
    if (response_->classes_size() > 0)
      out.classes = response_->mutable_classes()->mutable_data() + done_;
    engine::Predict(network(), *state_, data_.View(done_, count), &workspace_, out);
    done_ += count;
    return done_ < data_.rows;
  }

  void Finish(const absl::Status& status) {
    if (!status.ok()) return call_->Done(status);
    const engine::DataType type = network().spec().data_type;
    const std::vector<int64_t> shape = {data_.rows, network().outputs()};
    if (logits_.count() > 0) {
      codec::EncodeTensor(logits_.bytes(), type, shape, encoding_, response_->mutable_logits());
    }
    if (probabilities_.count() > 0) {
      codec::EncodeTensor(probabilities_.bytes(), type, shape, encoding_,
                          response_->mutable_probabilities());
    }
    const auto& names = model_->info().class_names;
    if (!names.empty()) {
      for (int32_t c : response_->classes()) {
        response_->add_class_names(names[static_cast<size_t>(c)]);
      }
    }
    response_->set_step(state_->step);
    call_->Done(absl::OkStatus());
  }

 private:
  const engine::Network& network() const { return model_->network(); }

  UnaryCall* const call_;
  const ModelPtr model_;
  const StatePtr state_;
  const engine::Dataset data_;
  const v1::TensorEncoding encoding_;
  v1::PredictResponse* const response_;
  const int64_t at_once_;
  engine::Workspace workspace_;
  engine::Buffer logits_;
  engine::Buffer probabilities_;
  int64_t done_ = 0;
};

// Upper bound of the size in bytes of one row of the reply: its tensors, its class, and the name of
// its class.
int64_t RowBytes(const Outputs& outputs, v1::TensorEncoding encoding,
                 const session::Session& model) {
  const engine::Network& network = model.network();
  const int64_t tensors = outputs.logits + outputs.probabilities;
  int64_t bytes =
      tensors * network.outputs() * codec::ElementBytes(encoding, network.spec().data_type);
  if (outputs.classes) {
    const int64_t classes = engine::ClassesOf(network.spec().loss.kind, network.outputs());
    bytes += codec::VarintBytes(classes - 1) + codec::LongestFieldBytes(model.info().class_names);
  }
  return bytes;
}

}  // namespace

void HandlePredict(Context* context, UnaryCall* call, const ModelPtr& model,
                   const v1::PredictRequest& request, v1::PredictResponse* response) {
  const engine::Network& network = model->network();
  const auto outputs = DecodeOutputs(request, network);
  if (!outputs.ok()) return call->Done(outputs.status());
  auto data = codec::DecodeInputs(request.inputs(), "inputs", model->network(), model->info(),
                                  context->limits());
  if (!data.ok()) return call->Done(data.status());
  const auto encoding = codec::EncodingOf(request.inputs());
  const absl::Status fits =
      codec::CheckReplyBytes("inputs", data->rows * RowBytes(*outputs, encoding, *model),
                             context->limits(), "send fewer rows per request");
  if (!fits.ok()) return call->Done(fits);
  const int64_t cost = engine::ForwardCost(network, data->rows);
  auto state = model->ReadFitted();
  if (!state.ok()) return call->Done(state.status());
  exec::RunSliced(context->environment->pool, cost,
                  std::make_shared<PredictWork>(call, model, *std::move(state), *std::move(data),
                                                *outputs, encoding, response));
}

}  // namespace backprop::rpc
