#include "server/codec/dataset_codec.h"

#include <zlib.h>

#include <limits>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/batch_codec.h"
#include "server/codec/data_types.h"
#include "server/codec/enum_table.h"
#include "server/codec/model_codec.h"
#include "server/codec/names.h"
#include "server/codec/tensor_codec.h"
#include "server/codec/time_codec.h"
#include "server/engine/data.h"
#include "server/engine/spec.h"

namespace backprop::codec {
namespace {

using base::FieldError;

constexpr size_t kMaxClassNameBytes = 255;
constexpr int kMaxFeatureNames = 65536;
constexpr int64_t kMaxFeatureNamesBytes = int64_t{1} << 20;  // of all, held while the dataset is
constexpr char kInputs[] = "chunk.rows.inputs";
constexpr char kTargets[] = "chunk.rows.targets";

// No model defines the number of columns here, so the shape must have two dimensions.
absl::StatusOr<Matrix> DecodeShaped(const v1::Tensor& tensor, const char* field, int64_t rows,
                                    engine::DataType type, const base::Limits& limits) {
  if (tensor.shape_size() != 2) {
    return FieldError(absl::StrCat(field, ".shape"),
                      absl::StrCat("expected 2 dimensions, got ", tensor.shape_size()));
  }
  MatrixRules rules;
  rules.field = field;
  rules.rows = rows;
  rules.cols = tensor.shape(1);
  rules.max_rows = limits.max_rows;
  rules.type = type;
  rules.is_data = true;
  if (rules.cols < 1 || rules.cols > limits.max_parameters) {
    return FieldError(
        absl::StrCat(field, ".shape[1]"),
        absl::StrCat("must be in [1, ", limits.max_parameters, "], got ", rules.cols));
  }
  return DecodeMatrix(tensor, rules);
}

absl::Status DecodeWanted(const v1::Batch& batch, const base::Limits& limits, DecodedChunk* chunk) {
  engine::Dataset& rows = chunk->rows;
  const int given = batch.has_labels() + !batch.label_names().empty() + batch.has_targets();
  if (given != 1) {
    return FieldError("chunk.rows",
                      absl::StrCat("expected one of labels, label_names and targets, got ",
                                   given == 0 ? "none" : "several"));
  }
  if (batch.has_targets()) {
    auto targets = DecodeShaped(batch.targets(), kTargets, rows.rows, rows.inputs.type(), limits);
    if (!targets.ok()) return targets.status();
    rows.targets_per_row = batch.targets().shape(1);
    rows.targets = std::move(targets->elements);
    return absl::OkStatus();
  }
  if (batch.has_labels()) {
    auto classes = DecodeClasses(batch.labels(), "chunk.rows.labels",
                                 std::numeric_limits<int32_t>::max(), rows.rows);
    if (!classes.ok()) return classes.status();
    rows.classes = *std::move(classes);
    return absl::OkStatus();
  }
  if (batch.label_names_size() != rows.rows) {
    return FieldError("chunk.rows.label_names", absl::StrCat("expected ", rows.rows, " names, got ",
                                                             batch.label_names_size()));
  }
  chunk->claims.label_names.assign(batch.label_names().begin(), batch.label_names().end());
  return absl::OkStatus();
}

uint32_t ChecksumOf(const engine::Dataset& rows) {
  uLong crc = crc32_z(0, nullptr, 0);
  const auto add = [&](const void* data, size_t bytes) {
    crc = crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  add(rows.inputs.bytes(), rows.inputs.size_bytes());
  if (!rows.classes.empty()) add(rows.classes.data(), rows.classes.size() * sizeof(int32_t));
  if (rows.targets.count() > 0) add(rows.targets.bytes(), rows.targets.size_bytes());
  if (rows.sample_weights.count() > 0) {
    add(rows.sample_weights.bytes(), rows.sample_weights.size_bytes());
  }
  return static_cast<uint32_t>(crc);
}

// Sets the class of each row to the index of its name in `class_names`. Appends unknown names.
absl::Status NameClasses(const std::vector<std::string>& label_names, engine::Dataset* rows,
                         std::vector<std::string>* class_names) {
  absl::flat_hash_map<std::string, int32_t> places;
  for (size_t i = 0; i < class_names->size(); ++i) {
    places[(*class_names)[i]] = static_cast<int32_t>(i);
  }
  rows->classes.clear();
  for (size_t i = 0; i < label_names.size(); ++i) {
    const std::string& name = label_names[i];
    const auto [it, is_new] = places.try_emplace(name, static_cast<int32_t>(class_names->size()));
    if (is_new) {
      const std::string field = absl::StrCat("chunk.rows.label_names[", i, "]");
      if (name.empty() || name.size() > kMaxClassNameBytes) {
        return FieldError(field, absl::StrCat("must have 1 to ", kMaxClassNameBytes, " bytes, got ",
                                              name.size()));
      }
      if (class_names->size() == base::kMaxDatasetClassNames) {
        return FieldError(field, absl::StrCat("a dataset has at most ", base::kMaxDatasetClassNames,
                                              " distinct names, got another: ", base::Quote(name)));
      }
      class_names->push_back(name);
    }
    rows->classes.push_back(it->second);
  }
  return absl::OkStatus();
}

absl::Status CheckKind(const records::DatasetInfo& info, const engine::Dataset& rows, bool named) {
  const auto named_inputs = static_cast<int64_t>(info.feature_names.size());
  if (named_inputs > 0 && rows.inputs_per_row != named_inputs) {
    return FieldError(
        absl::StrCat(kInputs, ".shape[1]"),
        absl::StrCat("expected ", named_inputs,
                     " columns, one per name in header.feature_names, got ", rows.inputs_per_row));
  }
  if (info.rows == 0) return absl::OkStatus();
  if (rows.inputs_per_row != info.inputs_per_row) {
    return FieldError(absl::StrCat(kInputs, ".shape[1]"),
                      absl::StrCat("expected ", info.inputs_per_row,
                                   " columns as in the first chunk, got ", rows.inputs_per_row));
  }
  if (rows.targets_per_row != info.targets_per_row) {
    return FieldError("chunk.rows", absl::StrCat("expected ", info.targets_per_row,
                                                 " targets per row as in the first chunk, got ",
                                                 rows.targets_per_row));
  }
  if (info.targets_per_row == 0 && named != !info.class_names.empty()) {
    return FieldError("chunk.rows", absl::StrCat("expected ", named ? "labels" : "label_names",
                                                 " as in the first chunk, got ",
                                                 named ? "label_names" : "labels"));
  }
  if ((rows.sample_weights.count() > 0) != info.sample_weights) {
    return FieldError("chunk.rows.sample_weights",
                      info.sample_weights ? "are required, because the first chunk has them"
                                          : "must not be set, because the first chunk has none");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<records::NewDataset> DecodeHeader(const v1::DatasetHeader& message) {
  base::Fields fields;
  records::NewDataset args;
  if (!IsModelId(message.dataset_id())) {
    fields.Add(
        "header.dataset_id",
        absl::StrCat(
            "expected 1 to 63 characters of [a-z0-9_-], starting with a letter or digit, got ",
            base::Quote(message.dataset_id())));
  }
  args.id = message.dataset_id();
  const absl::Status key = CheckRequestId(message.request_id());
  if (message.request_id().empty()) {
    fields.Add("header.request_id", "is required");
  } else if (!key.ok()) {
    fields.Add("header.request_id",
               "must be at most 128 printable ASCII characters without spaces");
  }
  args.request_id = message.request_id();
  args.data_type = DecodeEnum(kDataTypes, message.data_type(), engine::DataType::kFloat32,
                              "header.data_type", "FLOAT32 or FLOAT64", &fields);
  DecodeLabels(message.labels(), &args.labels, &fields);
  if (message.feature_names_size() > kMaxFeatureNames) {
    fields.Add("header.feature_names", absl::StrCat("must have at most ", kMaxFeatureNames,
                                                    " names, got ", message.feature_names_size()));
  } else {
    CheckNames(message.feature_names(), "header.feature_names", message.feature_names_size(),
               &fields);
    int64_t bytes = 0;
    for (const std::string& name : message.feature_names()) {
      bytes += static_cast<int64_t>(name.size());
    }
    if (bytes > kMaxFeatureNamesBytes) {
      fields.Add("header.feature_names", absl::StrCat("must have at most ", kMaxFeatureNamesBytes,
                                                      " bytes in total, got ", bytes));
    }
  }
  args.feature_names.assign(message.feature_names().begin(), message.feature_names().end());
  if (!fields.ok()) return fields.status();
  return args;
}

absl::StatusOr<DecodedChunk> DecodeChunk(const v1::DatasetChunk& message, engine::DataType type,
                                         const base::Limits& limits) {
  if (message.first_row() < 0) {
    return FieldError("chunk.first_row",
                      absl::StrCat("must be at least 0, got ", message.first_row()));
  }
  DecodedChunk chunk;
  const v1::Batch& batch = message.rows();
  auto inputs = DecodeShaped(batch.inputs(), kInputs, MatrixRules::kAnyRows, type, limits);
  if (!inputs.ok()) return inputs.status();
  chunk.rows.rows = inputs->rows;
  chunk.rows.inputs_per_row = batch.inputs().shape(1);
  chunk.rows.inputs = std::move(inputs->elements);
  absl::Status status = DecodeWanted(batch, limits, &chunk);
  if (status.ok() && batch.has_sample_weights()) {
    status = DecodeSampleWeights(batch.sample_weights(), "chunk.rows.sample_weights",
                                 /*may_be_zero=*/true, &chunk.rows);
  }
  if (!status.ok()) return status;
  if (message.has_crc32()) chunk.claims.crc32 = message.crc32();
  return chunk;
}

absl::Status CheckChunk(const records::DatasetInfo& info, const ChunkClaims& claims,
                        engine::Dataset* rows, std::vector<std::string>* class_names) {
  const bool named = !claims.label_names.empty();
  absl::Status status = CheckKind(info, *rows, named);
  if (status.ok() && named) status = NameClasses(claims.label_names, rows, class_names);
  if (!status.ok() || !claims.crc32.has_value()) return status;
  const uint32_t crc = ChecksumOf(*rows);
  if (crc == *claims.crc32) return absl::OkStatus();
  return FieldError(
      "chunk.crc32",
      absl::StrCat("expected ", crc, ", the checksum of the received rows, got ", *claims.crc32));
}

void EncodeDataset(const records::DatasetInfo& info, v1::Dataset* message) {
  message->set_name(info.name());
  message->set_state(info.ready ? v1::DATASET_STATE_READY : v1::DATASET_STATE_UPLOADING);
  message->set_rows(info.rows);
  message->set_input_size(static_cast<int32_t>(info.inputs_per_row));
  message->set_target_size(static_cast<int32_t>(info.targets_per_row));
  message->set_has_sample_weights(info.sample_weights);
  message->set_data_type(EncodeEnum(kDataTypes, info.data_type));
  message->mutable_class_names()->Add(info.class_names.begin(), info.class_names.end());
  message->mutable_labels()->insert(info.labels.begin(), info.labels.end());
  message->mutable_feature_names()->Add(info.feature_names.begin(), info.feature_names.end());
  EncodeTimestamp(info.create_time, message->mutable_create_time());
  message->set_size_bytes(info.size_bytes);
}

}  // namespace backprop::codec
