// The RPCs that can be called over HTTP, from the descriptors of the generated code.
#ifndef BACKPROP_SERVER_HTTP_METHODS_H_
#define BACKPROP_SERVER_HTTP_METHODS_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"

namespace backprop::http {

struct Method {
  std::string path;           // "/backprop.v1.TrainingService/Step"
  std::string request_type;   // the URL of the type, for json.h
  std::string response_type;  // the same
  bool client_streams = false;
  bool server_streams = false;
  bool may_get = false;  // has no side effects, so that it can be called by GET

  bool streams() const { return client_streams || server_streams; }
};

// Immutable, and so thread-safe.
class Methods {
 public:
  // All methods of `services`, such as "backprop.v1.TrainingService", whose generated code must be
  // in this process.
  explicit Methods(const std::vector<std::string>& services);

  // Null if there is none with this path.
  const Method* Find(absl::string_view path) const;

 private:
  std::unordered_map<std::string, Method> methods_;
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_METHODS_H_
