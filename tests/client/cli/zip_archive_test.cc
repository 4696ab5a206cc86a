#include "client/cli/zip_archive.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "client/cli/private_file.h"
#include "client/cli/table.h"
#include "tests/temporary_directory.h"

namespace backprop::cli {
namespace {

mode_t ModeOf(const std::string& path) {
  struct stat about = {};
  EXPECT_EQ(stat(path.c_str(), &about), 0);
  return about.st_mode & 0777;
}

std::string Contents(const std::string& path) {
  std::string text(100, '\0');
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

// tests/client/cli/top_test.py reads an archive with another program.
TEST(ZipArchiveTest, IsDeflatedAndHasNoFileTwice) {
  const std::string long_text(1'000'000, 'x');
  const std::string bytes = ZipArchive({{"a/b.txt", long_text}, {"empty", ""}}, 1'700'000'000);
  EXPECT_EQ(bytes.substr(0, 4), "PK\x03\x04");
  EXPECT_LT(bytes.size(), 10'000U);
  EXPECT_NE(bytes.find("a/b.txt"), std::string::npos);
  EXPECT_EQ(ZipArchive({{"a/b.txt", long_text}, {"empty", ""}}, 1'700'000'000), bytes);
  EXPECT_THROW(ZipArchive({{"a", ""}, {"a", ""}}, 0), DataError);
}

TEST(PrivateFileTest, OnlyItsOwnerReadsItWhateverWasThere) {
  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/file";
  const mode_t before = umask(0);
  std::fclose(std::fopen(path.c_str(), "w"));
  std::fclose(std::fopen((path + ".partial").c_str(), "w"));
  ASSERT_EQ(ModeOf(path), 0666U);
  WritePrivateFile(path, "secret");
  umask(before);
  EXPECT_EQ(ModeOf(path), 0600U);
  EXPECT_EQ(Contents(path), "secret");
  EXPECT_NE(access((path + ".partial").c_str(), F_OK), 0);
}

TEST(PrivateFileTest, ALinkInItsPlaceIsNotFollowed) {
  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/file";
  const std::string other = folder.path() + "/other";
  std::fclose(std::fopen(other.c_str(), "w"));
  ASSERT_EQ(symlink(other.c_str(), (path + ".partial").c_str()), 0);
  WritePrivateFile(path, "secret");
  EXPECT_EQ(Contents(other), "");
  EXPECT_EQ(Contents(path), "secret");
}

TEST(PrivateFileTest, AFailureNamesTheFileAndLeavesNothing) {
  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/file";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);  // a file cannot replace a folder
  try {
    WritePrivateFile(path, "secret");
    ADD_FAILURE() << "no error";
  } catch (const DataError& error) {
    EXPECT_NE(error.message.find(path + ": cannot write: "), std::string::npos) << error.message;
  }
  EXPECT_NE(access((path + ".partial").c_str(), F_OK), 0);
  EXPECT_THROW(WritePrivateFile(folder.path() + "/no/such/folder", ""), DataError);
}

}  // namespace
}  // namespace backprop::cli
