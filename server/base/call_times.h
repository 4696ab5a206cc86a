// Where the time of one call went.
#ifndef BACKPROP_SERVER_BASE_CALL_TIMES_H_
#define BACKPROP_SERVER_BASE_CALL_TIMES_H_

#include <array>
#include <chrono>
#include <cstddef>

namespace backprop::base {

// The stages of a call that answers one request. A call skips stages that it does not have.
enum class CallStage {
  kDecode,   // parse the request, find or load the model, decode and check the fields
  kQueue,    // wait for earlier changes of the model and for a thread
  kCompute,  // compute the result
  kStore,    // wait until the change is stored
  kEncode,   // encode the response
};
inline constexpr std::array<const char*, 5> kCallStageNames = {"decode", "queue", "compute",
                                                               "store", "encode"};

// A stopwatch: the time since the last lap belongs to the stage that ends with this one. Used by
// one thread at a time.
class CallTimes {
 public:
  using Clock = std::chrono::steady_clock;

  explicit CallTimes(Clock::time_point begin) : last_(begin) {}

  void EndOf(CallStage stage) {
    const auto now = Clock::now();
    spent_[static_cast<size_t>(stage)] += now - last_;
    last_ = now;
    divided_ = true;
  }
  // Whether the end of a stage is known.
  bool divided() const { return divided_; }
  std::chrono::nanoseconds spent(CallStage stage) const {
    return spent_[static_cast<size_t>(stage)];
  }

 private:
  Clock::time_point last_;
  bool divided_ = false;
  std::array<std::chrono::nanoseconds, kCallStageNames.size()> spent_{};
};

// `times` may be null: the call is not timed.
inline void EndOf(CallStage stage, CallTimes* times) {
  if (times != nullptr) times->EndOf(stage);
}

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_CALL_TIMES_H_
