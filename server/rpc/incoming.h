// A request as it comes from the wire: bytes that nobody has looked at yet.
#ifndef BACKPROP_SERVER_RPC_INCOMING_H_
#define BACKPROP_SERVER_RPC_INCOMING_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstdint>

#include "absl/status/status.h"

namespace backprop::rpc {

// Parses `bytes`, which are freed, into `message`. INVALID_ARGUMENT (MALFORMED_REQUEST) that says
// what is wrong if they are no such message; `message` is then unspecified.
absl::Status ParseMessage(grpc::ByteBuffer* bytes, google::protobuf::Message* message);

// The same error, about the message of that number in a stream; OK stays OK.
absl::Status AboutMessage(int64_t number, const absl::Status& error);

// Has protobuf's complaints about strings that are not UTF-8 go into the errors of ParseMessage,
// not into the log; other messages of protobuf's go where they went before. Call once, before the
// first server and after logging is set up.
void CaptureParseErrors();

// What gRPC reads into for a method whose request is a Message. gRPC's own parsing answers
// UNIMPLEMENTED without a word to a request that cannot be parsed, and ends a stream as if the
// caller had sent no more. Here the handler parses, on the same thread, and can refuse a call
// before it does.
template <class Message>
class Incoming {
 public:
  // Parses what came last. gRPC hands out requests as const.
  absl::Status Parse() const { return ParseMessage(&bytes_, &message_); }
  // Valid after Parse, until the next one comes.
  const Message& message() const { return message_; }

  // Of what came last, before it is parsed.
  int64_t size_bytes() const { return static_cast<int64_t>(bytes_.Length()); }

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

#endif  // BACKPROP_SERVER_RPC_INCOMING_H_
