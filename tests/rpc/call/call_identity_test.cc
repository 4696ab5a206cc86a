#include "server/rpc/call/call_identity.h"

#include <grpcpp/server_context.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace backprop::rpc {
namespace {

TEST(CallIdentityTest, WhatIsARequestId) {
  EXPECT_TRUE(IsRequestId("a"));
  EXPECT_TRUE(IsRequestId("2f1c-!~/{}\"\\"));
  EXPECT_TRUE(IsRequestId(std::string(128, 'x')));
  for (const std::string& text :
       {std::string(), std::string(129, 'x'), std::string("a b"), std::string("a\tb"),
        std::string("a\nb"), std::string("a\x7f"), std::string("\x1b[31m"), std::string("é"),
        std::string("a\0b", 3), std::string("\xff")}) {
    EXPECT_FALSE(IsRequestId(text)) << text;
  }
}

TEST(CallIdentityTest, WhatIsATraceparent) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string parent = "00f067aa0ba902b7";
  const std::string good = absl::StrCat("00-", trace, "-", parent, "-01");
  EXPECT_EQ(TraceparentIn(good), good);
  const std::string later = absl::StrCat("cc-", trace, "-", parent, "-03");
  EXPECT_EQ(TraceparentIn(later), later);
  EXPECT_EQ(TraceparentIn(later + "-what-the-future-will-be"), later);
  const std::string zeros(32, '0');
  for (const std::string& text : {
           std::string(),
           good + "-more",                                               // version 00 has no more
           good + "1",                                                   // not a later field
           later + "1",                                                  //
           good.substr(0, 54),                                           // too short
           absl::StrCat("ff-", trace, "-", parent, "-01"),               // no such version
           absl::StrCat("00-", zeros, "-", parent, "-01"),               // no trace
           absl::StrCat("00-", trace, "-", zeros.substr(0, 16), "-01"),  // no parent
           absl::StrCat("00-", "4BF92F3577B34DA6A3CE929D0E0E4736-", parent, "-01"),
           absl::StrCat("00-", trace, "-", parent, "-0g"),
           absl::StrCat("00-", trace, "_", parent, "-01"),
           absl::StrCat("0\n-", trace, "-", parent, "-01"),
       }) {
    EXPECT_EQ(TraceparentIn(text), "") << text;
  }
}

TEST(CallIdentityTest, ACallWithoutARequestIdGetsANewOne) {
  grpc::CallbackServerContext call;
  const CallIdentity one = IdentityOf(call), other = IdentityOf(call);
  EXPECT_TRUE(IsRequestId(one.request_id));
  EXPECT_EQ(one.request_id.size(), 32U);
  EXPECT_NE(one.request_id, other.request_id);
  EXPECT_EQ(one.traceparent, "");
}

}  // namespace
}  // namespace backprop::rpc
