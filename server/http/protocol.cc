#include "server/http/protocol.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/text.h"

namespace backprop::http {
namespace {

constexpr size_t kMostTimeoutDigits = 10;  // of Connect-Timeout-Ms
constexpr size_t kMostGrpcTimeoutDigits = 8;

// Headers of HTTP, of browsers and of the protocols themselves, which are no metadata of the call.
constexpr std::array<absl::string_view, 24> kNotMetadata = {
    "accept",          "accept-charset",
    "accept-encoding", "accept-language",
    "connection",      "content-encoding",
    "content-length",  "content-type",
    "cookie",          "date",
    "expect",          "host",
    "keep-alive",      "origin",
    "pragma",          "priority",
    "referer",         "te",
    "trailer",         "transfer-encoding",
    "upgrade",         "upgrade-insecure-requests",
    "user-agent",      "via"};
// gRPC reads some of these itself. "bp-" is what this server tells itself about a call.
constexpr std::array<absl::string_view, 10> kNotMetadataPrefixes = {
    "access-control-", "bp-", "connect-", "content-", "endpoint-load-",
    "grpc-",           "lb-", "proxy-",   "sec-",     ":"};

bool IsMetadataName(absl::string_view name) {
  for (const char c : name) {
    const bool legal = absl::ascii_islower(static_cast<unsigned char>(c)) ||
                       absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                       c == '.';
    if (!legal) return false;
  }
  if (std::find(kNotMetadata.begin(), kNotMetadata.end(), name) != kNotMetadata.end()) return false;
  return !name.empty() && std::none_of(kNotMetadataPrefixes.begin(), kNotMetadataPrefixes.end(),
                                       [&](auto prefix) { return absl::StartsWith(name, prefix); });
}

// Spaces and printable ASCII: what gRPC accepts as the value of metadata.
bool IsAscii(absl::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

absl::Status Wrong(absl::string_view header, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(header, ": ", what));
}

// Appends what the request has as metadata of the call.
absl::Status ReadMetadata(const RequestHead& head, Metadata* metadata) {
  for (const auto& [name, value] : head.headers) {
    if (!IsMetadataName(name)) continue;
    if (!absl::EndsWith(name, "-bin")) {
      if (!IsAscii(value)) return Wrong(name, "expected printable ASCII");
      metadata->emplace_back(name, value);
      continue;
    }
    for (const absl::string_view part : absl::StrSplit(value, ',')) {
      std::string bytes;
      if (!absl::Base64Unescape(absl::StripAsciiWhitespace(part), &bytes)) {
        return Wrong(name, "expected base64");
      }
      metadata->emplace_back(name, std::move(bytes));
    }
  }
  return absl::OkStatus();
}

// Errors: the encoding is not supported.
absl::StatusOr<bool> IsGzip(absl::string_view encoding) {
  if (encoding.empty() || encoding == "identity") return false;
  if (encoding == "gzip") return true;
  return absl::UnimplementedError(absl::StrCat("the encoding ", base::Quote(encoding),
                                               " is not supported; supported are gzip, identity"));
}

bool AcceptsGzip(absl::string_view accept) {
  for (absl::string_view one : absl::StrSplit(accept, ',')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(one, absl::MaxSplits(';', 1));
    const absl::string_view quality = absl::StripAsciiWhitespace(parts.second);
    if (absl::StripAsciiWhitespace(parts.first) == "gzip" && quality != "q=0") return true;
  }
  return false;
}

absl::StatusOr<std::optional<absl::Duration>> ConnectTimeout(const RequestHead& head) {
  constexpr char kName[] = "connect-timeout-ms";
  if (!head.Has(kName)) return std::nullopt;
  const std::string text = head.Get(kName);
  uint64_t ms = 0;
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || text.size() > kMostTimeoutDigits || !absl::SimpleAtoi(text, &ms)) {
    return Wrong(kName, absl::StrCat("expected at most ", kMostTimeoutDigits, " digits, got ",
                                     base::Quote(text)));
  }
  return absl::Milliseconds(static_cast<int64_t>(ms));
}

// "100m"
absl::StatusOr<std::optional<absl::Duration>> GrpcTimeout(const RequestHead& head) {
  constexpr char kName[] = "grpc-timeout";
  if (!head.Has(kName)) return std::nullopt;
  const std::string text = head.Get(kName);
  const std::string digits = text.substr(0, text.empty() ? 0 : text.size() - 1);
  int64_t number = 0;
  const bool is_number = !digits.empty() && digits.size() <= kMostGrpcTimeoutDigits &&
                         digits.find_first_not_of("0123456789") == std::string::npos &&
                         absl::SimpleAtoi(digits, &number);
  if (is_number) {
    switch (text.back()) {
      case 'H':
        return absl::Hours(number);
      case 'M':
        return absl::Minutes(number);
      case 'S':
        return absl::Seconds(number);
      case 'm':
        return absl::Milliseconds(number);
      case 'u':
        return absl::Microseconds(number);
      case 'n':
        return absl::Nanoseconds(number);
      default:
        break;
    }
  }
  return Wrong(kName, absl::StrCat("expected digits and a unit, got ", base::Quote(text)));
}

struct NamedFormat {
  absl::string_view type;
  CallFormat format;
};
const std::array<NamedFormat, 9>& Formats() {
  using P = Protocol;
  using C = Codec;
  static const std::array<NamedFormat, 9> formats = {{
      {"application/json", {P::kConnectUnary, C::kJson}},
      {"application/proto", {P::kConnectUnary, C::kBinary}},
      {"application/connect+json", {P::kConnectStream, C::kJson}},
      {"application/connect+proto", {P::kConnectStream, C::kBinary}},
      {"application/grpc-web", {P::kGrpcWeb, C::kBinary}},
      {"application/grpc-web+proto", {P::kGrpcWeb, C::kBinary}},
      {"application/grpc-web+json", {P::kGrpcWeb, C::kJson}},
      {"application/grpc-web-text", {P::kGrpcWeb, C::kBinary, true}},
      {"application/grpc-web-text+proto", {P::kGrpcWeb, C::kBinary, true}},
  }};
  return formats;
}

// Null if the type is unknown.
const CallFormat* FormatOf(const std::string& content_type) {
  const std::string type = absl::AsciiStrToLower(absl::StripAsciiWhitespace(
      absl::string_view(content_type).substr(0, content_type.find(';'))));
  for (const NamedFormat& one : Formats()) {
    if (one.type == type) return &one.format;
  }
  return nullptr;
}

Refusal Refuse(const CallFormat& format, const absl::Status& status) {
  const grpc::Status error = ToGrpc(status);
  return {HttpStatus(error.error_code()), error, format, {}};
}

Refusal UnsupportedType(const Method& method, absl::string_view got) {
  Refusal refusal;
  refusal.http_status = 415;
  const char* const expected =
      method.streams() ? "application/connect+json, application/connect+proto, application/grpc-web"
                       : "application/json, application/proto, application/grpc-web";
  refusal.status = grpc::Status(
      grpc::StatusCode::UNKNOWN,
      absl::StrCat("content-type: expected one of ", expected, "; got ", base::Quote(got)));
  refusal.headers.emplace_back("accept-post", expected);
  return refusal;
}

std::variant<CallHead, Refusal> ReadPost(const RequestHead& head, const Method& method) {
  const std::string content_type = head.Get("content-type");
  const CallFormat* const found = FormatOf(content_type);
  const bool fits =
      found != nullptr && (found->protocol == Protocol::kGrpcWeb ||
                           (found->protocol == Protocol::kConnectStream) == method.streams());
  if (!fits) return UnsupportedType(method, content_type);
  CallHead call;
  call.method = &method;
  call.format = *found;
  const bool is_grpc_web = found->protocol == Protocol::kGrpcWeb;
  const std::string prefix = is_grpc_web                                   ? "grpc-"
                             : found->protocol == Protocol::kConnectStream ? "connect-content-"
                                                                           : "content-";
  const std::string accept_name =
      is_grpc_web ? "grpc-accept-encoding"
                  : (found->protocol == Protocol::kConnectStream ? "connect-accept-encoding"
                                                                 : "accept-encoding");
  const auto gzip = IsGzip(head.Get(prefix + "encoding"));
  if (!gzip.ok()) return Refuse(call.format, gzip.status());
  call.format.gzip_request = *gzip;
  call.format.gzip_response =
      head.Has(accept_name) ? AcceptsGzip(head.Get(accept_name)) : call.format.gzip_request;
  const auto timeout = is_grpc_web ? GrpcTimeout(head) : ConnectTimeout(head);
  if (!timeout.ok()) return Refuse(call.format, timeout.status());
  call.timeout = *timeout;
  absl::Status metadata = ReadMetadata(head, &call.metadata);
  if (!metadata.ok()) return Refuse(call.format, metadata);
  return call;
}

std::variant<CallHead, Refusal> ReadGet(const RequestHead& head, const Method& method) {
  CallHead call;
  call.method = &method;
  call.format.codec = Codec::kJson;  // of errors in what follows
  const auto query = ParseQuery(head.query);
  if (!query.ok()) return Refuse(call.format, query.status());
  const auto get = [&](const char* name) {
    const auto found = query->find(name);
    return found == query->end() ? std::string() : found->second;
  };
  if (query->count("message") == 0 || query->count("encoding") == 0) {
    return Refuse(call.format, absl::InvalidArgumentError(
                                   "a GET needs the parameters `encoding`, json or proto, and "
                                   "`message`"));
  }
  const std::string encoding = get("encoding");
  if (encoding != "json" && encoding != "proto") {
    Refusal refusal = Refuse(call.format, Wrong("encoding", "expected json or proto"));
    refusal.http_status = 415;
    return refusal;
  }
  if (encoding == "proto") call.format.codec = Codec::kBinary;
  if (query->count("connect") > 0 && get("connect") != "v1") {
    return Refuse(call.format, Wrong("connect", "expected v1"));
  }
  call.message = get("message");
  if (get("base64") == "1") {
    // Clients may send either alphabet, with padding or without.
    std::string bytes;
    if (!absl::WebSafeBase64Unescape(*call.message, &bytes) &&
        !absl::Base64Unescape(*call.message, &bytes)) {
      return Refuse(call.format, Wrong("message", "expected base64"));
    }
    call.message = std::move(bytes);
  }
  const auto gzip = IsGzip(get("compression"));
  if (!gzip.ok()) return Refuse(call.format, gzip.status());
  call.format.gzip_request = *gzip;
  call.format.gzip_response = head.Has("accept-encoding") ? AcceptsGzip(head.Get("accept-encoding"))
                                                          : call.format.gzip_request;
  const auto timeout = ConnectTimeout(head);
  if (!timeout.ok()) return Refuse(call.format, timeout.status());
  call.timeout = *timeout;
  absl::Status metadata = ReadMetadata(head, &call.metadata);
  if (!metadata.ok()) return Refuse(call.format, metadata);
  return call;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool PercentDecode(absl::string_view text, std::string* decoded) {
  decoded->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      *decoded += ' ';
    } else if (text[i] != '%') {
      *decoded += text[i];
    } else {
      const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return false;
      *decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return true;
}

}  // namespace

std::string RequestHead::Get(absl::string_view name) const {
  std::string values;
  bool found = false;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    absl::StrAppend(&values, found ? "," : "", value);
    found = true;
  }
  return values;
}

