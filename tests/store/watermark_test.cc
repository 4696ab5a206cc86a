#include "server/store/watermark.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/temporary_directory.h"

namespace backprop::store {
namespace {

class WatermarkTest : public testing::Test {
 protected:
  uint64_t Value() { return Watermark::Open(path)->value(); }
  void Overwrite(std::streamoff at, char byte) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.put(byte);
  }

  TemporaryDirectory directory;
  const std::string path = directory.path() + "/mark";
};

TEST_F(WatermarkTest, StartsAtZeroAndKeepsTheLastRaisedValue) {
  EXPECT_EQ(Value(), 0u);
  {
    auto mark = Watermark::Open(path);
    ASSERT_TRUE(mark.ok());
    for (uint64_t value = 1; value <= 5; ++value) mark->Raise(value);
  }
  EXPECT_EQ(Value(), 5u);
}

TEST_F(WatermarkTest, ATornWriteLeavesThePreviousValue) {
  Watermark::Open(path)->Raise(1);
  Watermark::Open(path)->Raise(2);  // in the first slot
  Overwrite(8, 'x');                // a byte of its checksum
  EXPECT_EQ(Value(), 1u);
}

TEST_F(WatermarkTest, AMissingDirectoryIsAnError) {
  EXPECT_FALSE(Watermark::Open(directory.path() + "/none/mark").ok());
}

}  // namespace
}  // namespace backprop::store
