// What --json prints. Results go to standard output and errors to standard error, so that standard
// output holds nothing but results.
#ifndef BACKPROP_CLIENT_CLI_JSON_OUTPUT_H_
#define BACKPROP_CLIENT_CLI_JSON_OUTPUT_H_

#include <memory>
#include <string>
#include <string_view>

#include "backprop/status.h"

namespace google::protobuf {
class Message;
}

namespace backprop::cli {

// One message as one line of JSON, in the contract's JSON names. Tensors have their elements in
// `values`, as numbers; fields with their default value are left out.
std::string JsonLine(const google::protobuf::Message& message);

// A string in quotes. Bytes that are not UTF-8 become U+FFFD.
std::string JsonString(std::string_view text);

// {"error":{"code":"NOT_FOUND","message":…,"reason":…,"metadata":{…},"fieldViolations":[…]}}; what
// is empty is left out. `hint`: what a person could do.
std::string JsonError(const Status& status, const std::string& hint);

// Joins the replies of one command to one document: pages of a list become one list.
class JsonDocument {
 public:
  JsonDocument();
  ~JsonDocument();
  void Take(const google::protobuf::Message& reply);
  void Clear();
  // The document, or "" without replies.
  std::string ToString() const;

 private:
  std::unique_ptr<google::protobuf::Message> joined_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_JSON_OUTPUT_H_
