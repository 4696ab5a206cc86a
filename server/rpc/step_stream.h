// The reactor of StepStream.
#ifndef BACKPROP_SERVER_RPC_STEP_STREAM_H_
#define BACKPROP_SERVER_RPC_STEP_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "backprop/v1/training_service.pb.h"
#include "server/base/mutex.h"
#include "server/records/response_records.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/context.h"
#include "server/session/session.h"

namespace backprop::rpc {

// Reads steps, passes each to its model in the order in which they arrive, and writes the responses
// in the same order. Stops reading while kMaxUnanswered steps, or steps of max_message_bytes bytes,
// have no response yet: gRPC then applies back-pressure to the caller. An invalid step gets an
// error as its response and the stream continues. A message that cannot be parsed ends the stream
// with an error after all earlier steps have their responses. Keeps itself alive until OnDone;
// active steps hold a reference. gRPC's operations are started without the lock, because they may
// call a reaction before they return. Thread-safe.
class StepStream final
    : public grpc::ServerBidiReactor<Incoming<v1::StepStreamRequest>, v1::StepStreamResponse>,
      public OpenCall,
      public std::enable_shared_from_this<StepStream> {
 public:
  // The stream is not read while this many steps have no response.
  static constexpr size_t kMaxUnanswered = 64;

  static std::shared_ptr<StepStream> Start(Context* context);
  explicit StepStream(Context* context) : context_(context) { context_->calls.Enter(); }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void OnServerStop() override;

 private:
  // A step that was read and whose response is not written yet.
  struct Slot {
    int64_t bytes;                                   // of the request
    std::optional<v1::StepStreamResponse> response;  // set when the step has finished
  };

  void Begin(const v1::StepStreamRequest& request, int64_t sequence);
  void Answer(int64_t sequence, const session::Session* model,
              const absl::StatusOr<records::StepOutcome>& outcome);
  // Starts the operations that are due.
  void Pump();
  void End(const absl::Status& status);
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The status with which the stream must end now; unset if it continues.
  std::optional<absl::Status> EndStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool cancelled() const {
    const base::MutexLock lock(&mu_);
    return cancelled_;
  }

  Context* const context_;
  const absl::Time begin_ = absl::Now();
  std::shared_ptr<StepStream> self_;
  Incoming<v1::StepStreamRequest> request_;  // owned by gRPC while reading_, else by OnReadDone
  v1::StepStreamResponse response_;          // owned by gRPC while writing_, else guarded by mu_
  std::string model_;                        // of the last request; used only by OnReadDone

  mutable base::Mutex mu_;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mu_);  // in the order of the requests
  int64_t first_ ABSL_GUARDED_BY(mu_) = 1;       // sequence of the first slot
  int64_t unanswered_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;  // no more messages are read
  absl::Status last_ ABSL_GUARDED_BY(mu_);         // final status of a half-closed stream
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool pumping_ ABSL_GUARDED_BY(mu_) = false;  // a thread is in Pump; stays true once finished_
  bool pump_again_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_STEP_STREAM_H_
