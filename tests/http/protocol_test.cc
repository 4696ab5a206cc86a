#include "server/http/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

namespace backprop::http {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const Methods& TestMethods() {
  static const Methods methods({"backprop.v1.TrainingService", "grpc.health.v1.Health"});
  return methods;
}

constexpr char kPredict[] = "/backprop.v1.TrainingService/Predict";
constexpr char kStep[] = "/backprop.v1.TrainingService/Step";
constexpr char kTrain[] = "/backprop.v1.TrainingService/Train";

std::variant<CallHead, Refusal> Read(const std::string& method, const std::string& path,
                                     const Metadata& headers, const std::string& query = "") {
  return ReadCallHead({method, path, query, headers}, TestMethods().Find(path));
}
CallHead Call(const std::string& method, const std::string& path, const Metadata& headers,
              const std::string& query = "") {
  auto read = Read(method, path, headers, query);
  if (const auto* refusal = std::get_if<Refusal>(&read)) {
    ADD_FAILURE() << refusal->status.error_message();
    return {};
  }
  return std::get<CallHead>(std::move(read));
}

TEST(MethodsTest, SayWhatTheDescriptorsSay) {
  const Method* const train = TestMethods().Find(kTrain);
  ASSERT_NE(train, nullptr);
  EXPECT_TRUE(train->server_streams);
  EXPECT_FALSE(train->client_streams || train->may_get);
  EXPECT_EQ(train->request_type, "type.googleapis.com/backprop.v1.TrainRequest");
  EXPECT_TRUE(TestMethods().Find(kPredict)->may_get);
  EXPECT_FALSE(TestMethods().Find(kStep)->may_get);
  for (const char* unknown :
       {"", "/", "/backprop.v1.TrainingService/", "/Step", "backprop.v1.TrainingService/Step",
        "/backprop.v1.trainingservice/Step"}) {
    EXPECT_EQ(TestMethods().Find(unknown), nullptr) << unknown;
  }
}

TEST(ProtocolTest, TheContentTypeNamesProtocolAndCodec) {
  const struct {
    const char* path;
    const char* type;
    Protocol protocol;
    Codec codec;
    bool is_base64;
    const char* answer;
  } cases[] = {
      {kStep, "application/json", Protocol::kConnectUnary, Codec::kJson, false, "application/json"},
      {kStep, "Application/JSON; charset=utf-8", Protocol::kConnectUnary, Codec::kJson, false,
       "application/json"},
      {kStep, "application/proto", Protocol::kConnectUnary, Codec::kBinary, false,
       "application/proto"},
      {kTrain, "application/connect+json", Protocol::kConnectStream, Codec::kJson, false,
       "application/connect+json"},
      {kTrain, "application/connect+proto", Protocol::kConnectStream, Codec::kBinary, false,
       "application/connect+proto"},
      {kStep, "application/grpc-web", Protocol::kGrpcWeb, Codec::kBinary, false,
       "application/grpc-web+proto"},
      {kTrain, "application/grpc-web+json", Protocol::kGrpcWeb, Codec::kJson, false,
       "application/grpc-web+json"},
      {kTrain, "application/grpc-web-text", Protocol::kGrpcWeb, Codec::kBinary, true,
       "application/grpc-web-text+proto"},
  };
  for (const auto& one : cases) {
    const CallHead call = Call("POST", one.path, {{"content-type", one.type}});
    EXPECT_EQ(call.format.protocol, one.protocol) << one.type;
    EXPECT_EQ(call.format.codec, one.codec) << one.type;
    EXPECT_EQ(call.format.is_base64, one.is_base64) << one.type;
    EXPECT_EQ(call.format.ContentType(), one.answer);
  }
}

TEST(ProtocolTest, WhatIsNoCallIsRefused) {
  const Metadata json = {{"content-type", "application/json"}};
  const auto with = [&](const char* name, const char* value) {
    Metadata headers = json;
    headers.emplace_back(name, value);
    return headers;
  };
  const struct {
    const char* method;
    const char* path;
    Metadata headers;
    const char* query;
    int http_status;
    const char* message;
  } cases[] = {
      {"POST", "/nothing", json, "", 404, "there is no method \"/nothing\""},
      {"GET", kStep, json, "encoding=json&message={}", 405, "expected POST"},
      {"PUT", kPredict, json, "", 405, "expected POST or GET"},
      {"POST", kStep, {}, "", 415, "application/json"},
      {"POST", kStep, {{"content-type", "text/plain"}}, "", 415, "got \"text/plain\""},
      {"POST", kStep, {{"content-type", "application/connect+json"}}, "", 415, "application/json"},
      {"POST", kTrain, json, "", 415, "application/connect+json"},
      {"POST", kStep, with("connect-protocol-version", "2"), "", 400, "expected 1"},
      {"POST", kStep, with("content-encoding", "br"), "", 501, "supported are gzip, identity"},
      {"POST", kStep, with("connect-timeout-ms", "1s"), "", 400, "at most 10 digits"},
      {"POST", kStep, with("connect-timeout-ms", "-1"), "", 400, "at most 10 digits"},
      {"POST", kStep, with("connect-timeout-ms", "12345678901"), "", 400, "at most 10 digits"},
      {"POST", kStep, with("connect-timeout-ms", ""), "", 400, "at most 10 digits"},
      {"POST", kStep, with("x", "\x7f"), "", 400, "x: expected printable ASCII"},
      {"POST", kStep, with("x-bin", "*"), "", 400, "x-bin: expected base64"},
      {"GET", kPredict, {}, "", 400, "`encoding`"},
      {"GET", kPredict, {}, "encoding=json", 400, "`message`"},
      {"GET", kPredict, {}, "encoding=xml&message=", 415, "expected json or proto"},
      {"GET", kPredict, {}, "encoding=json&message={}&connect=v2", 400, "expected v1"},
      {"GET", kPredict, {}, "encoding=json&message=*&base64=1", 400, "expected base64"},
      {"GET", kPredict, {}, "encoding=json&message=%4", 400, "hexadecimal"},
      {"GET", kPredict, {}, "encoding=json&message={}&compression=br", 501, "gzip"},
  };
  for (const auto& one : cases) {
    const auto read = Read(one.method, one.path, one.headers, one.query);
    const auto* refusal = std::get_if<Refusal>(&read);
    ASSERT_NE(refusal, nullptr) << one.message;
    EXPECT_EQ(refusal->http_status, one.http_status) << one.message;
    EXPECT_THAT(refusal->status.error_message(), HasSubstr(one.message));
    EXPECT_FALSE(refusal->status.ok());
  }
}

TEST(ProtocolTest, AGetHasItsMessageInTheQuery) {
  EXPECT_EQ(
      *Call("GET", kPredict, {}, "connect=v1&encoding=json&message=%7B%22a%22%3a+1%7D").message,
      "{\"a\": 1}");
  EXPECT_EQ(*Call("GET", kPredict, {}, "message=&encoding=proto").message, "");
  for (const char* text : {"_-8", "/+8=", "_-8%3D"}) {
    const std::string query = std::string("base64=1&encoding=proto&message=") + text;
    EXPECT_EQ(*Call("GET", kPredict, {},
                    text[1] == '+' ? "base64=1&encoding=proto&message=/%2b8=" : query)
                   .message,
              "\xff\xef")
        << text;
  }
  EXPECT_TRUE(
      Call("GET", kPredict, {}, "message=x&encoding=json&compression=gzip").format.gzip_request);
}

TEST(ProtocolTest, Timeouts) {
  const auto connect = [](const char* text) {
    return Call("POST", kStep, {{"content-type", "application/json"}, {"connect-timeout-ms", text}})
        .timeout;
  };
  EXPECT_EQ(connect("0"), absl::ZeroDuration());
  EXPECT_EQ(connect("9999999999"), absl::Milliseconds(9999999999));
  const auto grpc_web = [](const char* text) {
    return Read("POST", kStep, {{"content-type", "application/grpc-web"}, {"grpc-timeout", text}});
  };
  const struct {
    const char* text;
    absl::Duration timeout;
  } cases[] = {{"2H", absl::Hours(2)},
               {"3M", absl::Minutes(3)},
               {"99999999S", absl::Seconds(99999999)},
               {"5m", absl::Milliseconds(5)},
               {"6u", absl::Microseconds(6)},
               {"7n", absl::Nanoseconds(7)}};
  for (const auto& one : cases) {
    EXPECT_EQ(std::get<CallHead>(grpc_web(one.text)).timeout, one.timeout) << one.text;
  }
  for (const char* wrong : {"", "S", "5", "5s", "-5S", "999999999S", "5 S"}) {
    EXPECT_TRUE(std::holds_alternative<Refusal>(grpc_web(wrong))) << wrong;
  }
}

// In particular, no header of a request can take the place of what the server says of the peer.
TEST(ProtocolTest, OnlyHeadersOfTheCallerBecomeMetadata) {
  const CallHead call = Call("POST", kStep,
                             {{"content-type", "application/json"},
                              {"host", "x"},
                              {"user-agent", "x"},
                              {"cookie", "x"},
                              {"connection", "x"},
                              {"te", "trailers"},
                              {"grpc-timeout", "1S"},
                              {"grpc-tags-bin", "AA"},
                              {"connect-timeout-ms", "1"},
                              {"sec-fetch-mode", "x"},
                              {"bp-forwarded-peer-bin", "AA"},
                              {"x!", "x"},
                              {"authorization", "Bearer x"},
                              {"a-bin", "/+8, AA=="},
                              {"a", "1"},
                              {"a", "2"}});
  EXPECT_THAT(call.metadata,
              ElementsAre(Pair("authorization", "Bearer x"), Pair("a-bin", "\xff\xef"),
                          Pair("a-bin", std::string(1, '\0')), Pair("a", "1"), Pair("a", "2")));
}

TEST(ProtocolTest, CompressionIsNegotiated) {
  const auto format = [](const char* type, const char* path, Metadata headers) {
    headers.emplace_back("content-type", type);
    return Call("POST", path, headers).format;
  };
  EXPECT_FALSE(format("application/json", kStep, {}).gzip_response);
  EXPECT_TRUE(
      format("application/json", kStep, {{"accept-encoding", "br, gzip;q=0.5"}}).gzip_response);
  EXPECT_FALSE(
      format("application/json", kStep, {{"accept-encoding", "gzip;q=0, br"}}).gzip_response);
  EXPECT_TRUE(format("application/json", kStep, {{"content-encoding", "gzip"}}).gzip_request);
  EXPECT_TRUE(format("application/json", kStep, {{"content-encoding", "gzip"}}).gzip_response);
  EXPECT_FALSE(
      format("application/connect+json", kTrain, {{"accept-encoding", "gzip"}}).gzip_response);
  EXPECT_TRUE(format("application/connect+json", kTrain, {{"connect-accept-encoding", "gzip"}})
                  .gzip_response);
  EXPECT_TRUE(
      format("application/grpc-web", kTrain, {{"grpc-accept-encoding", "gzip"}}).gzip_response);
}

TEST(ErrorsTest, DetailsAreInAllForms) {
  const grpc::Status status = ToGrpc(absl::NotFoundError("caf\xc3\xa9 \"x\"\n"));
  EXPECT_EQ(HttpStatus(status.error_code()), 404);
  EXPECT_EQ(ConnectError(status),
            "{\"code\":\"not_found\",\"message\":\"caf\xc3\xa9 \\\"x\\\"\\u000a\"}");
  EXPECT_EQ(ConnectEndOfStream(grpc::Status::OK, {}), "{}");
  EXPECT_EQ(
      ConnectEndOfStream(status, {{"a", "1"}, {"a", "2"}, {"b", "3"}}),
      "{\"error\":" + ConnectError(status) + ",\"metadata\":{\"a\":[\"1\",\"2\"],\"b\":[\"3\"]}}");
  EXPECT_EQ(GrpcWebTrailers(status, {{"a", "1"}}),
            "grpc-status: 5\r\ngrpc-message: caf%C3%A9 \"x\"%0A\r\na: 1\r\n");
}

}  // namespace
}  // namespace backprop::http
