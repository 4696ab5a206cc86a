#include "server/auth/auth_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace backprop::auth {
namespace {

using testing::HasSubstr;
using testing::Not;

// A token and its hash.
const std::string kToken = "bpt_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM";

std::string HashOf(absl::string_view text) {
  const Digest digest = Sha256(text);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

std::string Hash(int i) { return HashOf(std::to_string(i)); }

std::string PrincipalJson(const std::string& name, int hash, const std::string& more = "") {
  return absl::StrCat(R"({"name":")", name, R"(","project":"default","role":"READER",)",
                      R"("token_sha256":[")", Hash(hash), R"("])", more, "}");
}

std::string File(const std::string& principals, const std::string& projects = "") {
  return absl::StrCat(R"({"principals":[)", principals, R"(],"projects":[)", projects, "]}");
}

std::string ErrorOf(const std::string& json) {
  const auto parsed = ParseAuthFile(json);
  EXPECT_FALSE(parsed.ok()) << json;
  if (!parsed.ok()) EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(parsed.status().message());
}

TEST(AuthFileTest, EveryFieldIsRead) {
  const std::string hash = Hash(1);
  const auto file = ParseAuthFile(absl::StrCat(R"({
    "principals": [
      {"name": "ci@example.org", "project": "team-a", "role": "OPERATOR",
       "token_sha256": [")",
                                               hash, R"(", ")", Hash(2), R"("],
       "certificate_uris": ["spiffe://example.org/ci", "urn:x"]},
      {"name": "b", "project": "b_2", "role": "ADMIN", "certificateUris": ["spiffe://b"]}],
    "projects": [
      {"name": "team-a", "weight": 3, "quotas": {
        "models": 0, "parameters": 2, "concurrent_runs": "4",
        "requests_per_second": 5, "stored_bytes": 0, "rows_per_second": "6",
        "bytesInFlight": 1024}},
      {"name": "b_2"}]})"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->principals.size(), 2U);
  const Principal& ci = file->principals[0];
  EXPECT_EQ(ci.name, "ci@example.org");
  EXPECT_EQ(ci.project, "team-a");
  EXPECT_EQ(ci.role, Role::kOperator);
  EXPECT_EQ(ci.tokens, (std::vector<Digest>{Sha256("1"), Sha256("2")}));
  EXPECT_EQ(ci.certificate_uris, (std::vector<std::string>{"spiffe://example.org/ci", "urn:x"}));
  EXPECT_EQ(file->principals[1].role, Role::kAdmin);
  EXPECT_EQ(file->principals[1].certificate_uris, std::vector<std::string>{"spiffe://b"});
  ASSERT_EQ(file->projects.size(), 2U);
  const Project& project = file->projects[0];
  EXPECT_EQ(project.name, "team-a");
  EXPECT_EQ(project.weight, 3);
  EXPECT_EQ(project.quotas.models, 0);
  EXPECT_EQ(project.quotas.parameters, 2);
  EXPECT_EQ(project.quotas.concurrent_runs, 4);
  EXPECT_EQ(project.quotas.requests_per_second, 5);
  EXPECT_EQ(project.quotas.stored_bytes, 0);
  EXPECT_EQ(project.quotas.rows_per_second, 6);
  EXPECT_EQ(project.quotas.bytes_in_flight, 1024);
  EXPECT_EQ(file->projects[1].weight, 1);
  EXPECT_EQ(file->projects[1].quotas.models, std::nullopt);
}

TEST(AuthFileTest, HashesMayBeUpperCase) {
  std::string json = File(PrincipalJson("a", 1));
  const size_t at = json.find(Hash(1));
  for (size_t i = at; i < at + 64; ++i) {
    json[i] = static_cast<char>(std::toupper(static_cast<unsigned char>(json[i])));
  }
  const auto file = ParseAuthFile(json);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->principals[0].tokens, std::vector<Digest>{Sha256("1")});
}

TEST(AuthFileTest, AnErrorNamesTheFieldWhatWasExpectedAndWhatCame) {
  const std::string a = PrincipalJson("a", 1);
  const std::string long_name(129, 'a');
  struct Case {
    std::string json;
    std::vector<std::string> parts;
  };
  const Case cases[] = {
      {"", {"is empty"}},
      {" \n\t", {"is empty"}},
      {"{}", {"principals: is required"}},
      {R"({"principals":[]})", {"principals: is required"}},
      {File(a) + "x", {"cannot be parsed"}},
      {"{\n\"principals\": [\n}", {"cannot be parsed", "line 3: "}},
      {R"({"principals":[],"principles":[]})", {"principles", "Cannot find field"}},
      {File(PrincipalJson("a", 1, R"(,"expires":1)")), {"expires", "Cannot find field"}},
      {File(PrincipalJson("", 1)), {"principals[0].name: must be 1 to 128", R"(got "")"}},
      {File(PrincipalJson(long_name, 1)), {"principals[0].name: must be 1 to 128"}},
      {File(PrincipalJson("-a", 1)), {"principals[0].name: must be", R"(got "-a")"}},
      {File(PrincipalJson("a b", 1)), {"principals[0].name: must be", R"(got "a b")"}},
      {File(absl::StrCat(a, ",", PrincipalJson("a", 2))),
       {"principals[1].name: is the same as principals[0].name"}},
      {File(absl::StrCat(a, ",", PrincipalJson("b", 1))),
       {"principals[1].token_sha256[0]: is the same as principals[0].token_sha256[0]"}},
      {File(PrincipalJson("a", 1, R"(,"certificate_uris":["a:b","a:b"])")),
       {"principals[0].certificate_uris[1]: is the same as principals[0].certificate_uris[0]"}},
      {File(PrincipalJson("a", 1, R"(,"certificate_uris":["no uri"])")),
       {"principals[0].certificate_uris[0]: must be a URI", R"(got "no uri")"}},
      {File(absl::StrCat(R"({"name":"a","project":"p","role":"READER","token_sha256":[")",
                         std::string(63, 'a'), R"("]})")),
       {"principals[0].token_sha256[0]: expected 64 hexadecimal digits, got 63 digits"}},
      {File(absl::StrCat(R"({"name":"a","project":"p","role":"READER","token_sha256":[")",
                         std::string(63, 'a'), R"(g"]})")),
       {"principals[0].token_sha256[0]: expected 64 hexadecimal digits, got 64 bytes"}},
      {File(R"({"name":"a","project":"p","role":"READER"})"),
       {"principals[0]: has neither token_sha256 nor certificate_uris"}},
      {File(R"({"name":"a","project":"p","certificate_uris":["a:b"]})"),
       {"principals[0].role: is required: READER, WRITER, ADMIN or OPERATOR"}},
      {File(R"({"name":"a","project":"p","role":"OWNER","certificate_uris":["a:b"]})"),
       {"role", "READER, WRITER, ADMIN or OPERATOR"}},
      {File(R"({"name":"a","project":"p","role":9,"certificate_uris":["a:b"]})"),
       {"role", "READER, WRITER, ADMIN or OPERATOR"}},
      {File(R"({"name":"a","role":"READER","certificate_uris":["a:b"]})"),
       {"principals[0].project: must be 1 to 63 characters", R"(got "")"}},
      {File(R"({"name":"a","project":"A","role":"READER","certificate_uris":["a:b"]})"),
       {"principals[0].project: must be 1 to 63 characters", R"(got "A")"}},
      {File(a, R"({"name":"other"})"),
       {R"(principals[0].project: "default" is not the name of one of `projects`)"}},
      {File(a, R"({"name":"default"},{"name":"default"})"),
       {"projects[1].name: is the same as projects[0].name"}},
      {File(a, R"({"name":"default"},{"name":"_"})"), {"projects[1].name: must be 1 to 63"}},
      {File(a, R"({"name":"default","weight":0})"),
       {"projects[0].weight: must be 1 to 1000, got 0"}},
      {File(a, R"({"name":"default","weight":1001})"),
       {"projects[0].weight: must be 1 to 1000, got 1001"}},
      {File(a, R"({"name":"default","quotas":{"models":-1}})"),
       {"projects[0].quotas.models: must be at least 0, got -1"}},
      {File(a, R"({"name":"default","quotas":{"stored_bytes":-1}})"),
       {"projects[0].quotas.stored_bytes: must be at least 0, got -1"}},
      {File(a, R"({"name":"default","quotas":{"rows_per_second":0}})"),
       {"projects[0].quotas.rows_per_second: must be at least 1, got 0"}},
      {File(a, R"({"name":"default","quotas":{"bytes_in_flight":1023}})"),
       {"projects[0].quotas.bytes_in_flight: must be at least 1024, got 1023"}},
      {File(a, R"({"name":"default","quotas":{"requests_per_second":0}})"),
       {"projects[0].quotas.requests_per_second: must be at least 1, got 0"}},
  };
  for (const Case& test : cases) {
    const std::string error = ErrorOf(test.json);
    for (const std::string& part : test.parts) EXPECT_THAT(error, HasSubstr(part)) << test.json;
  }
}

