// CreateCheckpoint, ListCheckpoints, RestoreCheckpoint, DeleteCheckpoint.
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/names.h"
#include "server/codec/paging.h"
#include "server/codec/time_codec.h"
#include "server/codec/training_codec.h"
#include "server/records/checkpoint.h"
#include "server/registry/session_cache.h"
#include "server/rpc/handlers.h"
#include "server/rpc/request_key.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

constexpr char kRunPrefix[] = "run-";  // ids with this prefix are for checkpoints of runs

void EncodeCheckpoint(const std::string& model, const records::Checkpoint& checkpoint,
                      v1::Checkpoint* message) {
  message->set_name(absl::StrCat(model, "/checkpoints/", checkpoint.id));
  message->set_step(checkpoint.step);
  codec::EncodeTimestamp(checkpoint.create_time, message->mutable_create_time());
  message->set_size_bytes(checkpoint.size_bytes);
  if (checkpoint.run > 0) message->set_run(absl::StrCat(model, "/runs/", checkpoint.run));
  message->set_iteration(checkpoint.iteration);
  message->set_best(checkpoint.best);
  if (checkpoint.metrics.has_value()) {
    codec::EncodeMetrics(*checkpoint.metrics, message->mutable_metrics());
  }
  if (checkpoint.validation.has_value()) {
    codec::EncodeMetrics(*checkpoint.validation, message->mutable_validation());
  }
}

// Finds the model of a request that names a checkpoint, and calls `operation` with its session and
// the arguments of the operation.
template <class Request, class Operation>
void WithCheckpoint(Context* context, UnaryCall* call, const char* method, const Request& request,
                    Operation operation) {
  const auto name = codec::ParseCheckpointName("name", request.name());
  if (!name.ok()) return call->Done(name.status());
  auto key = RequestKeyOf(method, request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  FindModelById(context, call->caller(), name->model,
                [=, id = name->id, key = *std::move(key)](const registry::MaybeSession& model) {
                  if (!model.ok()) return call->Done(model.status());
                  operation(**model, session::Session::CheckpointArgs{
                                         id, key, [call] { return call->cancelled(); }});
                });
}

}  // namespace

void HandleCreateCheckpoint(Context*, UnaryCall* call, const ModelPtr& model,
                            const v1::CreateCheckpointRequest& request,
                            v1::CreateCheckpointResponse* response) {
  const std::string& id = request.checkpoint_id();
  if (!codec::IsModelId(id) || absl::StartsWith(id, kRunPrefix)) {
    return call->Done(base::FieldError(
        "checkpoint_id",
        absl::StrCat("expected 1 to 63 characters of [a-z0-9_-], starting with a letter or "
                     "digit but not with run-, got ",
                     base::Quote(id))));
  }
  auto key = RequestKeyOf("CreateCheckpoint", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  model->CreateCheckpoint(
      {id, *std::move(key), [call] { return call->cancelled(); }},
      call->Answer([response, name = model->name()](const records::CheckpointPtr& checkpoint) {
        EncodeCheckpoint(name, *checkpoint, response->mutable_checkpoint());
      }));
}

void HandleListCheckpoints(Context* context, UnaryCall* call, const ModelPtr& model,
                           const v1::ListCheckpointsRequest& request,
                           v1::ListCheckpointsResponse* response) {
  base::Fields fields;
  const size_t page_size = codec::DecodePage(request, "ListCheckpoints", &fields);
  if (!fields.ok()) return call->Done(fields.status());
  auto list = model->ListCheckpoints(request.page_token(), page_size + 1);
  call->Done(codec::EncodePage(
      page_size, list, context->limits(), [](const auto& checkpoint) { return checkpoint->id; },
      [name = model->name()](const auto& checkpoint, v1::Checkpoint* message) {
        EncodeCheckpoint(name, *checkpoint, message);
      },
      response->mutable_checkpoints(), response->mutable_next_page_token()));
}

void HandleRestoreCheckpoint(Context* context, UnaryCall* call,
                             const v1::RestoreCheckpointRequest& request,
                             v1::RestoreCheckpointResponse* response) {
  std::optional<int64_t> expected_step;
  if (request.has_expected_step()) expected_step = request.expected_step();
  WithCheckpoint(context, call, "RestoreCheckpoint", request,
                 [=](session::Session& model, session::Session::CheckpointArgs args) {
                   model.RestoreCheckpoint(
                       std::move(args), expected_step,
                       call->Answer([response](int64_t step) { response->set_step(step); }));
                 });
}

void HandleDeleteCheckpoint(Context* context, UnaryCall* call,
                            const v1::DeleteCheckpointRequest& request,
                            v1::DeleteCheckpointResponse*) {
  WithCheckpoint(context, call, "DeleteCheckpoint", request,
                 [=](session::Session& model, session::Session::CheckpointArgs args) {
                   model.DeleteCheckpoint(std::move(args), call->Answer([](int64_t) {}));
                 });
}

}  // namespace backprop::rpc
