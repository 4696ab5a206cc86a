#include "server/http/errors.h"

#include <array>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"
#include "server/base/text.h"
#include "server/http/json.h"
#include "server/rpc/call/status.h"

namespace backprop::http {
namespace {

struct Code {
  const char* name;
  int http;
};

// By the numbers of gRPC's codes.
constexpr std::array<Code, 17> kCodes = {{
    {"ok", 200},
    {"canceled", 499},
    {"unknown", 500},
    {"invalid_argument", 400},
    {"deadline_exceeded", 504},
    {"not_found", 404},
    {"already_exists", 409},
    {"permission_denied", 403},
    {"resource_exhausted", 429},
    {"failed_precondition", 400},
    {"aborted", 409},
    {"out_of_range", 400},
    {"unimplemented", 501},
    {"internal", 500},
    {"unavailable", 503},
    {"data_loss", 500},
    {"unauthenticated", 401},
}};

const Code& CodeOf(grpc::StatusCode code) {
  const auto number = static_cast<size_t>(code);
  return number < kCodes.size() ? kCodes[number] : kCodes[grpc::StatusCode::UNKNOWN];
}

std::string UnpaddedBase64(absl::string_view bytes) {
  std::string text = absl::Base64Escape(bytes);
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

std::string DetailAsJson(const google::protobuf::Any& detail) {
  const std::string& url = detail.type_url();
  const std::string name = url.substr(url.rfind('/') + 1);
  std::string json = absl::StrCat(R"({"type":)", JsonString(name), R"(,"value":")",
                                  UnpaddedBase64(detail.value()), "\"");
  // For people; clients decode the value.
  if (const auto debug = JsonFromBinary(TypeUrl(name), detail.value()); debug.ok()) {
    absl::StrAppend(&json, R"(,"debug":)", *debug);
  }
  return json + "}";
}

// As gRPC writes the message of a status.
std::string PercentEncoded(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '%') {
      encoded += c;
    } else {
      absl::StrAppend(&encoded, "%",
                      absl::AsciiStrToUpper(absl::StrCat(absl::Hex(byte, absl::kZeroPad2))));
    }
  }
  return encoded;
}

}  // namespace

const char* ConnectCode(grpc::StatusCode code) { return CodeOf(code).name; }

int HttpStatus(grpc::StatusCode code) { return CodeOf(code).http; }

std::string ConnectError(const grpc::Status& status) {
  std::string json = absl::StrCat(R"({"code":")", ConnectCode(status.error_code()), "\"");
  if (!status.error_message().empty()) {
    absl::StrAppend(&json, R"(,"message":)", JsonString(status.error_message()));
  }
  google::rpc::Status with_details;
  if (with_details.ParseFromString(status.error_details()) && !with_details.details().empty()) {
    const char* separator = R"(,"details":[)";
    for (const auto& detail : with_details.details()) {
      absl::StrAppend(&json, separator, DetailAsJson(detail));
      separator = ",";
    }
    json += "]";
  }
  return json + "}";
}

std::string ConnectEndOfStream(const grpc::Status& status, const Metadata& trailers) {
  std::string json = "{";
  if (!status.ok()) absl::StrAppend(&json, R"("error":)", ConnectError(status));
  if (!trailers.empty()) {
    if (!status.ok()) json += ",";
    json += R"("metadata":{)";
    // Values of one name are next to each other, because gRPC's metadata is ordered by name.
    for (size_t i = 0; i < trailers.size(); ++i) {
      const bool is_first = i == 0 || trailers[i - 1].first != trailers[i].first;
      const bool is_last = i + 1 == trailers.size() || trailers[i + 1].first != trailers[i].first;
      if (is_first) absl::StrAppend(&json, JsonString(trailers[i].first), ":[");
      absl::StrAppend(&json, JsonString(trailers[i].second), is_last ? "]" : ",");
      if (is_last && i + 1 < trailers.size()) json += ",";
    }
    json += "}";
  }
  return json + "}";
}

std::string GrpcWebTrailers(const grpc::Status& status, const Metadata& trailers) {
  std::string lines = absl::StrCat("grpc-status: ", static_cast<int>(status.error_code()), "\r\n");
  if (!status.error_message().empty()) {
    absl::StrAppend(&lines, "grpc-message: ", PercentEncoded(status.error_message()), "\r\n");
  }
  if (!status.error_details().empty()) {
    absl::StrAppend(&lines, "grpc-status-details-bin: ", UnpaddedBase64(status.error_details()),
                    "\r\n");
  }
  for (const auto& [name, value] : trailers) absl::StrAppend(&lines, name, ": ", value, "\r\n");
  return lines;
}

grpc::Status ToGrpc(const absl::Status& status) { return rpc::ToGrpc(status); }

}  // namespace backprop::http
