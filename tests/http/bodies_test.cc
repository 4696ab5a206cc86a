// What bodies are made of: envelopes, gzip, JSON, and the count of their memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "backprop/v1/training_service.pb.h"
#include "server/http/envelope.h"
#include "server/http/gzip.h"
#include "server/http/json.h"
#include "server/http/memory.h"

namespace backprop::http {
namespace {

using testing::HasSubstr;

// All messages of a body that arrives in pieces of a size.
std::string Messages(const std::string& body, size_t piece, bool is_base64) {
  EnvelopeReader reader(1000, is_base64);
  std::string all;
  for (size_t at = 0; at < body.size(); at += piece) {
    EXPECT_TRUE(reader.Add(body.substr(at, piece)).ok());
    for (;;) {
      const auto taken = reader.Take();
      EXPECT_TRUE(taken.ok()) << taken.status();
      if (!taken.ok() || !taken->has_value()) break;
      all += std::to_string((*taken)->flags) + (*taken)->message + ";";
    }
  }
  EXPECT_FALSE(reader.HasRest());
  return all;
}

TEST(EnvelopeTest, MessagesArriveInPiecesOfAnySize) {
  const std::string body =
      WriteEnvelope(0, "one") + WriteEnvelope(1, "") + WriteEnvelope(255, std::string(1000, 'x'));
  const std::string expected = "0one;1;255" + std::string(1000, 'x') + ";";
  // Clients of gRPC-Web encode each message, and pad it.
  const std::string padded = absl::Base64Escape(WriteEnvelope(0, "one")) +
                             absl::Base64Escape(WriteEnvelope(1, "")) +
                             absl::Base64Escape(WriteEnvelope(255, std::string(1000, 'x')));
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, body.size()}) {
    EXPECT_EQ(Messages(body, piece, false), expected) << piece;
    EXPECT_EQ(Messages(absl::Base64Escape(body), piece, true), expected) << piece;
    EXPECT_EQ(Messages(padded, piece, true), expected) << piece;
  }
}

TEST(EnvelopeTest, ALengthAboveTheLimitIsRefusedBeforeTheMessageArrives) {
  EnvelopeReader reader(1000, false);
  ASSERT_TRUE(reader.Add(std::string("\0\xff\xff\xff\xff", 5)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(reader.Take().status()));
  EnvelopeReader at_limit(3, false);
  ASSERT_TRUE(at_limit.Add(WriteEnvelope(0, "abc")).ok());
  EXPECT_TRUE(at_limit.Take()->has_value());
  ASSERT_TRUE(at_limit.Add(WriteEnvelope(0, "abcd")).ok());
  EXPECT_FALSE(at_limit.Take().ok());
}

TEST(EnvelopeTest, WhatWasTakenIsNotKept) {
  EnvelopeReader reader(1000, false);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(reader.Add(WriteEnvelope(0, std::string(500, 'x'))).ok());
    ASSERT_TRUE(reader.Add(std::string("\0\0\0", 3)).ok());
    ASSERT_TRUE(reader.Take()->has_value());
    ASSERT_TRUE(reader.Add(std::string("\0\0", 2)).ok());
    ASSERT_TRUE(reader.Take()->has_value());
    EXPECT_LE(reader.held_bytes(), 1100U);
  }
}

TEST(EnvelopeTest, UnfinishedAndWrongBodiesAreSeen) {
  EnvelopeReader unfinished(1000, false);
  ASSERT_TRUE(unfinished.Add(std::string("\0\0\0\0\5abcd", 9)).ok());
  EXPECT_FALSE(unfinished.Take()->has_value());
  EXPECT_TRUE(unfinished.HasRest());
  for (const char* wrong : {"****", "AA=A", "A A=", "=AAA"}) {
    EnvelopeReader reader(1000, true);
    EXPECT_FALSE(reader.Add(wrong).ok()) << wrong;
  }
  EnvelopeReader half(1000, true);
  ASSERT_TRUE(half.Add("AAA").ok());
  EXPECT_TRUE(half.HasRest());
}