TEST(AuthFileTest, AllErrorsAreReported) {
  const std::string error =
      ErrorOf(File(absl::StrCat(PrincipalJson("", 1), ",", PrincipalJson("-", 2))));
  EXPECT_THAT(error, HasSubstr("principals[0].name"));
  EXPECT_THAT(error, HasSubstr("principals[1].name"));
}

TEST(AuthFileTest, LimitsAreInclusive) {
  EXPECT_TRUE(ParseAuthFile(File(PrincipalJson(std::string(128, 'a'), 1))).ok());
  const std::string uri = "a:" + std::string(2046, 'b');
  EXPECT_TRUE(ParseAuthFile(File(PrincipalJson(
                                "a", 1, absl::StrCat(R"(,"certificate_uris":[")", uri, "\"]"))))
                  .ok());
  EXPECT_THAT(
      ErrorOf(File(PrincipalJson("a", 1, absl::StrCat(R"(,"certificate_uris":[")", uri, "b\"]")))),
      HasSubstr("principals[0].certificate_uris[0]: must be a URI"));
  std::string full = File(PrincipalJson("a", 1));
  full.resize(kMaxAuthFileBytes, ' ');
  EXPECT_TRUE(ParseAuthFile(full).ok());
  EXPECT_THAT(ErrorOf(full + " "), HasSubstr("must have at most 4194304 bytes, has 4194305"));
}

