#include "server/auth/auth_file_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/time/clock.h"
#include "tests/temporary_directory.h"

namespace backprop::auth {
namespace {

using testing::HasSubstr;

class AuthFileReaderTest : public testing::Test {
 protected:
  static std::string Text(const std::string& name) {
    return R"({"principals":[{"name":")" + name +
           R"(","project":"p","role":"READER","certificate_uris":["a:b"]}]})";
  }
  void Write(const std::string& text) { std::ofstream(path_) << text; }
  static std::string NameIn(const AuthFileReader::Result& file) {
    return file.ok() ? file->principals[0].name : std::string(file.status().message());
  }
  std::string Name() { return NameIn(reader_.Read()); }
  std::string Changed() {
    const auto file = reader_.ReadIfChanged();
    return file.has_value() ? NameIn(*file) : "no change";
  }

  const TemporaryDirectory folder_;
  const std::string path_ = folder_.path() + "/auth.json";
  AuthFileReader reader_{path_};
};

TEST_F(AuthFileReaderTest, AChangeIsNoticedOnce) {
  Write(Text("a"));
  EXPECT_EQ(Changed(), "a");
  EXPECT_EQ(Changed(), "no change");
  Write(Text("b"));  // at once, with the same size
  EXPECT_EQ(Changed(), "b");
  EXPECT_EQ(Changed(), "no change");
  EXPECT_EQ(Name(), "b");
  EXPECT_EQ(Changed(), "no change");
}

TEST_F(AuthFileReaderTest, AFileThatIsOlderThanItsReadIsNotReadAgain) {
  Write(Text("a"));
  const auto written = std::filesystem::last_write_time(path_);
  ASSERT_EQ(Changed(), "a");
  absl::SleepFor(absl::Seconds(1.1));
  EXPECT_EQ(Changed(), "no change");
  // Only the contents change; the time of the change of the inode gives it away.
  Write(Text("b"));
  std::filesystem::last_write_time(path_, written);
  EXPECT_EQ(Changed(), "b");
}

TEST_F(AuthFileReaderTest, ABrokenFileIsReportedOnce) {
  Write("{");
  EXPECT_THAT(Changed(), HasSubstr(path_ + ": cannot be parsed"));
  EXPECT_EQ(Changed(), "no change");
  Write(Text("a"));
  EXPECT_EQ(Changed(), "a");
}

TEST_F(AuthFileReaderTest, ReplacementsAreNoticed) {
  Write(Text("a"));
  ASSERT_EQ(Changed(), "a");
  const std::string other = folder_.path() + "/other";
  std::ofstream(other) << Text("b");
  std::filesystem::rename(other, path_);
  EXPECT_EQ(Changed(), "b");
  // As Kubernetes mounts secrets.
  std::ofstream(other) << Text("c");
  std::filesystem::remove(path_);
  std::filesystem::create_symlink(other, path_);
  EXPECT_EQ(Changed(), "c");
  EXPECT_EQ(Changed(), "no change");
}

TEST_F(AuthFileReaderTest, AMissingFileIsReportedOnce) {
  EXPECT_EQ(Changed(), path_ + ": No such file or directory");
  EXPECT_EQ(Changed(), "no change");
  Write(Text("a"));
  EXPECT_EQ(Changed(), "a");
  std::filesystem::remove(path_);
  EXPECT_EQ(Changed(), path_ + ": No such file or directory");
}

TEST_F(AuthFileReaderTest, OnlyARegularFileThatIsNotWritableByAllIsRead) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(Name(), path_ + ": is not a regular file");
  unlink(path_.c_str());
  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_EQ(Name(), path_ + ": is not a regular file");
  rmdir(path_.c_str());
  Write(Text("a"));
  ASSERT_EQ(chmod(path_.c_str(), 0646), 0);
  EXPECT_THAT(Name(), HasSubstr(": may be written by every user of this machine"));
  ASSERT_EQ(chmod(path_.c_str(), 0664), 0);
  EXPECT_EQ(Name(), "a");
}

TEST_F(AuthFileReaderTest, AnEndlessFileEndsAtTheLimit) {
  Write(std::string(kMaxAuthFileBytes + 1, ' '));
  EXPECT_THAT(Name(), HasSubstr("must have at most"));
}

}  // namespace
}  // namespace backprop::auth
