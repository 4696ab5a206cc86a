// The text of an auth file. What was accepted has the invariants of AuthFile, and no error contains
// a token.
#include <set>

#include "absl/strings/match.h"
#include "server/auth/auth_file.h"
#include "server/auth/principals.h"
#include "server/auth/token.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {
namespace {

constexpr char kHash[] = "8f1f3d7bd4cb2a4ad0ad9b6d7f6b7d52a6a4e3f1a0bb5bf1b2a5f2c9d6b1e4c7";
constexpr char kToken[] = "bpt_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM";

void CheckShowsNoToken(absl::string_view input, absl::string_view message) {
  for (size_t at = 0; (at = input.find(auth::kTokenPrefix, at)) != absl::string_view::npos; ++at) {
    const absl::string_view token = input.substr(at, auth::kTokenBytes);
    if (!auth::HasTokenForm(token)) continue;
    // Half of it would be enough to find the token in a list.
    BP_HOLDS(!absl::StrContains(message, token.substr(0, 24)), message);
  }
}

void CheckInvariants(const auth::AuthFile& file) {
  BP_HOLDS(!file.principals.empty());
  std::set<std::string> names, projects, uris;
  std::set<auth::Digest> hashes;
  for (const auth::Project& project : file.projects) {
    BP_HOLDS(projects.insert(project.name).second, project.name);
    BP_HOLDS(project.weight >= 1 && project.weight <= auth::kMaxWeight, project.weight);
    for (const auto& quota : {project.quotas.models, project.quotas.parameters,
                              project.quotas.concurrent_runs, project.quotas.requests_per_second}) {
      BP_HOLDS(!quota.has_value() || *quota >= 0, *quota);
    }
  }
  for (const auth::Principal& principal : file.principals) {
    BP_HOLDS(!principal.name.empty() && principal.name.size() <= auth::kMaxPrincipalNameBytes);
    BP_HOLDS(names.insert(principal.name).second, principal.name);
    BP_HOLDS(projects.empty() || projects.count(principal.project) == 1, principal.project);
    BP_HOLDS(!principal.tokens.empty() || !principal.certificate_uris.empty(), principal.name);
    for (const auth::Digest& hash : principal.tokens) BP_HOLDS(hashes.insert(hash).second);
    for (const std::string& uri : principal.certificate_uris) {
      BP_HOLDS(uris.insert(uri).second, uri);
    }
  }
}

}  // namespace

void RunAuthFile(absl::string_view input) {
  auto file = auth::ParseAuthFile(input);
  if (!file.ok()) {
    BP_HOLDS(absl::IsInvalidArgument(file.status()), file.status().ToString());
    BP_HOLDS(!file.status().message().empty());
    return CheckShowsNoToken(input, file.status().message());
  }
  CheckInvariants(*file);
  const auth::Principals principals(*std::move(file));
  for (size_t i = 0; i < principals.file().principals.size(); ++i) {
    for (const std::string& uri : principals.file().principals[i].certificate_uris) {
      BP_HOLDS(principals.WithUri(uri) == i, uri);
    }
  }
  BP_HOLDS(!principals.WithToken(kToken).has_value() || absl::StrContains(input, "token_sha256") ||
           absl::StrContains(input, "tokenSha256"));
}

Seeds AuthFileSeeds() {
  const std::string anna = absl::StrCat(
      R"({"name":"anna@example.org","project":"team-a","role":"WRITER","token_sha256":[")", kHash,
      R"("]})");
  const std::string board =
      R"({"name":"b","project":"team-a","role":"READER","certificate_uris":["spiffe://e.org/b"]})";
  return {absl::StrCat(R"({"principals":[)", anna, "]}"),
          absl::StrCat(R"({"principals":[)", anna, ",", board,
                       R"(],"projects":[{"name":"team-a","weight":2,"quotas":{"models":1000,)"
                       R"("parameters":"5","concurrent_runs":20,"requests_per_second":7}}]})"),
          absl::StrCat(R"({"principals":[)", board, ",", board, "]}"),
          absl::StrCat(R"({"principals":[{"name":")", kToken, R"(","token_sha256":[")", kToken,
                       R"("]}]})"),
          R"({"principals":[{"name":"o","project":"default","role":"OPERATOR","tokn":[]}]})"};
}

}  // namespace backprop::fuzz
