// A request as it arrives: bytes that are not parsed yet.
#ifndef BACKPROP_SERVER_RPC_CALL_INCOMING_H_
#define BACKPROP_SERVER_RPC_CALL_INCOMING_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstdint>

#include "absl/status/status.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// Parses `bytes` into `message` and frees them. INVALID_ARGUMENT (MALFORMED_REQUEST) with the
// reason if they cannot be parsed; `message` is then unspecified.
absl::Status ParseMessage(grpc::ByteBuffer* bytes, google::protobuf::Message* message);

// Counts a message of `bytes` bytes for `project`, which may be null, before it is parsed.
// RESOURCE_EXHAUSTED (QUOTA_EXCEEDED), with the time after which to try again.
absl::Status CountInFlight(session::Project* project, int64_t bytes,
                           session::Project::Claim* in_flight);

// Adds to `error` that it is about message `number` of a stream, counted from 1. OK stays OK.
absl::Status AboutMessage(int64_t number, const absl::Status& error);

// Makes ParseMessage report strings that are not UTF-8 in its errors, instead of protobuf in its
// log. Other log messages of protobuf are passed to the previous log handler. Call once, after
// SetLibraryLog and before the first server is started.
void CaptureParseErrors();

// The request type that gRPC sees for a method whose request is a Message. The handler parses the
// request itself, on the same thread, and can reject a call before it parses. With gRPC's own
// parsing, a request that cannot be parsed gets UNIMPLEMENTED without a message, and a stream ends
// as if the caller had sent no more messages. Thread-compatible, including the const methods.
template <class Message>
class Incoming {
 public:
  // Parses the latest message. Call once for each message. Const because gRPC passes requests as
  // const.
  absl::Status Parse() const { return ParseMessage(&bytes_, &message_); }
  // Valid after Parse() until the next message is read.
  const Message& message() const { return message_; }

  // Size of the latest message. Call before Parse().
  int64_t size_bytes() const { return static_cast<int64_t>(bytes_.Length()); }

  // For gRPC: takes the bytes of the next message.
  void Take(grpc::ByteBuffer* bytes) { bytes_.Swap(bytes); }

 private:
  mutable grpc::ByteBuffer bytes_;
  mutable Message message_;
};

}  // namespace backprop::rpc

namespace grpc {

template <class Message>
class SerializationTraits<backprop::rpc::Incoming<Message>, void> {
 public:
  static Status Deserialize(ByteBuffer* bytes, backprop::rpc::Incoming<Message>* incoming) {
    incoming->Take(bytes);
    return Status::OK;
  }
};

}  // namespace grpc

#endif  // BACKPROP_SERVER_RPC_CALL_INCOMING_H_
