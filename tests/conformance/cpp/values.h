// JSON of the conformance protocol and the types of the client.
#ifndef BACKPROP_TESTS_CONFORMANCE_CPP_VALUES_H_
#define BACKPROP_TESTS_CONFORMANCE_CPP_VALUES_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backprop/client.h"

namespace backprop::conformance {

using Json = nlohmann::json;

// An operation that failed.
struct Failure {
  Status status;
};
[[noreturn]] void FailInvalid(const std::string& message);

// The value of a result, which must be OK.
template <class T>
T Value(Result<T> result) {
  if (!result.ok()) throw Failure{result.status()};
  return std::move(result).value();
}
inline void Check(const Status& status) {
  if (!status.ok()) throw Failure{status};
}

Json ErrorOf(const Status& status);

// {"shape", "dtype", "base64" or "file"}. A shape of one dimension is a row. The bytes are not
// checked against the shape: that is the client's task.
Tensor TensorOf(const Json& array);
// Written to a file if `file` is not empty. `is_vector`: one dimension.
Json ArrayOf(const Tensor& tensor, const std::string& file, bool is_vector = false);

std::vector<NamedTensor> TensorsOf(const Json& arrays);
Json ArraysOf(const std::vector<NamedTensor>& tensors, const std::string& file);

// "inputs" with "labels" or "targets".
Batch BatchOf(const Json& args);

// A ModelSpec in protobuf's JSON: the fields that scenarios use.
ModelSpec SpecOf(const Json& spec);
Json JsonOf(const ModelSpec& spec);

template <class T>
std::optional<T> Optional(const Json& args, const char* name) {
  if (!args.contains(name)) return std::nullopt;
  return args.at(name).get<T>();
}

inline std::string Text(const Json& args, const char* name) {
  return args.value(name, std::string());
}

}  // namespace backprop::conformance

#endif  // BACKPROP_TESTS_CONFORMANCE_CPP_VALUES_H_
