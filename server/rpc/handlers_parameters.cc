// GetParameters, SetParameters.
#include <utility>

#include "server/base/status.h"
#include "server/codec/parameters_codec.h"
#include "server/engine/network.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/handlers.h"
#include "server/rpc/request_key.h"
#include "server/session/session.h"

namespace backprop::rpc {

void HandleGetParameters(Context* context, UnaryCall* call, const ModelPtr& model,
                         const v1::GetParametersRequest& request,
                         v1::GetParametersResponse* response) {
  const bool with_state = !request.omit_optimizer_state();
  absl::Status status = codec::CheckEncoding(request.encoding());
  if (status.ok()) {
    status = codec::CheckParametersSize(model->network(), request.encoding(), with_state,
                                        context->limits());
  }
  if (!status.ok()) return call->Done(status);
  const int64_t bytes =
      codec::EncodedParametersBytes(model->network(), request.encoding(), with_state);
  auto encode = [=, encoding = request.encoding(), state = model->Read()] {
    codec::EncodeParameters(model->network(), *state, encoding, with_state,
                            response->mutable_parameters());
    call->Done(absl::OkStatus());
  };
  context->environment->pool->RunOrPost(bytes, std::move(encode));
}

void HandleSetParameters(Context*, UnaryCall* call, const ModelPtr& model,
                         const v1::SetParametersRequest& request,
                         v1::SetParametersResponse* response) {
  auto key = RequestKeyOf("SetParameters", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  if (!request.has_parameters()) {
    return call->Done(base::FieldError("parameters", "is required"));
  }
  session::Session::EditArgs args;
  // The session keeps itself, and so the network, alive during the edit.
  args.edit = [&request, network = &model->network()](const engine::State& current) {
    return codec::DecodeParameters(request.parameters(), "parameters", *network, current,
                                   /*require_all=*/false);
  };
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  args.key = *std::move(key);
  args.cancelled = [call] { return call->cancelled(); };
  args.times = call->Decoded();
  model->Edit(std::move(args),
              call->Answer([response](int64_t step) { response->set_step(step); }));
}

}  // namespace backprop::rpc
