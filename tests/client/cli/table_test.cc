#include "client/cli/table.h"

#include <gtest/gtest.h>

#include <cstring>

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

TEST(CsvTest, ErrorsSayWhere) {
  EXPECT_EQ(ErrorOf("1,2\n3,x\n"), "f.csv:2:2: expected a number, got \"x\"");
  EXPECT_EQ(ErrorOf("1,2\n\n3,\n"), "f.csv:3:2: expected a number, got \"\"");
  EXPECT_EQ(ErrorOf("1,inf\n"), "f.csv:1:2: expected a finite number, got \"inf\"");
  EXPECT_EQ(ErrorOf("1,2\n3,4,5\n"), "f.csv:2: expected 2 columns, got 3");
  EXPECT_EQ(ErrorOf("1,\"2\n"), "f.csv:1:2: the quote is never closed");
  EXPECT_EQ(ErrorOf("1,\"2\"x\n"), "f.csv:1:2: text after the closing quote");
  EXPECT_EQ(ErrorOf(""), "f.csv: has no rows of data");
  EXPECT_EQ(ErrorOf("a,b\n"), "f.csv: has no rows of data");
  EXPECT_EQ(ErrorOf("1,2\n"), "none");
}

std::string Npy(const std::string& header, const std::string& data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  const auto size = static_cast<uint16_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&size), 2);
  return bytes + header + data;
}
std::string Doubles(std::vector<double> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 8);
}
std::string NpyError(const std::string& bytes) {
  try {
    ParseNpy("f.npy", bytes);
  } catch (const DataError& error) {
    return error.message;
  }
  return "none";
}

TEST(NpyTest, MatricesAndVectors) {
  const NpyArray matrix =
      ParseNpy("f.npy", Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n",
                            Doubles({1, 2, 3, 4, 5, 6})));
  EXPECT_EQ(matrix.rows, 2);
  EXPECT_EQ(matrix.cols, 3);
  EXPECT_EQ(matrix.values[5], 6);
  const NpyArray vector = ParseNpy(
      "f.npy", Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", Doubles({1, 2})));
  EXPECT_EQ(vector.rows, 2);
  EXPECT_EQ(vector.cols, 1);
}

TEST(NpyTest, WhatIsWrongIsSaid) {
  const std::string ok = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n";
  EXPECT_EQ(NpyError("hello world"), "f.npy: is not a .npy file");
  EXPECT_NE(NpyError(Npy(ok, Doubles({1}))).find("is cut off"), std::string::npos);
  EXPECT_NE(
      NpyError(Npy("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 1), }", Doubles({1})))
          .find("Fortran"),
      std::string::npos);
  EXPECT_NE(
      NpyError(Npy("{'descr': '<c16', 'fortran_order': False, 'shape': (1, 1), }", Doubles({1, 1})))
          .find("got <c16"),
      std::string::npos);
  EXPECT_NE(
      NpyError(Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1), }", Doubles({1})))
          .find("one or two dimensions"),
      std::string::npos);
  EXPECT_NE(
      NpyError(Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 1), }",
                   Doubles({1})))
          .find("too large"),
      std::string::npos);
  EXPECT_NE(NpyError(Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, "
                         "9223372036854775807), }",
                         Doubles({1})))
                .find("is cut off"),
            std::string::npos);
}

}  // namespace
}  // namespace backprop::cli
