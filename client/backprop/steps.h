// Pipelined steps: many in flight on one stream.
#ifndef BACKPROP_CLIENT_STEPS_H_
#define BACKPROP_CLIENT_STEPS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backprop/status.h"
#include "backprop/tensor.h"
#include "backprop/training.h"

namespace backprop {

struct StepsOptions {
  int in_flight = 32;  // maximum number of steps without a response; 1 to 64
  // The step count that the model must have before the first step; each later one expects one more.
  // Unset: not checked.
  std::optional<int64_t> expected_step{};
};

// Returns the batch of the next step; nothing after the last one.
using BatchSource = std::function<std::optional<Batch>()>;

// Called with the response to each step, in order, on the calling thread. Returning false ends the
// call with kCancelled: no more batches are sent; steps that are in flight may still be made.
using StepCallback = std::function<bool(const Result<StepResult>&)>;

// Pipelined steps on one model. They are applied and answered in the order in which they are sent.
// One thread may send while another receives. A single thread must not leave more than 64 steps
// unanswered, because the server then stops reading. Steps are not retried: after a broken
// connection, send the unanswered steps again on a new stream with the same request ids, as
// Client::Steps() does. Must not be used after its client is destroyed.
class StepStream {
 public:
  ~StepStream();  // cancels the call unless it is finished
  StepStream(StepStream&&) noexcept;
  StepStream& operator=(StepStream&&) noexcept;

  // Sends a step. Returns false if the stream is broken or the batch is not one; Finish() returns
  // the reason. An empty `request_id` means a random one.
  bool Send(const Batch& batch, std::optional<int64_t> expected_step = std::nullopt,
            const std::string& request_id = "");
  // Returns the next response: a result, or the reason why the step was rejected. Returns nothing
  // when there are no more responses. Blocks.
  std::optional<Result<StepResult>> Receive();
  // Declares that no more steps follow. Outstanding responses can still be received.
  void DoneSending();
  // Returns the final status of the stream. Call it once, after Receive() returned nothing.
  Status Finish();

 private:
  friend class Client;
  struct Impl;
  explicit StepStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_STEPS_H_
