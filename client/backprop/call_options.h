// Options of a call: deadline, cancellation, retries.
#ifndef BACKPROP_CLIENT_CALL_OPTIONS_H_
#define BACKPROP_CLIENT_CALL_OPTIONS_H_

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace backprop {

// Cancels calls from another thread. Thread-safe; copies share one state.
class Cancellation {
 public:
  // Cancels the active calls that use this token, and all later ones.
  void Cancel();
  bool cancelled() const;

  // For the client: calls `action` on Cancel(), or at once if Cancel() was called before. Returns a
  // number for Remove().
  int Add(std::function<void()> action);
  // After Remove() returns, the action is not running and will not run.
  void Remove(int number);

 private:
  struct State {
    std::mutex mu;
    bool cancelled = false;
    int next = 0;
    std::map<int, std::function<void()>> actions;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

struct CallOptions {
  // The call fails after this time, retries and their pauses included. Default: the unary_timeout
  // of the client; no limit for Train, WatchTraining, streams of steps, uploads and files.
  std::optional<std::chrono::milliseconds> timeout{};
  std::optional<Cancellation> cancellation{};
  // Request id of mutating calls, which makes retries idempotent. Default: a random one.
  std::string request_id{};
};

// Retries of calls that fail with UNAVAILABLE, and with RESOURCE_EXHAUSTED if the server says when
// to retry (google.rpc.RetryInfo). A retry uses the same request_id and follows the time that the
// server asks for and a random pause of at most `first_pause`, doubled each time up to
// `last_pause`. By default, a call tolerates a server that is unavailable for about two seconds.
struct RetryOptions {
  int max_attempts = 8;  // 1: no retries
  std::chrono::milliseconds first_pause{50};
  std::chrono::milliseconds last_pause{1000};
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CALL_OPTIONS_H_
