#include "server/transfer/onnx_metadata.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/text.h"
#include "server/transfer/onnx_format.h"

namespace backprop::transfer {
namespace {

void AddMetadata(const std::string& key, const std::string& value, onnx::ModelProto* file) {
  onnx::StringStringEntryProto* entry = file->add_metadata_props();
  entry->set_key(key);
  entry->set_value(value);
}

std::string JsonOf(const google::protobuf::Message& message) {
  std::string json;
  // Only Any and invalid UTF-8 can fail, and specs have neither.
  (void)google::protobuf::util::MessageToJsonString(message, &json);
  return json;
}

// A JSON array of strings.
std::string JsonOf(const google::protobuf::RepeatedPtrField<std::string>& names) {
  google::protobuf::ListValue list;
  for (const std::string& name : names) list.add_values()->set_string_value(name);
  return JsonOf(list);
}

absl::Status Refuse(const std::string& key, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("metadata_props[", base::Quote(key), "] ", what, "; remove it"));
}

bool Parse(const std::string& json, google::protobuf::Message* message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a later version
  return google::protobuf::util::JsonStringToMessage(json, message, options).ok();
}

absl::Status ReadNames(const std::string& key, const std::string& json,
                       std::vector<std::string>* names) {
  google::protobuf::ListValue list;
  bool strings = Parse(json, &list);
  for (const auto& value : list.values()) {
    strings = strings && value.kind_case() == google::protobuf::Value::kStringValue;
    names->push_back(value.string_value());
  }
  return strings ? absl::OkStatus() : Refuse(key, "must be a JSON array of strings");
}

}  // namespace

void WriteOnnxMetadata(const v1::Model& model, onnx::ModelProto* file) {
  v1::ModelSpec spec = model.spec();
  if (!spec.feature_names().empty()) {
    AddMetadata(kFeatureNamesKey, JsonOf(spec.feature_names()), file);
  }
  if (!spec.class_names().empty()) {
    AddMetadata(kClassNamesKey, JsonOf(spec.class_names()), file);
  }
  // The numbers of a standardisation are in the graph.
  spec.clear_feature_names();
  spec.clear_class_names();
  const bool fitted =
      spec.has_input_standardization() && spec.input_standardization().mean().empty();
  if (fitted) {
    spec.mutable_input_standardization()->Clear();
  } else {
    spec.clear_input_standardization();
  }
  AddMetadata(kSpecKey, JsonOf(spec), file);
  AddMetadata(kStepKey, absl::StrCat(model.step()), file);
  for (const auto& [key, value] :
       std::map<std::string, std::string>(model.labels().begin(), model.labels().end())) {
    AddMetadata(kLabelPrefix + key, value, file);
  }
}

absl::Status ReadOnnxMetadata(const onnx::ModelProto& file, OnnxMetadata* metadata) {
  for (const onnx::StringStringEntryProto& entry : file.metadata_props()) {
    const std::string& key = entry.key();
    if (!absl::StartsWith(key, "backprop.")) continue;
    absl::Status read;
    if (base::ValidUtf8(key) != key || base::ValidUtf8(entry.value()) != entry.value()) {
      return Refuse(key, "is not valid UTF-8");
    }
    if (key == kFeatureNamesKey) {
      metadata->feature_names.clear();
      read = ReadNames(key, entry.value(), &metadata->feature_names);
    } else if (key == kClassNamesKey) {
      metadata->class_names.clear();
      read = ReadNames(key, entry.value(), &metadata->class_names);
    } else if (key == kSpecKey) {
      metadata->has_spec = true;
      metadata->spec.Clear();
      if (!Parse(entry.value(), &metadata->spec)) read = Refuse(key, "must be a ModelSpec as JSON");
    } else if (absl::StartsWith(key, kLabelPrefix)) {
      metadata->labels[std::string(absl::StripPrefix(key, kLabelPrefix))] = entry.value();
    }
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

}  // namespace backprop::transfer
