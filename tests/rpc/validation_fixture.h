// Rules about requests, checked against a real server. A rejected request changes nothing.
#ifndef BACKPROP_TESTS_RPC_VALIDATION_FIXTURE_H_
#define BACKPROP_TESTS_RPC_VALIDATION_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/base/limits.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {

using grpc::StatusCode;

// The expected result of a request written in JSON.
struct Rule {
  std::string json;
  StatusCode code;
  std::string message;  // the complete error; empty for a request that must pass
};

inline base::Limits SmallLimits() {
  base::Limits limits;
  limits.max_parameters = 1000;
  limits.max_layers = 4;
  limits.max_rows = 8;
  limits.max_workspace_bytes = 1 << 20;
  limits.max_message_bytes = 1 << 20;
  return limits;
}

class ValidationTest : public ServiceTest {
 protected:
  ValidationTest() {
    server = std::make_unique<TestServer>(SmallLimits());
    CreateModel("xor", kXorSpec);
    CreateModel("named",
                R"({"inputSize":2,"layers":[{"units":3}],"classNames":["cat","dog","owl"],
                    "featureNames":["width","height"]})");
    CreateModel("binary",
                R"({"inputSize":2,"layers":[{"units":1}],"loss":{"binaryCrossEntropy":{}}})");
    CreateModel("multi",
                R"({"inputSize":2,"layers":[{"units":3}],"loss":{"binaryCrossEntropy":{}}})");
    CreateModel("line", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}}})");
    CreateModel("double", R"({"inputSize":1,"layers":[{"units":1}],"dataType":"DATA_TYPE_FLOAT64",
                              "loss":{"meanSquaredError":{}}})");
  }

  template <class Request, class Response>
  void Check(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
             const std::vector<Rule>& rules) {
    const std::string before = Everything();
    for (const Rule& rule : rules) {
      SCOPED_TRACE(rule.json);
      Response response;
      const grpc::Status status = Call(method, Json<Request>(rule.json), &response);
      ExpectAsRuled(status, rule);
    }
    if (!changes_) EXPECT_EQ(Everything(), before);
  }

  static void ExpectAsRuled(const grpc::Status& status, const Rule& rule) {
    EXPECT_EQ(status.error_code(), rule.code) << status.error_message();
    EXPECT_EQ(status.error_message(), rule.message);
    if (rule.code == StatusCode::INVALID_ARGUMENT) {
      ASSERT_FALSE(Violations(status).empty());
      for (const auto& violation : Violations(status)) {
        EXPECT_NE(rule.message.find(violation.field() + ": " + violation.description()),
                  std::string::npos);
      }
    }
    if (rule.code == StatusCode::RESOURCE_EXHAUSTED)
      EXPECT_EQ(Info(status).reason(), "LIMIT_EXCEEDED");
  }

  // The parameters of every model.
  std::string Everything() {
    std::string all;
    for (const char* id : {"xor", "named", "binary", "multi", "line", "double"})
      all += ParametersOf(id);
    return all;
  }

  bool changes_ = false;  // whether rules that pass change a model
};

inline std::string StepOn(const std::string& model, const std::string& batch) {
  return R"({"model":"models/)" + model + R"(","batch":)" + batch + "}";
}

inline std::string Spec(const std::string& fields) { return R"({"spec":{)" + fields + "}}"; }

}  // namespace backprop::rpc

#endif  // BACKPROP_TESTS_RPC_VALIDATION_FIXTURE_H_
