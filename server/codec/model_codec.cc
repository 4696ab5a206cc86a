#include "server/codec/model_codec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/enum_table.h"
#include "server/codec/spec_codec.h"
#include "server/codec/time_codec.h"
#include "server/records/project.h"

namespace backprop::codec {
namespace {

constexpr int kMaxLabels = 64;
constexpr size_t kMaxLabelKeyBytes = 63;
constexpr size_t kMaxLabelValueBytes = 255;
constexpr absl::Duration kMinTtl = absl::Seconds(1);
constexpr absl::Duration kMaxTtl = absl::Hours(24 * 3653);
bool IsLabelKey(const std::string& key) {
  return !key.empty() && key.size() <= kMaxLabelKeyBytes &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
                  c == '-';
         });
}

constexpr EnumPair<v1::Durability, records::Durability> kDurabilities[] = {
    {v1::DURABILITY_SYNC, records::Durability::kSync},
    {v1::DURABILITY_EVERY_SECOND, records::Durability::kEverySecond},
    {v1::DURABILITY_NONE, records::Durability::kNone},
};

}  // namespace

void DecodeLabels(const google::protobuf::Map<std::string, std::string>& labels,
                  std::map<std::string, std::string>* out, base::Fields* fields) {
  if (labels.size() > kMaxLabels) {
    fields->Add("labels",
                absl::StrCat("must have at most ", kMaxLabels, " entries, got ", labels.size()));
  }
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      fields->Add("labels", absl::StrCat("a key must have 1 to ", kMaxLabelKeyBytes,
                                         " characters of [a-z0-9_.-], got ", base::Quote(key)));
    } else if (value.size() > kMaxLabelValueBytes) {
      fields->Add(
          absl::StrCat("labels[", key, "]"),
          absl::StrCat("must have at most ", kMaxLabelValueBytes, " bytes, got ", value.size()));
    }
  }
  out->insert(labels.begin(), labels.end());
}

void DecodeTtl(const google::protobuf::Duration& message, std::optional<absl::Duration>* ttl,
               base::Fields* fields) {
  const absl::Duration value =
      absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
  if (value < kMinTtl || value > kMaxTtl) {
    fields->Add("ttl",
                absl::StrCat("must be between 1s and 10 years, got ", absl::FormatDuration(value)));
  }
  *ttl = value;
}

absl::StatusOr<records::Durability> DecodeDurability(bool stores, v1::Durability asked) {
  base::Fields fields;
  const auto decoded = DecodeEnum(kDurabilities, asked,
                                  stores ? records::Durability::kSync : records::Durability::kNone,
                                  "durability", "SYNC, EVERY_SECOND or NONE", &fields);
  if (!fields.ok()) return fields.status();
  if (stores || decoded == records::Durability::kNone) return decoded;
  return base::ReasonError(
      absl::StatusCode::kFailedPrecondition,
      "durability: must be NONE, because the server was started without --data-dir",
      {"NO_DATA_DIR", {}});
}

void EncodeModel(const ModelDescription& description, v1::Model* model) {
  const records::ModelInfo& info = description.info;
  model->set_name(records::ModelName(info.id));
  EncodeSpec(description.network.spec(), model->mutable_spec());
  for (const auto& name : info.class_names) model->mutable_spec()->add_class_names(name);
  for (const auto& name : info.feature_names) model->mutable_spec()->add_feature_names(name);
  model->set_step(description.step);
  model->set_parameter_count(description.network.parameter_count());
  model->mutable_labels()->insert(info.labels.begin(), info.labels.end());
  EncodeTimestamp(description.create_time, model->mutable_create_time());
  model->set_active_run(description.active_run);
  model->set_durability(EncodeEnum(kDurabilities, description.durability));
  if (info.ttl.has_value()) EncodeDuration(*info.ttl, model->mutable_ttl());
  if (description.expire_time.has_value()) {
    EncodeTimestamp(*description.expire_time, model->mutable_expire_time());
  }
}

}  // namespace backprop::codec
