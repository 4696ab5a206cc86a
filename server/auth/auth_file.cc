#include "server/auth/auth_file.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/auth/auth_file.pb.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/base/text.h"

namespace backprop::auth {
namespace {

bool IsLowerOrDigit(char c) {
  return absl::ascii_islower(static_cast<unsigned char>(c)) ||
         absl::ascii_isdigit(static_cast<unsigned char>(c));
}

bool IsProjectName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxProjectNameBytes && IsLowerOrDigit(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return IsLowerOrDigit(c) || c == '-' || c == '_'; });
}

bool IsPrincipalName(absl::string_view name) {
  constexpr absl::string_view kSigns = "._@:/-";
  const auto alphanumeric = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c));
  };
  return !name.empty() && name.size() <= kMaxPrincipalNameBytes && alphanumeric(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return alphanumeric(c) || absl::StrContains(kSigns, c); });
}

// scheme:rest, in printable ASCII.
bool IsUri(absl::string_view uri) {
  const size_t colon = uri.find(':');
  return colon != absl::string_view::npos && colon > 0 && colon + 1 < uri.size() &&
         uri.size() <= kMaxUriBytes &&
         absl::ascii_isalpha(static_cast<unsigned char>(uri.front())) &&
         std::all_of(uri.begin(), uri.end(),
                     [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
}

// Quotes a value for a message, unless it may contain a token.
std::string Shown(absl::string_view value) {
  if (absl::StrContains(value, kTokenPrefix)) return "text that contains a token";
  return base::Quote(value);
}

// Replaces every word that is long enough for a token or a hash.
std::string WithoutSecrets(absl::string_view text) {
  constexpr size_t kLongestWord = 24;
  const auto in_word = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  };
  std::string out;
  for (auto at = text.begin(); at != text.end();) {
    const auto end = std::find_if_not(at, text.end(), in_word);
    const absl::string_view word(at, static_cast<size_t>(end - at));
    const bool secret = word.size() > kLongestWord || absl::StartsWith(word, kTokenPrefix);
    absl::StrAppend(&out, secret ? "(left out)" : word);
    at = end;
    if (at != text.end()) out += *at++;
  }
  return out;
}

// Describes an error of protobuf's JSON parser. Its message has a second line with a part of the
// text, which may be a part of a token, and a third one that marks the position. They are replaced
// by the number of the line in the file.
absl::Status NotJson(absl::string_view message, absl::string_view json) {
  const size_t end = message.find('\n');
  std::string what = WithoutSecrets(absl::StripPrefix(message.substr(0, end), ": "));
  if (end != absl::string_view::npos) {
    const absl::string_view shown = message.substr(end + 1, message.rfind('\n') - end - 1);
    const size_t at = json.find(shown);
    const size_t mark = message.size() - message.rfind('\n') - 2;  // the column of ^
    if (at != absl::string_view::npos && json.find(shown, at + 1) == absl::string_view::npos) {
      const auto stop = json.begin() + static_cast<ptrdiff_t>(std::min(at + mark, json.size()));
      what = absl::StrCat("line ", 1 + std::count(json.begin(), stop, '\n'), ": ", what);
    }
  }
  if (absl::StrContains(what, "TYPE_ENUM") || absl::StrContains(what, "role")) {
    what += " (a role is READER, WRITER, ADMIN or OPERATOR)";
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cannot be parsed as the JSON of an auth file: ", what));
}

// Collects the contents of the file and all violations in it.
class Reader {
 public:
  void Read(const proto::AuthFile& message) {
    for (const auto& project : message.projects()) ReadProject(project);
    for (const auto& principal : message.principals()) ReadPrincipal(principal);
    if (message.principals().empty()) {
      fields_.Add("principals", "is required: without principals no one could call the server");
    }
  }
  absl::StatusOr<AuthFile> Result() && {
    if (!fields_.ok()) return fields_.status();
    return std::move(file_);
  }

 private:
  // Where each value was first used: {value, field}.
  using Seen = std::map<std::string, std::string>;

  void Unique(const std::string& field, const std::string& value, Seen* seen) {
    const auto [first, is_new] = seen->emplace(value, field);
    if (!is_new) fields_.Add(field, absl::StrCat("is the same as ", first->second));
  }

  void ReadProject(const proto::Project& message) {
    const std::string at = absl::StrCat("projects[", file_.projects.size(), "]");
    CheckProjectName(at + ".name", message.name());
    Unique(at + ".name", message.name(), &project_names_);
    Project project{message.name(), 1, {}};
    if (message.has_weight()) {
      project.weight = message.weight();
      if (project.weight < 1 || project.weight > kMaxWeight) {
        fields_.Add(at + ".weight",
                    absl::StrCat("must be 1 to ", kMaxWeight, ", got ", project.weight));
      }
    }
    ReadQuotas(at + ".quotas", message.quotas(), &project.quotas);
    file_.projects.push_back(std::move(project));
  }

  void ReadQuotas(const std::string& at, const proto::Quotas& message, Quotas* quotas) {
    const auto read = [&](const char* name, bool given, int64_t value, int64_t least,
                          std::optional<int64_t>* quota) {
      if (!given) return;
      *quota = value;
      if (value < least) {
        fields_.Add(absl::StrCat(at, ".", name),
                    absl::StrCat("must be at least ", least, ", got ", value));
      }
    };
    read("models", message.has_models(), message.models(), 0, &quotas->models);
    read("parameters", message.has_parameters(), message.parameters(), 0, &quotas->parameters);
    read("concurrent_runs", message.has_concurrent_runs(), message.concurrent_runs(), 0,
         &quotas->concurrent_runs);
    read("requests_per_second", message.has_requests_per_second(), message.requests_per_second(), 1,
         &quotas->requests_per_second);
    read("stored_bytes", message.has_stored_bytes(), message.stored_bytes(), 0,
         &quotas->stored_bytes);
    read("rows_per_second", message.has_rows_per_second(), message.rows_per_second(), 1,
         &quotas->rows_per_second);
    read("bytes_in_flight", message.has_bytes_in_flight(), message.bytes_in_flight(),
         kMinBytesInFlight, &quotas->bytes_in_flight);
  }

  void ReadPrincipal(const proto::Principal& message) {
    const std::string at = absl::StrCat("principals[", file_.principals.size(), "]");
    if (IsPrincipalName(message.name())) {
      Unique(at + ".name", message.name(), &principal_names_);
    } else {
      fields_.Add(at + ".name", absl::StrCat("must be 1 to ", kMaxPrincipalNameBytes,
                                             " letters, digits or ._@:/- that begin with a letter "
                                             "or a digit, got ",
                                             Shown(message.name())));
    }
    CheckProjectName(at + ".project", message.project());
    if (!file_.projects.empty() && project_names_.count(message.project()) == 0) {
      fields_.Add(at + ".project",
                  absl::StrCat(Shown(message.project()), " is not the name of one of `projects`"));
    }
    const bool has_role =
        message.role() >= proto::Principal::READER && message.role() <= proto::Principal::OPERATOR;
    if (!has_role) {
      fields_.Add(at + ".role", "is required: READER, WRITER, ADMIN or OPERATOR");
    }
    Principal principal{
        message.name(), message.project(), static_cast<Role>(message.role()), {}, {}};
    for (const std::string& hash : message.token_sha256()) {
      ReadHash(absl::StrCat(at, ".token_sha256[", principal.tokens.size(), "]"), hash, &principal);
    }
    for (const std::string& uri : message.certificate_uris()) {
      ReadUri(absl::StrCat(at, ".certificate_uris[", principal.certificate_uris.size(), "]"), uri,
              &principal);
    }
    if (principal.tokens.empty() && principal.certificate_uris.empty()) {
      fields_.Add(at, "has neither token_sha256 nor certificate_uris, so no one could be it");
    }
    file_.principals.push_back(std::move(principal));
  }

  void CheckProjectName(const std::string& field, const std::string& name) {
    if (IsProjectName(name)) return;
    fields_.Add(field,
                absl::StrCat("must be 1 to ", kMaxProjectNameBytes,
                             " characters of a-z, 0-9, - and _ that begin with a letter or a "
                             "digit, got ",
                             Shown(name)));
  }

  // Messages do not show the value: it may be a token by mistake.
  void ReadHash(const std::string& field, const std::string& hash, Principal* principal) {
    Digest digest = {};
    const bool hexadecimal = std::all_of(hash.begin(), hash.end(), [](char c) {
      return absl::ascii_isxdigit(static_cast<unsigned char>(c));
    });
    if (absl::StrContains(hash, kTokenPrefix)) {
      fields_.Add(
          field,
          "expected the SHA-256 of a token, got a token; treat it as published, and replace "
          "it with the hash of a new one from `backprop token create`");
    } else if (hash.size() != 2 * digest.size() || !hexadecimal) {
      fields_.Add(field, absl::StrCat("expected 64 hexadecimal digits, got ", hash.size(),
                                      hexadecimal ? " digits" : " bytes that are not all digits"));
    } else {
      const std::string bytes = absl::HexStringToBytes(hash);
      std::copy(bytes.begin(), bytes.end(), digest.begin());
      Unique(field, bytes, &hashes_);
    }
    principal->tokens.push_back(digest);
  }

  void ReadUri(const std::string& field, const std::string& uri, Principal* principal) {
    if (IsUri(uri)) {
      Unique(field, uri, &uris_);
    } else {
      fields_.Add(field,
                  absl::StrCat("must be a URI such as spiffe://example.org/trainer of at most ",
                               kMaxUriBytes, " printable ASCII characters, got ", Shown(uri)));
    }
    principal->certificate_uris.push_back(uri);
  }

  AuthFile file_;
  base::Fields fields_;
  Seen principal_names_;
  Seen project_names_;
  Seen hashes_;
  Seen uris_;
};

}  // namespace

absl::StatusOr<AuthFile> ParseAuthFile(absl::string_view json) {
  if (json.size() > kMaxAuthFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("must have at most ", kMaxAuthFileBytes, " bytes, has ", json.size()));
  }
  if (absl::StripAsciiWhitespace(json).empty()) return absl::InvalidArgumentError("is empty");
  proto::AuthFile message;
  const auto parsed = google::protobuf::util::JsonStringToMessage(
      {json.data(), json.size()}, &message, google::protobuf::util::JsonParseOptions());
  if (!parsed.ok()) {
    const auto why = parsed.message();
    return NotJson({why.data(), why.size()}, json);
  }
  Reader reader;
  reader.Read(message);
  return std::move(reader).Result();
}

}  // namespace backprop::auth
