// Calls that stream and are refused before they begin.
#ifndef BACKPROP_SERVER_RPC_CALL_REFUSED_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_REFUSED_STREAM_H_

#include <utility>

#include "absl/status/status.h"
#include "server/rpc/call/stream.h"

namespace backprop::rpc {

// Ends the call with an error and reads none of its messages.
template <class Request, class Response>
class RefusedStream final : public Stream<Request, Response> {
 public:
  static RefusedStream* Start(const CallInfo& info, const absl::Status& error) {
    const auto stream = MakeStream<RefusedStream>(info, error);
    stream->Pump();
    return stream.get();
  }
  RefusedStream(const CallInfo& info, absl::Status error)
      : Stream<Request, Response>(info, ""), error_(std::move(error)) {}

 private:
  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) { return {.end = error_}; }

  const absl::Status error_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_REFUSED_STREAM_H_
