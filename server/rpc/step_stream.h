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
#include "server/rpc/context.h"
#include "server/rpc/incoming.h"
#include "server/session/session.h"

namespace backprop::rpc {

// Reads steps, hands each to its model in the order in which they come, and writes the answers in
// that order. Reads on only while few enough are unanswered. A message that cannot be parsed ends
// the stream with an error, once those before it are answered. Keeps itself alive until OnDone;
// steps under way hold a reference. gRPC's operations are started without the lock, because they
// may call back.
class StepStream final
    : public grpc::ServerBidiReactor<Incoming<v1::StepStreamRequest>, v1::StepStreamResponse>,
      public OpenCall,
      public std::enable_shared_from_this<StepStream> {
 public:
  // Unanswered steps beyond which the stream is not read.
  static constexpr size_t kMaxUnanswered = 64;

  static std::shared_ptr<StepStream> Start(Context* context);
  explicit StepStream(Context* context) : context_(context) { context_->calls.Enter(); }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void OnServerStop() override;

 private:
  // A step that was read; answered once `response` is there.
  struct Slot {
    int64_t bytes;
    std::optional<v1::StepStreamResponse> response;
  };

  void Begin(const v1::StepStreamRequest& request, int64_t sequence);
  void Answer(int64_t sequence, const session::Session* model,
              const absl::StatusOr<session::StepOutcome>& outcome);
  // Starts the operations that are due, if any.
  void Pump();
  void End(const absl::Status& status);
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // How the stream ends now, if it does.
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
  std::string model_;                        // of the last request; used by OnReadDone alone

  mutable base::Mutex mu_;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mu_);  // unanswered, in order
  int64_t first_ ABSL_GUARDED_BY(mu_) = 1;       // sequence of the first of them
  int64_t unanswered_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;  // nothing more is read
  absl::Status last_ ABSL_GUARDED_BY(mu_);         // how the stream ends once it is half closed
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool pumping_ ABSL_GUARDED_BY(mu_) = false;  // for ever once finished_
  bool pump_again_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_STEP_STREAM_H_
