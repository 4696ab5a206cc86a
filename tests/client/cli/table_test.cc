#include "client/cli/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>

#include "tests/temporary_directory.h"

namespace backprop::cli {
namespace {

CsvTable Parse(const std::string& text, std::optional<bool> header = std::nullopt) {
  return ParseCsv("f.csv", text, header);
}
std::string ErrorOf(const std::string& text) {
  try {
    const CsvTable table = Parse(text);
    for (size_t row = 0; row < table.rows.size(); ++row) {
      for (size_t column = 0; column < table.columns(); ++column) table.Number(row, column);
    }
  } catch (const DataError& error) {
    return error.message;
  }
  return "none";
}

TEST(CsvTest, AHeaderIsALineWithoutNumbers) {
  EXPECT_TRUE(Parse("1,2\n3,4\n").header.empty());
  EXPECT_EQ(Parse("1,2\n3,4\n").rows.size(), 2U);
  EXPECT_EQ(Parse("a,b\n3,4\n").header, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(Parse("5.1,setosa\n").header.empty());
  EXPECT_EQ(Parse("1,2\n3,4\n", true).header, (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(Parse("a,b\nc,d\n", false).rows.size(), 2U);
}

TEST(CsvTest, QuotesLineEndsAndBlanks) {
  const CsvTable table = Parse("\xEF\xBB\xBFname, x \r\n\"a,\"\"b\"\"\n\", 1 \r\n\r\nc,2");
  EXPECT_EQ(table.header, (std::vector<std::string>{"name", "x"}));
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0][0], "a,\"b\"\n");
  EXPECT_EQ(table.Number(0, 1), 1);
  EXPECT_EQ(table.lines, (std::vector<int64_t>{2, 5}));
}

TEST(CsvTest, NumbersAreReadWholeAndFinite) {
  const CsvTable table = Parse("+1.5,-2e-3,0x\n");
  EXPECT_EQ(table.Number(0, 0), 1.5);
  EXPECT_EQ(table.Number(0, 1), -2e-3);
  EXPECT_THROW(table.Number(0, 2), DataError);
}

TEST(CsvTest, SpacesQuotesAndBlankLinesDoNotCount) {
  const CsvTable table =
      Parse(" 1 ,\"2\", \" 3 \" ,\t4\r\n   \r\n\"5\" ,6,7,8\n\n \t\n,,,\n,, ,\n");
  ASSERT_EQ(table.rows.size(), 2U);
  for (size_t column = 0; column < 4; ++column) {
    EXPECT_EQ(table.Number(0, column), static_cast<double>(column) + 1);
    EXPECT_EQ(table.Number(1, column), static_cast<double>(column) + 5);
  }
  EXPECT_EQ(table.lines, (std::vector<int64_t>{1, 3}));
  // Inside a quote spaces are part of a name.
  EXPECT_EQ(Parse("a\n\" x \"\n").rows[0][0], " x ");
  // An empty row in the middle is an error.
  EXPECT_EQ(ErrorOf("1,2\n,\n3,4\n"), "f.csv:2:1: expected a number, got \"\"");
}

TEST(CsvTest, VerySmallNumbersAreZeroAndVeryLargeOnesAreRefused) {
  const CsvTable table = Parse("1e-400,-1e-400,4.9e-324,1e-310,1e400,-1e400\n");
  EXPECT_EQ(table.Number(0, 0), 0);
  EXPECT_TRUE(std::signbit(table.Number(0, 1)));
  EXPECT_EQ(table.Number(0, 2), 4.9e-324);
  EXPECT_EQ(table.Number(0, 3), 1e-310);
  EXPECT_EQ(ErrorOf("1e400\n"), "f.csv:1:1: expected a finite number, got \"1e400\"");
  EXPECT_EQ(ErrorOf("1,-1e400\n"), "f.csv:1:2: expected a finite number, got \"-1e400\"");
}

TEST(CsvTest, WhatIsNoNumber) {
  for (const char* text : {"+-5", "++5", "-+5", "--5", "+", "-", "", "1,5e", "0x10", "1_000", "5 6",
                           "1e", "e5", "1.2.3", "+nanx"}) {
    EXPECT_FALSE(ToNumber(text).has_value()) << text;
  }
  EXPECT_EQ(ToNumber(" +5 "), 5);
  EXPECT_EQ(ToNumber(".5"), 0.5);
  EXPECT_EQ(ToNumber("5."), 5);
}

TEST(CsvTest, AFirstLineThatMayNameTheColumnsIsPointedOut) {
  EXPECT_EQ(
      ErrorOf("id,1,2\n5,6,7\n"),
      "f.csv:1:1: expected a number, got \"id\"; use --header if this line names the columns");
  EXPECT_EQ(ErrorOf("1,2\nid,6\n"), "f.csv:2:1: expected a number, got \"id\"");
  const auto note = [](const std::string& text, std::optional<bool> header) {
    testing::internal::CaptureStderr();
    Parse(text, header);
    return testing::internal::GetCapturedStderr();
  };
  const std::string said =
      "note: f.csv: the first line looks like column numbers but is read as data; use --header if "
      "it is a header, otherwise --no-header\n";
  EXPECT_EQ(note("0,1,2\n5,6,7\n", std::nullopt), said);
  EXPECT_EQ(note("1,2,3,4\n5,6,7,8\n", std::nullopt), said);
  EXPECT_EQ(note("0,1,2\n5,6,7\n", false), "");
  EXPECT_EQ(note("0,1,2\n5,6,7\n", true), "");
  EXPECT_EQ(note("0,1\n5,6\n", std::nullopt), "");
  EXPECT_EQ(note("0,1,1\n5,6,7\n", std::nullopt), "");
}

TEST(CsvTest, OtherSeparatorsAndBytesAreNamed) {
  EXPECT_EQ(ErrorOf("a;b\n1;2\n"),
            "f.csv:1: the fields are separated by semicolons; separate them by commas");
  EXPECT_EQ(ErrorOf("1\t2\n"),
            "f.csv:1: the fields are separated by tabs; separate them by commas");
  EXPECT_EQ(ErrorOf(std::string("1,\0002\n", 5)), "f.csv: is not text");
  EXPECT_EQ(ErrorOf("\x93NUMPY\x01"), "f.csv: is a .npy file; give it a name that ends in .npy");
}

TEST(ReadFileTest, WhatIsNoFileOfNumbersIsNamed) {
  const TemporaryDirectory folder;
  const auto error_of = [&](const std::string& bytes) {
    const std::string file = folder.path() + "/f";
    std::ofstream(file, std::ios::binary) << bytes;
    try {
      ReadFile(file);
    } catch (const DataError& error) {
      return error.message.substr(file.size());
    }
    return std::string("none");
  };
  EXPECT_EQ(error_of("1,2\n"), "none");
  EXPECT_EQ(error_of(""), "none");
  EXPECT_EQ(error_of("\x1f\x8b\x08 and so on"),
            ": is compressed by gzip; decompress it first: gunzip");
  EXPECT_NE(error_of("PK\x03\x04 and so on").find("is a zip archive"), std::string::npos);
  EXPECT_NE(error_of("PAR1 and so on").find("is a Parquet file"), std::string::npos);
  EXPECT_NE(error_of("\xff\xfe"
                     "1")
                .find("UTF-16"),
            std::string::npos);
  try {
    ReadFile(folder.path());
    FAIL();
  } catch (const DataError& error) {
    EXPECT_EQ(error.message, folder.path() + ": is a directory");
  }
  try {
    ReadFile(folder.path() + "/none");
    FAIL();
  } catch (const DataError& error) {
    EXPECT_EQ(error.message, folder.path() + "/none: No such file or directory");
  }
}

TEST(CsvTest, ErrorsSayWhere) {
  EXPECT_EQ(ErrorOf("1,2\n3,x\n"), "f.csv:2:2: expected a number, got \"x\"");
  EXPECT_EQ(ErrorOf("1,2\n\n3,\n"), "f.csv:3:2: expected a number, got \"\"");
  EXPECT_EQ(ErrorOf("1,inf\n"), "f.csv:1:2: expected a finite number, got \"inf\"");
  EXPECT_EQ(ErrorOf("1,2\n3,4,5\n"), "f.csv:2: expected 2 columns, got 3");
  EXPECT_EQ(ErrorOf("1,\"2\n"), "f.csv:1:2: the quote is not closed");
  EXPECT_EQ(ErrorOf("1,\"2\"x\n"), "f.csv:1:2: text after the closing quote");
  EXPECT_EQ(ErrorOf(""), "f.csv: has no rows of data");
  EXPECT_EQ(ErrorOf("a,b\n"), "f.csv: has no rows of data");
  EXPECT_EQ(ErrorOf("1,2\n"), "none");
}

}  // namespace
}  // namespace backprop::cli
