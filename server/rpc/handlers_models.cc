// CreateModel, GetModel, ListModels, DeleteModel.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/model_codec.h"
#include "server/codec/names.h"
#include "server/codec/paging.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/spec_codec.h"
#include "server/engine/network.h"
#include "server/exec/compute_pool.h"
#include "server/records/project.h"
#include "server/registry/registry.h"
#include "server/rpc/describe_model.h"
#include "server/rpc/handlers.h"
#include "server/rpc/request_key.h"
#include "server/session/errors.h"

namespace backprop::rpc {
namespace {

// Operations to draw one parameter, approximately.
constexpr int64_t kInitialCost = 50;

absl::StatusOr<registry::Registry::CreateArgs> DecodeCreate(const Context& context,
                                                            const std::string& project,
                                                            const char* method,
                                                            const v1::CreateModelRequest& request) {
  base::Fields fields;
  registry::Registry::CreateArgs args;
  auto key = ScopedRequestKeyOf(project, method, request.request_id(), request);
  if (!key.ok()) return key.status();
  args.key = *std::move(key);
  args.info.id = records::ScopedId(project, request.model_id());
  if (!request.model_id().empty() && !codec::IsModelId(request.model_id())) {
    fields.Add("model_id",
               absl::StrCat("expected 1 to 63 characters of [a-z0-9_-], starting with a letter or "
                            "digit, got ",
                            base::Quote(request.model_id())));
  }
  codec::DecodeLabels(request.labels(), &args.info.labels, &fields);
  if (request.has_ttl()) codec::DecodeTtl(request.ttl(), &args.info.ttl, &fields);
  if (!fields.ok()) return fields.status();
  const auto durability =
      codec::DecodeDurability(context.environment->store != nullptr, request.durability());
  if (!durability.ok()) return durability.status();
  args.durability = *durability;
  if (!request.has_spec()) return base::FieldError("spec", "is required");
  // This response, and all later ones about the model, contain the spec with its defaults.
  constexpr int64_t kLayerBytes = 64;
  const absl::Status fits =
      codec::CheckReplyBytes("spec",
                             static_cast<int64_t>(request.spec().ByteSizeLong()) +
                                 kLayerBytes * request.spec().layers_size(),
                             context.limits(), "use fewer or shorter class and feature names");
  if (!fits.ok()) return fits;
  auto spec = codec::DecodeSpec(request.spec(), context.limits());
  if (!spec.ok()) return spec.status();
  const auto& classes = request.spec().class_names();
  const auto& features = request.spec().feature_names();
  args.info.class_names.assign(classes.begin(), classes.end());
  args.info.feature_names.assign(features.begin(), features.end());
  args.network = std::make_shared<engine::Network>(*std::move(spec));
  return args;
}

}  // namespace

void CreateFrom(Context* context, const std::string& project, const char* method,
                const v1::CreateModelRequest& request, session::IsCancelled cancelled,
                v1::Model* model, absl::AnyInvocable<void(const absl::Status&)> done) {
  auto decoded = DecodeCreate(*context, project, method, request);
  if (!decoded.ok()) return done(decoded.status());
  const auto network = decoded->network;
  decoded->initial = [network, &request]() -> absl::StatusOr<std::shared_ptr<engine::State>> {
    if (!request.has_initial_parameters()) return engine::InitialState(*network);
    return codec::DecodeParameters(request.initial_parameters(), "initial_parameters", *network,
                                   *engine::EmptyState(*network), /*require_all=*/true);
  };
  auto create = [context, args = *std::move(decoded), cancelled = std::move(cancelled), model,
                 done = std::move(done)]() mutable {
    if (cancelled()) return done(base::CallerGone());
    context->registry->Create(
        std::move(args),
        [model, done = std::move(done)](
            const absl::StatusOr<std::shared_ptr<session::Session>>& session) mutable {
          if (!session.ok()) return done(session.status());
          // The model as it was created, also in the response to a retry.
          DescribeModel(**session, {(*session)->created_at_step(), ""}, model);
          done(absl::OkStatus());
        });
  };
  context->environment->pool->RunOrPost(network->parameter_count() * kInitialCost,
                                        std::move(create));
}

void HandleCreateModel(Context* context, UnaryCall* call, const v1::CreateModelRequest& request,
                       v1::CreateModelResponse* response) {
  CreateFrom(
      context, call->caller().project, "CreateModel", request, [call] { return call->cancelled(); },
      response->mutable_model(),
      [call, response](const absl::Status& status) {
        if (status.ok()) call->SetResource(response->model().name());
        call->Done(status);
      });
}

void HandleGetModel(Context* context, UnaryCall* call, const ModelPtr& model,
                    const v1::GetModelRequest&, v1::GetModelResponse* response) {
  DescribeModel(*model, model->activity(), response->mutable_model());
  // The model may have been created with larger limits.
  call->Done(codec::CheckReplyBytes(
      "name", static_cast<int64_t>(response->ByteSizeLong()) - codec::kEnvelopeBytes,
      context->limits(), "raise --max-message-bytes"));
}

void HandleListModels(Context* context, UnaryCall* call, const v1::ListModelsRequest& request,
                      v1::ListModelsResponse* response) {
  if (context->environment->draining) return call->Done(session::ShuttingDown());
  base::Fields fields;
  const size_t page_size = codec::DecodePage(request, "ListModels", &fields);
  std::map<std::string, std::string> labels;
  codec::DecodeLabels(request.labels(), &labels, &fields);
  if (!fields.ok()) return call->Done(fields.status());
  auto list = [=, labels = std::move(labels), &token = request.page_token()] {
    const std::string& project = call->caller().project;
    const auto models = context->registry->List(
        records::ScopedId(project, ""), records::ScopedId(project, token), page_size + 1, labels);
    if (!models.ok()) return call->Done(models.status());
    call->Done(codec::EncodePage(
        page_size, *models, context->limits(),
        [](const auto& model) { return std::string(records::IdOf(model.info.id)); },
        [](const auto& model, v1::Model* message) { DescribeModel(model, message); },
        response->mutable_models(), response->mutable_next_page_token()));
  };
  if (context->environment->store == nullptr) return list();
  // Reads a record of each model.
  context->environment->pool->Post(exec::Priority::kInteractive, std::move(list));
}

void HandleDeleteModel(Context* context, UnaryCall* call, const v1::DeleteModelRequest& request,
                       v1::DeleteModelResponse*) {
  const auto id = codec::ParseModelName("name", request.name());
  if (!id.ok()) return call->Done(id.status());
  const std::string& project = call->caller().project;
  const auto key = ScopedRequestKeyOf(project, "DeleteModel", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  context->registry->Delete(records::ScopedId(project, *id), *key,
                            [call](const absl::Status& status) { call->Done(status); });
}

}  // namespace backprop::rpc
