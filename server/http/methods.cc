#include "server/http/methods.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpc/support/log.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/json.h"

namespace backprop::http {
namespace {

Method MethodOf(const google::protobuf::MethodDescriptor& descriptor) {
  Method method;
  method.path =
      absl::StrCat("/", descriptor.service()->full_name(), "/", std::string(descriptor.name()));
  method.request_type = TypeUrl(descriptor.input_type()->full_name());
  method.response_type = TypeUrl(descriptor.output_type()->full_name());
  method.client_streams = descriptor.client_streaming();
  method.server_streams = descriptor.server_streaming();
  method.may_get = descriptor.options().idempotency_level() ==
                       google::protobuf::MethodOptions::NO_SIDE_EFFECTS &&
                   !method.streams();
  return method;
}

}  // namespace

Methods::Methods(const std::vector<std::string>& services) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const std::string& name : services) {
    const auto* service = pool->FindServiceByName(name);
    GPR_ASSERT(service != nullptr);
    for (int i = 0; i < service->method_count(); ++i) {
      Method method = MethodOf(*service->method(i));
      std::string path = method.path;
      methods_.emplace(std::move(path), std::move(method));
    }
  }
}

const Method* Methods::Find(absl::string_view path) const {
  const auto found = methods_.find(std::string(path));
  return found == methods_.end() ? nullptr : &found->second;
}

}  // namespace backprop::http
