// The status of the server.
#include "backprop/client.h"
#include "client/backprop/calls.h"
#include "client/backprop/convert.h"

namespace backprop {
namespace {

ServerStatus FromStatus(const v1::ServerStatus& message) {
  ServerStatus status;
  status.version = message.version();
  status.commit = message.commit();
  status.instruction_set = message.instruction_set();
  status.start_time = FromMessage(message.start_time());
  status.status_time = FromMessage(message.status_time());
  for (const v1::ServiceHealth& health : message.health()) {
    status.health.push_back({health.service(), health.serving(), health.reason()});
  }
  status.metrics = message.metrics();
  for (const v1::ServerFlag& flag : message.flags()) {
    status.flags.push_back({flag.name(), flag.value(), flag.given()});
  }
  status.log_lines.assign(message.log_lines().begin(), message.log_lines().end());
  return status;
}

}  // namespace

Result<ServerStatus> Client::GetServerStatus(StatusView view, const CallOptions& call) {
  v1::GetServerStatusRequest request;
  request.set_view(view == StatusView::kFull ? v1::SERVER_STATUS_VIEW_FULL
                                             : v1::SERVER_STATUS_VIEW_BASIC);
  v1::GetServerStatusResponse response;
  Status status = impl_->Call(impl_->admin.get(), &v1::AdminService::Stub::GetServerStatus, request,
                              call, &response);
  if (!status.ok()) return status;
  return FromStatus(response.status());
}

}  // namespace backprop
