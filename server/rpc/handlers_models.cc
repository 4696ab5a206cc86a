// CreateModel, GetModel, ListModels, DeleteModel.
#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/enum_table.h"
#include "server/rpc/fields.h"
#include "server/rpc/handlers.h"
#include "server/rpc/names.h"
#include "server/rpc/paging.h"
#include "server/rpc/parameters_codec.h"
#include "server/rpc/spec_codec.h"
#include "server/rpc/time_codec.h"

namespace backprop::rpc {
namespace {

constexpr int kMaxLabels = 64;
constexpr size_t kMaxLabelKeyBytes = 63;
constexpr size_t kMaxLabelValueBytes = 255;
constexpr absl::Duration kMinTtl = absl::Seconds(1);
constexpr absl::Duration kMaxTtl = absl::Hours(24 * 3653);
// Drawing a parameter costs some fifty operations.
constexpr int64_t kInitialCost = 50;

bool IsLabelKey(const std::string& key) {
  return !key.empty() && key.size() <= kMaxLabelKeyBytes &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
                  c == '-';
         });
}

void DecodeLabels(const google::protobuf::Map<std::string, std::string>& labels,
                  std::map<std::string, std::string>* out, Fields* fields) {
  if (labels.size() > kMaxLabels) {
    fields->Add("labels", absl::StrCat("must be at most ", kMaxLabels, ", got ", labels.size()));
  }
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      fields->Add("labels",
                  absl::StrCat("a key must be 1 to ", kMaxLabelKeyBytes, " of [a-z0-9_.-], got \"",
                               absl::CEscape(key.substr(0, 80)), "\""));
    } else if (value.size() > kMaxLabelValueBytes) {
      fields->Add(
          absl::StrCat("labels[", key, "]"),
          absl::StrCat("must have at most ", kMaxLabelValueBytes, " bytes, got ", value.size()));
    }
  }
  out->insert(labels.begin(), labels.end());
}

void DecodeTtl(const google::protobuf::Duration& message, std::optional<absl::Duration>* ttl,
               Fields* fields) {
  const absl::Duration value =
      absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
  if (value < kMinTtl || value > kMaxTtl) {
    fields->Add("ttl",
                absl::StrCat("must be between 1s and 10 years, got ", absl::FormatDuration(value)));
  }
  *ttl = value;
}

constexpr EnumPair<v1::Durability, store::Durability> kDurabilities[] = {
    {v1::DURABILITY_SYNC, store::Durability::kSync},
    {v1::DURABILITY_EVERY_SECOND, store::Durability::kEverySecond},
    {v1::DURABILITY_NONE, store::Durability::kNone},
};

void EncodeModel(const session::Session& session, const session::Session::Status& status,
                 v1::Model* model) {
  const session::ModelInfo& info = session.info();
  model->set_name(session.name());
  EncodeSpec(session.network().spec(), model->mutable_spec());
  for (const auto& name : info.class_names) model->mutable_spec()->add_class_names(name);
  for (const auto& name : info.feature_names) model->mutable_spec()->add_feature_names(name);
  model->set_step(status.step);
  model->set_parameter_count(session.network().parameter_count());
  model->mutable_labels()->insert(info.labels.begin(), info.labels.end());
  EncodeTimestamp(session.create_time(), model->mutable_create_time());
  model->set_active_run(status.active_run);
  model->set_durability(session.journal() == nullptr
                            ? v1::DURABILITY_NONE
                            : EncodeEnum(kDurabilities, session.journal()->durability()));
  if (!info.ttl.has_value()) return;
  EncodeDuration(*info.ttl, model->mutable_ttl());
  if (const auto expires = session.ExpireTime()) {
    EncodeTimestamp(*expires, model->mutable_expire_time());
  }
}

// What can be promised of what was asked for.
absl::StatusOr<store::Durability> DecodeDurability(const Context& context, v1::Durability asked) {
  const bool stores = context.environment->store != nullptr;
  Fields fields;
  const auto decoded =
      DecodeEnum(kDurabilities, asked, stores ? store::Durability::kSync : store::Durability::kNone,
                 "durability", "SYNC, EVERY_SECOND or NONE", &fields);
  if (!fields.ok()) return fields.status();
  if (stores || decoded == store::Durability::kNone) return decoded;
  return session::ReasonError(
      absl::StatusCode::kFailedPrecondition,
      "durability: the server was started without --data-dir and can promise NONE alone",
      {"NO_DATA_DIR", {}});
}

