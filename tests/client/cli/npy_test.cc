// NumPy's files; cli_test.py reads what NumPy itself writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "client/cli/table.h"
#include "tests/client/cli/npy_file.h"

namespace backprop::cli {
namespace {

// Numbers as T in the byte order of the type.
template <class T>
std::string File(const std::string& type, const std::vector<T>& values) {
  std::string data;
  for (const T& value : values) {
    std::string bytes(reinterpret_cast<const char*>(&value), sizeof(T));
    if (type[0] == '>') std::reverse(bytes.begin(), bytes.end());
    data += bytes;
  }
  return Npy(HeaderOf(type, "(" + std::to_string(values.size()) + ",)"), data);
}

std::string Doubles(std::vector<double> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 8);
}

std::string NpyErrorOf(const std::string& bytes) {
  try {
    ParseNpy("f.npy", bytes);
  } catch (const DataError& error) {
    return error.message;
  }
  return "none";
}

TEST(NpyTest, MatricesAndVectors) {
  const NpyArray matrix =
      ParseNpy("f.npy", Npy(HeaderOf("<f8", "(2, 3)"), Doubles({1, 2, 3, 4, 5, 6})));
  EXPECT_EQ(matrix.rows, 2);
  EXPECT_EQ(matrix.cols, 3);
  EXPECT_EQ(matrix.values, (std::vector<double>{1, 2, 3, 4, 5, 6}));
  const NpyArray vector = ParseNpy("f.npy", Npy(HeaderOf("<f8", "(2,)"), Doubles({1, 2})));
  EXPECT_EQ(vector.rows, 2);
  EXPECT_EQ(vector.cols, 1);
  const NpyArray columns =
      ParseNpy("f.npy", Npy(HeaderOf("<f8", "(2, 3)", true), Doubles({1, 4, 2, 5, 3, 6})));
  EXPECT_EQ(columns.rows, 2);
  EXPECT_EQ(columns.values, matrix.values);
}

template <class T>
void ExpectRead(const std::string& kind, const std::vector<T>& values, bool is_float32) {
  for (const char* order : {"<", ">", "=", "|"}) {
    const NpyArray array = ParseNpy("f.npy", File(order + kind, values));
    EXPECT_EQ(array.values, std::vector<double>(values.begin(), values.end())) << order << kind;
    EXPECT_EQ(array.is_float32, is_float32);
  }
}

TEST(NpyTest, EveryWidthInBothOrders) {
  ExpectRead<float>("f4", {1.5F, -2.25F, 1e-42F, 3e38F}, true);
  ExpectRead<double>("f8", {1.5, -2.25, 5e-324, 1e300}, false);
  ExpectRead<int8_t>("i1", {-128, -1, 0, 127}, false);
  ExpectRead<uint8_t>("u1", {0, 255}, false);
  ExpectRead<int16_t>("i2", {-32768, -1, 32767}, false);
  ExpectRead<uint16_t>("u2", {0, 65535}, false);
  ExpectRead<int32_t>("i4", {INT32_MIN, -1, INT32_MAX}, false);
  ExpectRead<uint32_t>("u4", {0, UINT32_MAX}, false);
  ExpectRead<int64_t>("i8", {INT64_MIN, -1, 1, INT64_MAX}, false);
  ExpectRead<uint64_t>("u8", {0, UINT64_MAX}, false);
  ExpectRead<uint8_t>("b1", {0, 1}, false);
}

TEST(NpyTest, HalfPrecision) {
  const std::vector<uint16_t> bits = {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x8000, 0x3555};
  const std::vector<double> expected = {
      1, -2, 65504, std::ldexp(1, -14), std::ldexp(1, -24), 0, 1365.0 / 4096};
  for (const char* type : {"<f2", ">f2"}) {
    const NpyArray array = ParseNpy("f.npy", File(type, bits));
    EXPECT_EQ(array.values, expected);
    EXPECT_TRUE(std::signbit(array.values[5]));
    EXPECT_TRUE(array.is_float32);
  }
  const NpyArray odd = ParseNpy("f.npy", File<uint16_t>("<f2", {0x7c00, 0xfc00, 0x7e00}));
  EXPECT_EQ(odd.values[0], INFINITY);
  EXPECT_EQ(odd.values[1], -INFINITY);
  EXPECT_TRUE(std::isnan(odd.values[2]));
}

TEST(NpyTest, OtherTypesAreNamed) {
  const auto error = [](const std::string& type) {
    return NpyErrorOf(Npy(HeaderOf(type, "(1, 1)"), std::string(64, '\0')));
  };
  EXPECT_EQ(
      error("<c16"),
      "f.npy: elements are complex numbers (<c16); save them as float32, float64 or integers");
  EXPECT_NE(error("<f16").find("another precision"), std::string::npos);
  EXPECT_NE(error("|O").find("Python objects (|O)"), std::string::npos);
  EXPECT_NE(error("<U7").find("text (<U7)"), std::string::npos);
  EXPECT_NE(error("|S3").find("text (|S3)"), std::string::npos);
  EXPECT_NE(error("<M8[ns]").find("dates or times"), std::string::npos);
  EXPECT_NE(error("|V2").find("raw bytes"), std::string::npos);
  EXPECT_NE(error("f8").find("unknown type (f8)"), std::string::npos);
  for (const char* type : {"<i3", "<i16", "<u0", "<b2", "<f1", "<f", "<", ""}) {
    EXPECT_NE(error(type), "none") << type;
  }
  EXPECT_EQ(
      NpyErrorOf(Npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", "")),
      "f.npy: has elements of several fields; save each field separately");
}

TEST(NpyTest, EveryVersion) {
  const std::string header = HeaderOf("<f8", "(1, 2)");
  for (const int version : {1, 2, 3}) {
    EXPECT_EQ(ParseNpy("f.npy", Npy(header, Doubles({1, 2}), version)).cols, 2);
  }
  EXPECT_EQ(NpyErrorOf(Npy(header, Doubles({1, 2}), 4)),
            "f.npy: has version 4 of the format; versions 1, 2 and 3 are supported");
  EXPECT_NE(NpyErrorOf(Npy(header, Doubles({1, 2}), 0)).find("version 0"), std::string::npos);
}

TEST(NpyTest, HeadersOfAnySize) {
  std::string header = HeaderOf("<f8", "(1, 2)");
  header.insert(header.size() - 1, std::string(60000, ' '));
  EXPECT_EQ(ParseNpy("f.npy", Npy(header, Doubles({1, 2}))).cols, 2);
  header.insert(1, std::string(900'000, ' '));
  EXPECT_EQ(ParseNpy("f.npy", Npy(header, Doubles({1, 2}), 2)).cols, 2);
  header.insert(1, std::string(200'000, ' '));
  EXPECT_EQ(
      NpyErrorOf(Npy(header, Doubles({1, 2}), 2)),
      "f.npy: has a header of " + std::to_string(header.size()) + " bytes, more than 1048576");
  std::string huge = Npy(header, "", 2);
  for (size_t i = 8; i < 12; ++i) huge[i] = '\xff';
  EXPECT_EQ(NpyErrorOf(huge), "f.npy: has a header of 4294967295 bytes, more than 1048576");
  // This input made a regular expression recurse.
  EXPECT_EQ(NpyErrorOf(Npy("{'descr': '" + std::string(60000, 'x') + "'", "")),
            "f.npy: the header is not in the format that NumPy writes");
  EXPECT_NE(NpyErrorOf(Npy(HeaderOf("<f8", "(" + std::string(60000, '1') + ",)"), Doubles({1}))),
            "none");
  EXPECT_NE(NpyErrorOf(Npy(std::string(60000, '{'), "")), "none");
  EXPECT_NE(NpyErrorOf(Npy(std::string(60000, '('), "")), "none");
}

TEST(NpyTest, WhatIsWrongIsSaid) {
  const std::string ok = HeaderOf("<f8", "(2, 3)");
  EXPECT_EQ(NpyErrorOf("hello world"), "f.npy: is not a .npy file");
  EXPECT_EQ(NpyErrorOf("\x93NUMPY"), "f.npy: is not a .npy file");
  EXPECT_NE(NpyErrorOf(Npy(ok, Doubles({1}))).find("is truncated"), std::string::npos);
  EXPECT_EQ(NpyErrorOf(Npy(ok, "").substr(0, 30)), "f.npy: the header is truncated");
  EXPECT_EQ(NpyErrorOf(Npy(HeaderOf("<f8", "(1, 1, 1)"), Doubles({1}))),
            "f.npy: must have one or two dimensions, got 3");
  EXPECT_EQ(NpyErrorOf(Npy(HeaderOf("<f8", "()"), Doubles({1}))),
            "f.npy: must have one or two dimensions, got 0");
  EXPECT_EQ(NpyErrorOf(Npy(HeaderOf("<f8", "(0, 3)"), "")), "f.npy: has no rows of data");
  EXPECT_EQ(NpyErrorOf(Npy(HeaderOf("<f8", "(99999999999999999999, 1)"), Doubles({1}))),
            "f.npy: the shape is too large");
  EXPECT_NE(
      NpyErrorOf(Npy(HeaderOf("<f8", "(999999999999999999, 999999999999999999)"), Doubles({1})))
          .find("is truncated"),
      std::string::npos);
  for (const char* header :
       {"", "{}", "{'descr': '<f8'", "{'descr': '<f8', }", "{'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': Maybe, 'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1 1), }",
        "{'descr': '<f8', 'other': 1, 'shape': (1,), }", "{'descr': '<f8' 'shape': (1,), }"}) {
    EXPECT_NE(NpyErrorOf(Npy(header, Doubles({1}))), "none") << header;
  }
  // Python 2 wrote long integers like this.
  EXPECT_EQ(NpyErrorOf(Npy(HeaderOf("<f8", "(1L, 1L)"), Doubles({1}))), "none");
}

// Files with changed or missing bytes give an array or an error, never a crash.
TEST(NpyTest, DamagedFilesAreReadOrRefused) {
  std::mt19937 random(3);
  const std::string good = Npy(HeaderOf("<f8", "(2, 3)"), Doubles({1, 2, 3, 4, 5, 6}));
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (uint32_t i = 0; i <= random() % 3; ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (round % 4 == 0) bytes.resize(random() % bytes.size());
    NpyErrorOf(bytes);
  }
}

TEST(NpyTest, LabelsAreClassIndices) {
  const auto labels = [](const std::string& bytes) {
    try {
      std::string all;
      for (const int32_t label : ParseNpy("f.npy", bytes).Classes()) {
        all += std::to_string(label) + " ";
      }
      return all;
    } catch (const DataError& error) {
      return error.message;
    }
  };
  EXPECT_EQ(labels(File<uint8_t>("|b1", {1, 0})), "1 0 ");
  EXPECT_EQ(labels(File<int64_t>("<i8", {0, INT32_MAX})), "0 2147483647 ");
  EXPECT_EQ(labels(File<float>("<f4", {0, 2})), "0 2 ");
  const std::string expected =
      ": expected a class index, a whole number from 0 to 2147483647, got ";
  EXPECT_EQ(labels(File<int64_t>("<i8", {1, 4294967296})), "f.npy[1]" + expected + "4294967296");
  EXPECT_EQ(labels(File<uint32_t>("<u4", {2147483648U})), "f.npy[0]" + expected + "2147483648");
  EXPECT_EQ(labels(File<int8_t>("|i1", {-1})), "f.npy[0]" + expected + "-1");
  EXPECT_EQ(labels(File<double>("<f8", {0.5})), "f.npy[0]" + expected + "0.5");
  EXPECT_EQ(labels(Npy(HeaderOf("<f8", "(1, 2)"), Doubles({1, 2}))),
            "f.npy: labels must have one dimension, got 2 columns");
}

}  // namespace
}  // namespace backprop::cli
