#include "server/rpc/call/status.h"

#include <string>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "server/base/status.h"
#include "server/base/text.h"

namespace backprop::rpc {

google::rpc::Status ToMessage(const absl::Status& status) {
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  // Our own errors fit already. Errors of libraries may not.
  details.set_message(base::FitHeader(status.message(), base::kMaxErrorBytes));
  const auto violations = base::FieldViolationsOf(status);
  if (!violations.empty()) {
    google::rpc::BadRequest bad_request;
    for (const auto& violation : violations) {
      auto* field = bad_request.add_field_violations();
      field->set_field(violation.field);
      field->set_description(violation.description);
    }
    details.add_details()->PackFrom(bad_request);
  }
  if (const auto reason = base::ReasonOf(status)) {
    google::rpc::ErrorInfo info;
    info.set_reason(reason->reason);
    info.set_domain("backprop.v1");
    for (const auto& [key, value] : reason->metadata) (*info.mutable_metadata())[key] = value;
    details.add_details()->PackFrom(info);
    if (reason->retry_after.has_value()) {
      google::rpc::RetryInfo retry;
      const int64_t nanoseconds = absl::ToInt64Nanoseconds(*reason->retry_after);
      retry.mutable_retry_delay()->set_seconds(nanoseconds / 1'000'000'000);
      retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
      details.add_details()->PackFrom(retry);
    }
  }
  return details;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status details = ToMessage(status);
  const auto code = static_cast<grpc::StatusCode>(status.code());
  if (details.details().empty()) return grpc::Status(code, details.message());
  return grpc::Status(code, details.message(), details.SerializeAsString());
}

grpc::Status ToGrpc(const absl::Status& status, const CallIdentity& identity) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details = ToMessage(status);
  google::rpc::RequestInfo info;
  info.set_request_id(identity.request_id);
  info.set_serving_data(identity.traceparent);
  details.add_details()->PackFrom(info);
  const auto code = static_cast<grpc::StatusCode>(status.code());
  return grpc::Status(code, details.message(), details.SerializeAsString());
}

}  // namespace backprop::rpc
