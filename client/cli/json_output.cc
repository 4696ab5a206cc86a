#include "client/cli/json_output.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <vector>

#include "client/backprop/convert.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

// Replaces the bytes of a tensor by its elements as numbers.
void ToNumbers(v1::Tensor* tensor) {
  const bool known =
      tensor->data_type() == v1::DATA_TYPE_FLOAT32 || tensor->data_type() == v1::DATA_TYPE_FLOAT64;
  if (tensor->raw().empty() || !known) return;
  const Tensor elements = FromMessage(*tensor);
  for (double value : elements.ToDoubles()) tensor->add_values(value);
  tensor->clear_raw();
  tensor->clear_byte_order();
}

// Does this for every tensor in a message.
void ToNumbers(google::protobuf::Message* message) {
  if (message->GetDescriptor() == v1::Tensor::descriptor()) {
    ToNumbers(static_cast<v1::Tensor*>(message));
    return;
  }
  const auto* reflection = message->GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(*message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (field->is_map()) continue;  // the API's maps contain only text
    if (!field->is_repeated()) {
      ToNumbers(reflection->MutableMessage(message, field));
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
      ToNumbers(reflection->MutableRepeatedMessage(message, field, i));
    }
  }
}

}  // namespace

std::string JsonLine(const google::protobuf::Message& message) {
  const std::unique_ptr<google::protobuf::Message> readable(message.New());
  readable->CopyFrom(message);
  ToNumbers(readable.get());
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = false;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(*readable, &json, options);
  return status.ok() ? json : "{}";
}

std::string JsonString(std::string_view text) {
  std::string json = "\"";
  while (!text.empty()) {
    const size_t size = Utf8CharacterBytes(text);
    const char c = text[0];
    if (size == 0) {
      json += "\xEF\xBF\xBD";
    } else if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (c == '\n') {
      json += "\\n";
    } else if (size == 1 && static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned char>(c));
      json += escaped;
    } else {
      json += text.substr(0, size);
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return json + "\"";
}

std::string JsonError(const Status& status, const std::string& hint) {
  std::string json = R"({"error":{"code":)" + JsonString(StatusCodeName(status.code)) +
                     R"(,"message":)" + JsonString(status.message);
  if (!status.reason.empty()) json += R"(,"reason":)" + JsonString(status.reason);
  if (!status.metadata.empty()) {
    std::string pairs;
    for (const auto& [key, value] : status.metadata) {
      pairs += (pairs.empty() ? "" : ",") + JsonString(key) + ":" + JsonString(value);
    }
    json += R"(,"metadata":{)" + pairs + "}";
  }
  if (!status.field_violations.empty()) {
    std::string violations;
    for (const FieldViolation& violation : status.field_violations) {
      violations += violations.empty() ? "" : ",";
      violations += R"({"field":)" + JsonString(violation.field) + R"(,"description":)" +
                    JsonString(violation.description) + "}";
    }
    json += R"(,"fieldViolations":[)" + violations + "]";
  }
  if (!hint.empty()) json += R"(,"hint":)" + JsonString(hint);
  return json + "}}";
}

JsonDocument::JsonDocument() = default;
JsonDocument::~JsonDocument() = default;

void JsonDocument::Take(const google::protobuf::Message& reply) {
  if (joined_ == nullptr || joined_->GetDescriptor() != reply.GetDescriptor()) {
    joined_.reset(reply.New());
  }
  joined_->MergeFrom(reply);
  // A complete list has no page token.
  const auto* token = joined_->GetDescriptor()->FindFieldByName("next_page_token");
  if (token != nullptr) joined_->GetReflection()->ClearField(joined_.get(), token);
}

void JsonDocument::Clear() { joined_.reset(); }

std::string JsonDocument::ToString() const {
  if (joined_ == nullptr) return "";
  const auto* type = joined_->GetDescriptor();
  const bool is_list = type->FindFieldByName("next_page_token") != nullptr;
  std::string json = JsonLine(*joined_);
  if (is_list && json == "{}") return "{" + JsonString(type->field(0)->json_name()) + ":[]}";
  return json;
}

}  // namespace backprop::cli
