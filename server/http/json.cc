#include "server/http/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver.h>
#include <google/protobuf/util/type_resolver_util.h>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/base/text.h"

namespace backprop::http {
namespace {

constexpr char kTypeUrlPrefix[] = "type.googleapis.com";

google::protobuf::util::TypeResolver* Resolver() {
  // Never deleted: calls may need it until the process ends.
  static auto* const resolver = google::protobuf::util::NewTypeResolverForDescriptorPool(
      kTypeUrlPrefix, google::protobuf::DescriptorPool::generated_pool());
  return resolver;
}

absl::string_view NameOf(absl::string_view type) { return type.substr(type.rfind('/') + 1); }

}  // namespace

std::string TypeUrl(absl::string_view full_name) {
  return absl::StrCat(kTypeUrlPrefix, "/", full_name);
}

absl::StatusOr<std::string> BinaryFromJson(const std::string& type, absl::string_view json) {
  std::string binary;
  const auto status = google::protobuf::util::JsonToBinaryString(
      Resolver(), type, google::protobuf::StringPiece(json.data(), json.size()), &binary);
  if (status.ok()) return binary;
  const absl::string_view why(status.message().data(), status.message().size());
  const std::string name(NameOf(type));
  // Where protobuf quotes the request, the text may have several lines.
  return base::ReasonError(absl::StatusCode::kInvalidArgument,
                           absl::StrCat("the body is not the JSON of a ", name, ": ",
                                        base::Escape(why, base::kMaxDescriptionBytes)),
                           {"MALFORMED_REQUEST", {{"type", name}}});
}

absl::StatusOr<std::string> JsonFromBinary(const std::string& type, const std::string& binary) {
  std::string json;
  const auto status = google::protobuf::util::BinaryToJsonString(Resolver(), type, binary, &json);
  if (status.ok()) return json;
  return absl::InternalError(absl::StrCat("the response is not a valid ", NameOf(type)));
}

std::string JsonString(absl::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : base::ValidUtf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      json += "\\u00";
      json += {kHex[byte >> 4], kHex[byte & 15]};
    } else {
      json += c;
    }
  }
  return json + '"';
}

}  // namespace backprop::http