absl::StatusOr<session::Registry::CreateArgs> DecodeCreate(const Context& context,
                                                           const v1::CreateModelRequest& request) {
  Fields fields;
  session::Registry::CreateArgs args;
  auto key = KeyOf("CreateModel", request.request_id(), request);
  if (!key.ok()) return key.status();
  args.key = *std::move(key);
  args.info.id = request.model_id();
  if (!request.model_id().empty() && !IsModelId(request.model_id())) {
    fields.Add("model_id", absl::StrCat("expected 1 to 63 of [a-z0-9_-], starting with a letter or "
                                        "digit, got \"",
                                        absl::CEscape(request.model_id().substr(0, 80)), "\""));
  }
  DecodeLabels(request.labels(), &args.info.labels, &fields);
  if (request.has_ttl()) DecodeTtl(request.ttl(), &args.info.ttl, &fields);
  if (!fields.ok()) return fields.status();
  const auto durability = DecodeDurability(context, request.durability());
  if (!durability.ok()) return durability.status();
  args.durability = *durability;
  if (!request.has_spec()) return session::FieldError("spec", "is required");
  auto spec = DecodeSpec(request.spec(), context.limits());
  if (!spec.ok()) return spec.status();
  const auto& classes = request.spec().class_names();
  const auto& features = request.spec().feature_names();
  args.info.class_names.assign(classes.begin(), classes.end());
  args.info.feature_names.assign(features.begin(), features.end());
  args.network = std::make_shared<engine::Network>(*std::move(spec));
  return args;
}

void Create(Context* context, UnaryCall* call, session::Registry::CreateArgs args,
            v1::CreateModelResponse* response) {
  if (call->cancelled()) return call->Done(CallerGone());
  if (context->environment->store != nullptr) {
    args.spec_record =
        EncodeSpecRecord(args.network->spec(), args.info.class_names, args.info.feature_names);
  }
  context->registry->Create(
      std::move(args),
      [call, response](const absl::StatusOr<std::shared_ptr<session::Session>>& session) {
        if (!session.ok()) return call->Done(session.status());
        // As it was created, also for a retry that comes later.
        EncodeModel(**session, {(*session)->created_at_step(), ""}, response->mutable_model());
        call->Done(absl::OkStatus());
      });
}

}  // namespace

void HandleCreateModel(Context* context, UnaryCall* call, const v1::CreateModelRequest& request,
                       v1::CreateModelResponse* response) {
  auto args = DecodeCreate(*context, request);
  if (!args.ok()) return call->Done(args.status());
  const auto network = args->network;
  args->initial = [network, &request]() -> absl::StatusOr<std::shared_ptr<engine::State>> {
    if (!request.has_initial_parameters()) return engine::InitialState(*network);
    return DecodeParameters(request.initial_parameters(), "initial_parameters", *network,
                            *engine::EmptyState(*network), /*require_all=*/true);
  };
  if (network->parameter_count() * kInitialCost <= session::Strand::kInlineCost) {
    return Create(context, call, *std::move(args), response);
  }
  context->environment->pool->Post(session::Priority::kInteractive,
                                   [context, call, args = *std::move(args), response]() mutable {
                                     Create(context, call, std::move(args), response);
                                   });
}

void HandleGetModel(Context* context, UnaryCall* call, const v1::GetModelRequest& request,
                    v1::GetModelResponse* response) {
  const auto session = FindModel(context, "name", request.name());
  if (!session.ok()) return call->Done(session.status());
  EncodeModel(**session, (*session)->status(), response->mutable_model());
  call->Done(absl::OkStatus());
}

void HandleListModels(Context* context, UnaryCall* call, const v1::ListModelsRequest& request,
                      v1::ListModelsResponse* response) {
  if (context->environment->draining) return call->Done(session::ShuttingDown());
  Fields fields;
  const size_t page_size = DecodePage(request, "ListModels", &fields);
  std::map<std::string, std::string> labels;
  DecodeLabels(request.labels(), &labels, &fields);
  if (!fields.ok()) return call->Done(fields.status());
  auto sessions = context->registry->List(request.page_token(), page_size + 1, labels);
  if (!sessions.ok()) return call->Done(sessions.status());
  response->set_next_page_token(
      CutToPage(page_size, &*sessions, [](const auto& session) { return session->info().id; }));
  for (const auto& session : *sessions) {
    EncodeModel(*session, session->status(), response->add_models());
  }
  call->Done(absl::OkStatus());
}

void HandleDeleteModel(Context* context, UnaryCall* call, const v1::DeleteModelRequest& request,
                       v1::DeleteModelResponse*) {
  const auto id = ParseModelName("name", request.name());
  if (!id.ok()) return call->Done(id.status());
  const auto key = KeyOf("DeleteModel", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  context->registry->Delete(*id, *key, [call](const absl::Status& status) { call->Done(status); });
}

}  // namespace backprop::rpc
