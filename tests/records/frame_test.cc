#include "server/records/frame.h"

#include <gtest/gtest.h>

#include <string>

#include "server/base/status.h"
#include "server/records/records.pb.h"

namespace backprop::records {
namespace {

v1::RequestKey Key() {
  v1::RequestKey key;
  key.set_id("r1");
  key.set_fingerprint(7);
  return key;
}

TEST(FrameTest, AMessageIsDecodedAsItWasEncoded) {
  const std::string value = Seal(Key());
  EXPECT_EQ(value[0], 1) << "the version of the frame";
  EXPECT_EQ(value.size(), 9 + Key().ByteSizeLong());
  v1::RequestKey read;
  ASSERT_TRUE(Open(value, "models/m", &read).ok());
  EXPECT_EQ(read.SerializeAsString(), Key().SerializeAsString());
}

TEST(FrameTest, DamageIsReportedWithTheNameOfTheRecord) {
  const std::string value = Seal(Key());
  v1::RequestKey read;
  for (size_t at = 0; at < value.size(); ++at) {
    std::string flipped = value;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    const absl::Status damaged = Open(flipped, "models/m", &read);
    EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss) << at;
    const auto reason = base::ReasonOf(damaged);
    ASSERT_TRUE(reason.has_value()) << at;
    EXPECT_EQ(reason->reason, "RECORD_DAMAGED");
    EXPECT_EQ(reason->metadata.at("record"), "models/m");
    EXPECT_FALSE(Open(value.substr(0, at), "models/m", &read).ok()) << at;
  }
}

}  // namespace
}  // namespace backprop::records
