#include "server/ops/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/text.h"
#include "tests/temporary_directory.h"

namespace backprop::ops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

class AuditLogTest : public testing::Test {
 protected:
  rpc::CallRecord Call(absl::string_view resource) const {
    return {"Step", resource, absl::StatusCode::kAborted, "no",   absl::Seconds(1),
            caller, identity, "ipv4:10.0.0.7:4711",       nullptr};
  }
  std::unique_ptr<AuditLog> Open() {
    auto log = AuditLog::Open(path, [this](const std::string& line) { messages.push_back(line); });
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }

  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/audit";
  rpc::Caller caller;
  rpc::CallIdentity identity{"id-1", ""};
  std::vector<std::string> messages;
};

TEST_F(AuditLogTest, ALineSaysWhoDidWhatWithWhichResult) {
  caller.principal = "alice";
  EXPECT_EQ(AuditLine(Call("models/m"), absl::FromUnixMicros(1'700'000'000'000'001)),
            R"({"time":"2023-11-14T22:13:20.000001Z","request_id":"id-1","principal":"alice",)"
            R"("project":"default","method":"Step","resource":"models/m","code":"ABORTED",)"
            R"("peer":"ipv4:10.0.0.7:4711"})");
  identity.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_THAT(
      AuditLine(Call("models/m"), absl::UnixEpoch()),
      HasSubstr(R"("request_id":"id-1","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736)"));
}

TEST_F(AuditLogTest, NothingOfACallerBreaksOrForgesALine) {
  for (const std::string& name :
       {std::string("m\",\"code\":\"OK"), std::string("a\nb\r\n"), std::string("\x1b[2J\x7f"),
        std::string("\xc3("), std::string("\xe2\x80\xae"), std::string("a\\"),
        std::string("a\0b", 3), std::string(100'000, '\n')}) {
    const std::string line = AuditLine(Call(name), absl::UnixEpoch());
    EXPECT_LT(line.size(), 5000U);
    EXPECT_EQ(base::ValidUtf8(line), line);
    EXPECT_EQ(base::EscapeControls(line), line) << "a control character";
    // All quotes that are not escaped belong to the eight fields.
    size_t quotes = 0;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else if (line[i] == '"') {
        ++quotes;
      }
    }
    EXPECT_EQ(quotes, 4U * 8) << line;
    EXPECT_TRUE(absl::EndsWith(line, R"("code":"ABORTED","peer":"ipv4:10.0.0.7:4711"})"));
  }
}

TEST_F(AuditLogTest, AppendsToAFileThatOnlyItsOwnerReads) {
  Open()->Write(Call("models/a"));
  Open()->Write(Call("models/b"));
  EXPECT_THAT(Lines(path), ElementsAre(HasSubstr("models/a"), HasSubstr("models/b")));
  struct stat file = {};
  ASSERT_EQ(stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600U);
}

TEST_F(AuditLogTest, AFileThatCannotBeOpenedIsAnError) {
  const auto log = AuditLog::Open(folder.path() + "/no/such/folder", {});
  EXPECT_EQ(log.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("--audit-log"));
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("No such file"));
}

TEST_F(AuditLogTest, AfterARotationANewFileIsWritten) {
  const auto log = Open();
  log->Write(Call("models/a"));
  ASSERT_EQ(std::rename(path.c_str(), (path + ".1").c_str()), 0);
  log->Write(Call("models/b"));
  ASSERT_TRUE(log->Reopen().ok());
  log->Write(Call("models/c"));
  EXPECT_THAT(Lines(path + ".1"), ElementsAre(HasSubstr("models/a"), HasSubstr("models/b")));
  EXPECT_THAT(Lines(path), ElementsAre(HasSubstr("models/c")));
  // If that fails, the old file stays in use.
  ASSERT_EQ(std::rename(path.c_str(), (path + ".2").c_str()), 0);
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  EXPECT_FALSE(log->Reopen().ok());
  log->Write(Call("models/d"));
  EXPECT_THAT(Lines(path + ".2"), ElementsAre(HasSubstr("models/c"), HasSubstr("models/d")));
  EXPECT_EQ(log->written(), 4);
}

TEST_F(AuditLogTest, LinesOfManyThreadsAreWholeAndInTheOrderOfTheirTimes) {
  constexpr int kThreads = 8;
  constexpr int kEach = 200;
  const auto log = Open();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < kEach; ++j) log->Write(Call(absl::StrCat("models/", i, "-", j)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = Lines(path);
  ASSERT_EQ(lines.size(), static_cast<size_t>(kThreads * kEach));
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_TRUE(absl::StartsWith(lines[i], R"({"time":")")) << lines[i];
    EXPECT_TRUE(absl::EndsWith(lines[i], "\"}")) << lines[i];
    if (i > 0) EXPECT_LE(lines[i - 1].substr(0, 36), lines[i].substr(0, 36));
  }
  EXPECT_EQ(log->written(), kThreads * kEach);
}

// The limit of file sizes stands for a full disk: a write stops within a line, and later ones fail.
TEST_F(AuditLogTest, AFullDiskLosesLinesAndNothingElse) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  const auto log = Open();
  log->Write(Call("models/a"));
  const auto limit_to = [&](rlim_t bytes) {
    rlimit limit = before;
    limit.rlim_cur = bytes;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  };
  limit_to(Lines(path)[0].size() + 1 + 20);
  log->Write(Call("models/b"));
  log->Write(Call("models/c"));
  limit_to(before.rlim_cur);
  log->Write(Call("models/d"));
  std::signal(SIGXFSZ, previous);
  EXPECT_EQ(log->written(), 2);
  EXPECT_EQ(log->lost(), 2);
  EXPECT_THAT(messages, ElementsAre(HasSubstr("File too large"), HasSubstr("2 were lost")));
  const std::vector<std::string> lines = Lines(path);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[0], HasSubstr("models/a"));
  EXPECT_EQ(lines[1].size(), 20U) << "the torn line has an end";
  EXPECT_THAT(lines[2], HasSubstr("models/d"));
  EXPECT_TRUE(absl::StartsWith(lines[2], "{"));
}

}  // namespace
}  // namespace backprop::ops
