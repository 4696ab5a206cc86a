#include "server/base/text.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace backprop::base {
namespace {

TEST(TextTest, CutsBetweenCharacters) {
  EXPECT_EQ(Cut("abc", 3), "abc");
  EXPECT_EQ(Cut("abc", 2), "ab");
  EXPECT_EQ(Cut("aé", 3), "aé");
  EXPECT_EQ(Cut("aé", 2), "a");
  EXPECT_EQ(Cut("€€", 5), "€");
  EXPECT_EQ(Cut("€€", 3), "€");
  EXPECT_EQ(Cut("😀x", 3), "");
  EXPECT_EQ(Cut("x", 0), "");
  EXPECT_EQ(Cut("\x80\x80\x80\x80\x80\x80", 5).size(), 1U) << "not a character; must not crash";
}

TEST(TextTest, InvalidUtf8IsReplaced) {
  EXPECT_EQ(ValidUtf8("aé€😀"), "aé€😀");
  EXPECT_EQ(ValidUtf8("a\xc3"), "a\uFFFD");
  EXPECT_EQ(ValidUtf8("\xc3(\xa9"), "\uFFFD(\uFFFD");
  EXPECT_EQ(ValidUtf8("\xc0\xaf"), "\uFFFD\uFFFD") << "an overlong form";
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "half of a surrogate pair";
  EXPECT_EQ(ValidUtf8("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD")
      << "above the last code point";
  EXPECT_EQ(ValidUtf8("\xe2\x82"), "\uFFFD\uFFFD");
}

TEST(TextTest, HeadersCountUnprintableBytesThreeTimes) {
  EXPECT_EQ(HeaderBytes("a b~"), 4U);
  EXPECT_EQ(HeaderBytes("é"), 6U);
  EXPECT_EQ(HeaderBytes("%\n"), 6U);
}

TEST(TextTest, FitsAHeaderOfEverySize) {
  const std::string text = "aé%€b😀c";
  for (size_t bytes = 9; bytes < 60; ++bytes) {
    const std::string fitted = FitHeader(text, bytes);
    EXPECT_LE(HeaderBytes(fitted), bytes);
    EXPECT_EQ(ValidUtf8(fitted), fitted);
    EXPECT_EQ(fitted == text, HeaderBytes(text) <= bytes) << bytes;
  }
  EXPECT_EQ(FitHeader(std::string(1 << 20, 'x'), 20), std::string(11, 'x') + "…");
  EXPECT_EQ(FitHeader("a\xff", 100), "a\uFFFD");
}

TEST(TextTest, EscapesControlAndFormatCharacters) {
  EXPECT_EQ(Escape("a\nb\r\t\x1b[31m\x7f", 100), "a\\nb\\r\\t\\x1b[31m\\x7f");
  EXPECT_EQ(Escape("é\u0085\u2028\u202e", 100), "é\\u0085\\u2028\\u202e");
  EXPECT_EQ(Escape("\xff\\\"", 100), "\\xff\\\\\\\"");
  EXPECT_EQ(EscapeControls("a\\n\"\n\xff"), "a\\n\"\\n\\xff");
  EXPECT_EQ(Escape("aé\n", 2), "a…");
  EXPECT_EQ(Escape("aé\n", 4), "aé…");
  EXPECT_EQ(Escape("aé\n", 5), "aé\\n");
  EXPECT_EQ(Quote("é"), "\"é\"");
  EXPECT_EQ(Quote("a" + absl::StrReplaceAll(std::string(60, '.'), {{".", "é"}})),
            "\"a" + absl::StrReplaceAll(std::string(39, '.'), {{".", "é"}}) + "…\"");
}

}  // namespace
}  // namespace backprop::base