bool RequestHead::Has(absl::string_view name) const {
  return std::any_of(headers.begin(), headers.end(),
                     [&](const auto& header) { return header.first == name; });
}

std::string CallFormat::ContentType() const {
  const bool json = codec == Codec::kJson;
  switch (protocol) {
    case Protocol::kConnectUnary:
      return json ? "application/json" : "application/proto";
    case Protocol::kConnectStream:
      return json ? "application/connect+json" : "application/connect+proto";
    case Protocol::kGrpcWeb:
      if (is_base64) return "application/grpc-web-text+proto";
      return json ? "application/grpc-web+json" : "application/grpc-web+proto";
  }
  return "";
}

std::variant<CallHead, Refusal> ReadCallHead(const RequestHead& head, const Method* method) {
  Refusal refusal;
  if (method == nullptr) {
    refusal.http_status = 404;
    refusal.status = grpc::Status(grpc::StatusCode::UNIMPLEMENTED,
                                  absl::StrCat("there is no method ", base::Quote(head.path)));
    return refusal;
  }
  const bool is_get = head.method == "GET";
  if (!(is_get && method->may_get) && head.method != "POST") {
    refusal.http_status = 405;
    refusal.status = grpc::Status(
        grpc::StatusCode::UNKNOWN,
        absl::StrCat(method->path, ": expected POST", method->may_get ? " or GET" : ""));
    refusal.headers.emplace_back("allow", method->may_get ? "GET, POST" : "POST");
    return refusal;
  }
  constexpr char kVersion[] = "connect-protocol-version";
  if (head.Has(kVersion) && head.Get(kVersion) != "1") {
    return Refuse(CallFormat(), Wrong(kVersion, "expected 1"));
  }
  return is_get ? ReadGet(head, *method) : ReadPost(head, *method);
}

absl::StatusOr<std::map<std::string, std::string>> ParseQuery(absl::string_view query) {
  std::map<std::string, std::string> parameters;
  for (const absl::string_view one : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(one, absl::MaxSplits('=', 1));
    std::string name;
    std::string value;
    if (!PercentDecode(parts.first, &name) || !PercentDecode(parts.second, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the query ", base::Quote(one), " has a % without two hexadecimal digits"));
    }
    parameters.emplace(std::move(name), std::move(value));
  }
  return parameters;
}

bool ToHeader(absl::string_view key, absl::string_view value, absl::string_view prefix,
              Metadata* headers) {
  if (!IsMetadataName(key)) return false;
  if (absl::EndsWith(key, "-bin")) {
    std::string text = absl::Base64Escape(value);
    while (!text.empty() && text.back() == '=') text.pop_back();
    headers->emplace_back(absl::StrCat(prefix, key), std::move(text));
    return true;
  }
  if (!IsAscii(value)) return false;
  headers->emplace_back(absl::StrCat(prefix, key), std::string(value));
  return true;
}

}  // namespace backprop::http