TEST(GzipTest, RestoresWhatWasCompressed) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{65536}, size_t{1'000'000}}) {
    std::string bytes(size, 'a');
    for (size_t i = 0; i < size; i += 7) bytes[i] = static_cast<char>(i * i);
    const auto restored = Decompress(Compress(bytes), size);
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(*restored, bytes);
  }
}

TEST(GzipTest, IsBounded) {
  const std::string bomb = Compress(std::string(100'000'000, '\0'));
  ASSERT_LT(bomb.size(), 1'000'000U);
  EXPECT_TRUE(absl::IsResourceExhausted(Decompress(bomb, 99'999'999).status()));
  EXPECT_TRUE(Decompress(bomb, 100'000'000).ok());
}

TEST(GzipTest, WhatIsNoMemberIsRefused) {
  const std::string good = Compress("hello");
  EXPECT_EQ(*Decompress(good, 100), "hello");
  for (const std::string& wrong : {std::string(), std::string("hello"), good.substr(0, 15),
                                   good.substr(0, good.size() - 1), good + "x", good + good}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Decompress(wrong, 100).status())) << wrong.size();
  }
}

TEST(JsonTest, ConvertsBothWays) {
  const std::string type = TypeUrl("backprop.v1.StepRequest");
  const auto binary = BinaryFromJson(
      type, R"({"model":"models/x","expectedStep":"3","batch":{"inputs":{"values":[1,0.5]}}})");
  ASSERT_TRUE(binary.ok()) << binary.status();
  v1::StepRequest request;
  ASSERT_TRUE(request.ParseFromString(*binary));
  EXPECT_EQ(request.model(), "models/x");
  EXPECT_EQ(request.batch().inputs().values(1), 0.5);
  EXPECT_EQ(*JsonFromBinary(type, *binary),
            R"({"model":"models/x","batch":{"inputs":{"values":[1,0.5]}},"expectedStep":"3"})");
  // The names of the .proto file are accepted as well.
  EXPECT_EQ(*BinaryFromJson(type, R"({"expected_step":3})"),
            *BinaryFromJson(type, R"({"expectedStep":"3"})"));
}

TEST(JsonTest, NothingIsIgnored) {
  const std::string type = TypeUrl("backprop.v1.CreateModelRequest");
  for (const char* wrong :
       {"", "null", "[]", "{", "{}x", R"({"modelld":"x"})", R"({"spec":{"layers":[{"unit":1}]}})",
        R"({"spec":{"layers":[{"activation":"ACTIVATION_RELUU"}]}})", R"({"modelId":1.5e})",
        R"({"modelId":"x","modelId":{}})"}) {
    const auto binary = BinaryFromJson(type, wrong);
    EXPECT_TRUE(absl::IsInvalidArgument(binary.status())) << wrong;
  }
  EXPECT_THAT(std::string(BinaryFromJson(type, R"({"modelld":"x"})").status().message()),
              HasSubstr("modelld"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"spec\":";
  EXPECT_TRUE(absl::IsInvalidArgument(BinaryFromJson(type, deep).status()));
  EXPECT_FALSE(JsonFromBinary(type, "\xff\xff").ok());
}

TEST(MemoryTest, ClaimsShareALimit) {
  Memory memory(1'000'000);
  Memory::Claim first(&memory), second(&memory);
  EXPECT_TRUE(first.Resize(2'000'000));  // alone
  EXPECT_TRUE(second.Resize(1000));      // few bytes are not counted
  EXPECT_FALSE(second.Resize(100'000));
  EXPECT_TRUE(first.Resize(900'000));
  EXPECT_TRUE(second.Resize(100'000));
  EXPECT_EQ(memory.used(), 1'000'000);
  {
    Memory::Claim third(&memory);
    EXPECT_FALSE(third.Resize(70'000));
    EXPECT_TRUE(first.Resize(0));
    EXPECT_TRUE(third.Resize(70'000));
  }
  EXPECT_EQ(memory.used(), 100'000);
}

}  // namespace
}  // namespace backprop::http
