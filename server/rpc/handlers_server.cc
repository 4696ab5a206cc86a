// GetServerStatus.
#include "server/rpc/handlers_server.h"

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/codec/reply_size.h"
#include "server/rpc/introspection.h"

namespace backprop::rpc {
namespace {

void EncodeTime(absl::Time time, google::protobuf::Timestamp* message) {
  const timespec since_1970 = absl::ToTimespec(time);
  message->set_seconds(since_1970.tv_sec);
  message->set_nanos(static_cast<int32_t>(since_1970.tv_nsec));
}

void EncodeBasic(const Introspection& server, v1::ServerStatus* status) {
  status->set_version(server.version);
  status->set_commit(server.commit);
  status->set_instruction_set(server.instruction_set);
  EncodeTime(server.start_time, status->mutable_start_time());
  EncodeTime(absl::Now(), status->mutable_status_time());
  for (const Health& health : server.health()) {
    v1::ServiceHealth* const message = status->add_health();
    message->set_service(health.service);
    message->set_serving(health.serving);
    message->set_reason(health.reason);
  }
  status->set_metrics(server.metrics());
}

void EncodeRest(const Introspection& server, v1::ServerStatus* status) {
  for (const ShownFlag& flag : server.flags) {
    v1::ServerFlag* const message = status->add_flags();
    message->set_name(flag.name);
    message->set_value(flag.value);
    message->set_given(flag.given);
  }
  for (std::string& line : server.log_lines()) status->add_log_lines(std::move(line));
}

}  // namespace

void HandleGetServerStatus(Context* context, UnaryCall* call,
                           const v1::GetServerStatusRequest& request,
                           v1::GetServerStatusResponse* response) {
  if (!v1::ServerStatusView_IsValid(request.view())) {
    return call->Done(base::FieldError(
        "view", absl::StrCat("must be BASIC or FULL, got ", static_cast<int>(request.view()))));
  }
  const Introspection* const server = context->introspection.load();
  if (server == nullptr) {
    return call->Done(absl::UnavailableError("the server starts or does not report its status"));
  }
  v1::ServerStatus* const status = response->mutable_status();
  EncodeBasic(*server, status);
  if (request.view() == v1::SERVER_STATUS_VIEW_FULL) EncodeRest(*server, status);
  call->Done(codec::CheckReplyBytes("view", static_cast<int64_t>(response->ByteSizeLong()),
                                    context->limits(), "raise --max-message-bytes"));
}

}  // namespace backprop::rpc
