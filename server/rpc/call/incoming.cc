#include "server/rpc/call/incoming.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

#if __has_include(<google/protobuf/stubs/logging.h>)
#include <google/protobuf/stubs/logging.h>
#define BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
#endif

namespace backprop::rpc {
namespace {

// Set while this thread parses a request: receives the name of a string field that is not UTF-8.
thread_local std::string* not_utf8 = nullptr;

#ifdef BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
google::protobuf::LogHandler* other_messages = nullptr;

void OnProtobufMessage(google::protobuf::LogLevel level, const char* file, int line,
                       const std::string& message) {
  if (not_utf8 == nullptr) {
    if (other_messages != nullptr) other_messages(level, file, line, message);
    return;
  }
  // "String field 'backprop.v1.StepRequest.model' contains invalid UTF-8 data when …"
  const size_t begin = message.find('\'');
  const size_t end = message.find('\'', begin + 1);
  if (end != std::string::npos) *not_utf8 = message.substr(begin + 1, end - begin - 1);
}
#endif

absl::Status Malformed(const google::protobuf::Message& message, absl::string_view why) {
  const std::string& type = message.GetDescriptor()->full_name();
  return base::ReasonError(absl::StatusCode::kInvalidArgument,
                           absl::StrCat("the message could not be parsed as ", type, ": ", why),
                           {"MALFORMED_REQUEST", {{"type", type}}});
}

}  // namespace

void CaptureParseErrors() {
#ifdef BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
  other_messages = google::protobuf::SetLogHandler(OnProtobufMessage);
#endif
}

absl::Status CountInFlight(session::Project* project, int64_t bytes,
                           session::Project::Claim* in_flight) {
  if (project == nullptr) return absl::OkStatus();
  auto claim = project->Ask(session::Resource::kBytesInFlight, bytes);
  if (!claim.ok()) return claim.status();
  *in_flight = *std::move(claim);
  return absl::OkStatus();
}

absl::Status AboutMessage(int64_t number, const absl::Status& error) {
  if (error.ok()) return error;
  absl::Status about(error.code(),
                     absl::StrCat("message ", number, " of the stream: ", error.message()));
  error.ForEachPayload([&about](absl::string_view type, const absl::Cord& payload) {
    about.SetPayload(type, payload);
  });
  return about;
}

absl::Status ParseMessage(grpc::ByteBuffer* bytes, google::protobuf::Message* message) {
  if (!bytes->Valid()) return Malformed(*message, "the call contains no message");
  const size_t size = bytes->Length();
  bool parsed = false;
  std::string field;
  not_utf8 = &field;
  {
    grpc::ProtoBufferReader reader(bytes);
    parsed = reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
  }
  not_utf8 = nullptr;
  bytes->Clear();
  if (parsed) return absl::OkStatus();
  if (!field.empty()) return Malformed(*message, absl::StrCat(field, " is not valid UTF-8"));
  return Malformed(*message,
                   absl::StrCat("its ", size, " bytes are not a valid protobuf encoding"));
}

}  // namespace backprop::rpc
