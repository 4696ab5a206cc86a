// StepStream: many steps in one call.
#ifndef BACKPROP_SERVER_RPC_STEP_STREAM_H_
#define BACKPROP_SERVER_RPC_STEP_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "backprop/v1/training_service.pb.h"
#include "server/records/response_records.h"
#include "server/registry/session_cache.h"
#include "server/rpc/call/stream.h"
#include "server/rpc/context.h"
#include "server/session/projects.h"
#include "server/session/session.h"

namespace backprop::rpc {

// Reads steps, passes each to its model in the order in which they arrive, and writes the responses
// in the same order. Stops reading while kMaxUnanswered steps, or steps of max_message_bytes bytes,
// have no response yet: gRPC then applies back-pressure to the caller. An invalid step gets an
// error as its response and the stream continues. A message that cannot be parsed ends the stream
// with an error after all earlier steps have their responses. A server that stops ends the call
// when all steps that were read have their responses. It ends with ABORTED when the caller neither
// sends a step nor reads a response for the idle timeout (Calls::EndIdle). Active steps hold a
// reference.
class StepStream final : public Stream<v1::StepStreamRequest, v1::StepStreamResponse> {
 public:
  // The stream is not read while this many steps have no response.
  static constexpr size_t kMaxUnanswered = 64;

  static StepStream* Start(Context* context, const CallInfo& info);
  StepStream(Context* context, const CallInfo& info) : Stream(info, ""), context_(context) {}

  void OnReadDone(bool ok) override { HasRead(ok); }
  void OnWriteDone(bool ok) override { HasWritten(ok); }

 private:
  // A step that was read and whose response is not written yet.
  struct Slot {
    int64_t bytes;                                   // of the request
    session::Project::Claim in_flight;               // the same
    std::optional<v1::StepStreamResponse> response;  // set when the step has finished
  };

  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool AwaitsCaller() const override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return writing() || (reading() && slots_.empty());
  }
  void Admit(const v1::StepStreamRequest& request) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Passes the step to its model. The number of the message is the sequence of its slot.
  void Process(const v1::StepStreamRequest& request, int64_t sequence) override;

  // The same when the model was found.
  void StartStep(const registry::MaybeSession& model, const v1::StepRequest& step,
                 int64_t sequence);
  void Answer(int64_t sequence, const session::Session* model,
              const absl::StatusOr<records::StepOutcome>& outcome);
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The status with which the stream must end now; unset if it continues.
  std::optional<absl::Status> EndStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Context* const context_;
  std::string model_;  // of the last request; used only by Process

  // The model of the last request is being loaded. The next one is read afterwards, which keeps the
  // order.
  bool loading_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mu_);  // in the order of the requests
  int64_t first_ ABSL_GUARDED_BY(mu_) = 1;       // sequence of the first slot
  int64_t unanswered_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_STEP_STREAM_H_
