// Output of --json. Results are printed to standard output and errors to standard error, so that
// standard output contains only results.
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

// Returns a message as one line of JSON with the API's JSON names. Tensors have their elements in
// `values`, as numbers; fields with default values are omitted.
std::string JsonLine(const google::protobuf::Message& message);

// Returns a quoted JSON string. Invalid UTF-8 becomes U+FFFD.
std::string JsonString(std::string_view text);

// Returns
// {"error":{"code":"NOT_FOUND","message":…,"reason":…,"metadata":{…},"fieldViolations":[…]}}
// without empty members. `hint` is advice for the user.
std::string JsonError(const Status& status, const std::string& hint);

// Merges the replies of one command into one document: the pages of a list become one list.
class JsonDocument {
 public:
  JsonDocument();
  ~JsonDocument();
  void Take(const google::protobuf::Message& reply);
  void Clear();
  // Returns the document, or "" without replies.
  std::string ToString() const;

 private:
  std::unique_ptr<google::protobuf::Message> joined_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_JSON_OUTPUT_H_
