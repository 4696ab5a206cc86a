// Predict. It reads one state of a model and never changes it.
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/codec/batch_codec.h"
#include "server/codec/reply_size.h"
#include "server/codec/tensor_codec.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/step.h"
#include "server/rpc/handlers.h"
#include "server/rpc/overload.h"
#include "server/session/queries.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

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

// Decodes and checks a request. The classes go into `response`, which must live until the query is
// done. The caller must set `cancelled` of the result.
absl::StatusOr<session::PredictArgs> DecodePredict(const Context& context,
                                                   const session::Session& model,
                                                   const v1::PredictRequest& request,
                                                   v1::PredictResponse* response) {
  const auto outputs = DecodeOutputs(request, model.network());
  if (!outputs.ok()) return outputs.status();
  auto rows = codec::DecodeInputs(request.inputs(), "inputs", model.network(), model.info(),
                                  context.limits());
  if (!rows.ok()) return rows.status();
  const auto encoding = codec::EncodingOf(request.inputs());
  const absl::Status fits =
      codec::CheckReplyBytes("inputs", rows->rows * RowBytes(*outputs, encoding, model),
                             context.limits(), "send fewer rows per request");
  if (!fits.ok()) return fits;
  const absl::Status allowed = ChargeRows(context, model, rows->rows);
  if (!allowed.ok()) return allowed;
  session::PredictArgs args;
  args.rows = *std::move(rows);
  args.logits = outputs->logits;
  args.probabilities = outputs->probabilities;
  if (outputs->classes) {
    response->mutable_classes()->Resize(static_cast<int>(args.rows.rows), 0);
    args.classes = response->mutable_classes()->mutable_data();
  }
  return args;
}

// Encodes all but the classes.
void EncodePrediction(const session::Prediction& prediction, const session::Session& model,
                      v1::TensorEncoding encoding, v1::PredictResponse* response) {
  const engine::DataType type = model.network().spec().data_type;
  const std::vector<int64_t> shape = {prediction.rows, model.network().outputs()};
  if (prediction.logits.count() > 0) {
    codec::EncodeTensor(prediction.logits.bytes(), type, shape, encoding,
                        response->mutable_logits());
  }
  if (prediction.probabilities.count() > 0) {
    codec::EncodeTensor(prediction.probabilities.bytes(), type, shape, encoding,
                        response->mutable_probabilities());
  }
  const auto& names = model.info().class_names;
  if (!names.empty()) {
    for (int32_t c : response->classes()) {
      response->add_class_names(names[static_cast<size_t>(c)]);
    }
  }
  response->set_step(prediction.step);
}

}  // namespace

void HandlePredict(Context* context, UnaryCall* call, const ModelPtr& model,
                   const v1::PredictRequest& request, v1::PredictResponse* response) {
  const engine::Network& network = model->network();
  const int64_t cost = engine::ForwardCost(network, RowsOf(request.inputs(), network));
  if (!AdmitQuery(context, call, *model, cost, /*sliced=*/true)) return;
  auto args = DecodePredict(*context, *model, request, response);
  if (!args.ok()) return call->Done(args.status());
  args->cancelled = [call] { return call->cancelled(); };
  args->times = call->Decoded();
  const auto encoding = codec::EncodingOf(request.inputs());
  session::Predict(model, *std::move(args),
                   call->Answer([model, encoding, response](const session::Prediction& prediction) {
                     EncodePrediction(prediction, *model, encoding, response);
                   }));
}

}  // namespace backprop::rpc
