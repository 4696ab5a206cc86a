// Calls with raw bytes: what a client that does not know the contract could send.
#ifndef BACKPROP_TESTS_FUZZ_CALL_H_
#define BACKPROP_TESTS_FUZZ_CALL_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "tests/fuzz/harness.h"

namespace backprop::fuzz {

using Method = const google::protobuf::MethodDescriptor*;

inline std::string PathOf(Method method) {
  return absl::StrCat("/", method->service()->full_name(), "/", method->name());
}

// All methods of these services, in the order of the contract.
inline std::vector<Method> MethodsOf(const std::vector<std::string>& services) {
  std::vector<Method> methods;
  for (const std::string& name : services) {
    const auto* const service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    BP_HOLDS(service != nullptr, name);
    for (int i = 0; i < service->method_count(); ++i) methods.push_back(service->method(i));
  }
  return methods;
}

inline grpc::ByteBuffer BufferOf(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

inline std::string BytesOf(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) return "";
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

// A call must not end with these codes, whatever was sent: they would say that the server has
// failed.
inline bool IsFailureOfServer(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return true;
    default:
      return false;
  }
}

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_CALL_H_