// Wherever a token is put by mistake, and wherever the file is cut, no part of the token is shown.
TEST(AuthFileTest, NoErrorShowsAToken) {
  const std::string tokens[] = {
      kToken, kToken.substr(4),  // the latter has no prefix that gives it away
  };
  for (const std::string& token : tokens) {
    const std::string quoted = absl::StrCat("\"", token, "\"");
    const std::string files[] = {
        File(absl::StrCat(R"({"name":"a","project":"p","role":"READER","token_sha256":[)", quoted,
                          "]}")),
        File(absl::StrCat(R"({"name":"a","project":"p","role":"READER","token_sha256":)", quoted,
                          "}")),
        File(absl::StrCat(R"({"name":"a","project":"p","role":)", quoted, "}")),
        File(absl::StrCat(R"({"name":"a","project":"p","role":"READER",)", quoted, ":1}")),
        File(PrincipalJson("a", 1), absl::StrCat(R"({"name":"default","weight":)", quoted, "}")),
        absl::StrCat("{", quoted, ":", quoted, "}"),
        quoted,
        token,
    };
    for (const std::string& file : files) {
      for (size_t bytes = 1; bytes <= file.size(); ++bytes) {
        const auto parsed = ParseAuthFile(file.substr(0, bytes));
        ASSERT_FALSE(parsed.ok());
        const std::string error(parsed.status().message());
        for (size_t at = 4; at + 6 <= token.size(); ++at) {
          EXPECT_THAT(error, Not(HasSubstr(token.substr(at, 6)))) << file.substr(0, bytes);
        }
      }
    }
  }
  EXPECT_THAT(
      ErrorOf(File(absl::StrCat(R"({"name":"a","project":"p","role":"READER","token_sha256":[")",
                                kToken, "\"]}"))),
      HasSubstr("principals[0].token_sha256[0]: expected the SHA-256 of a token, got a "
                "token"));
  EXPECT_THAT(ErrorOf(File(PrincipalJson(kToken + " ", 1))), Not(HasSubstr("012345")));
}

}  // namespace
}  // namespace backprop::auth
