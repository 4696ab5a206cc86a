// How a call is made: its deadline, its cancellation, its retries.
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
  // Cancels the calls under way with this token, and those that are made later.
  void Cancel();
  bool cancelled() const;

  // For the client: `action` is called at Cancel, or at once if that was. Returns its number.
  int Add(std::function<void()> action);
  // After this `action` neither runs nor will.
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
  // The call, retries included, ends after this long with kDeadlineExceeded. Default: none.
  std::optional<std::chrono::milliseconds> timeout{};
  std::optional<Cancellation> cancellation{};
  // Of mutating calls. Default: a random one, so that retries apply once.
  std::string request_id{};
};

// What every call of a client does when the server is UNAVAILABLE: it tries again, with the same
// request_id, after a pause that doubles from `first_pause` to `last_pause`. The default bears a
// server that is away for about three seconds.
struct RetryOptions {
  int max_attempts = 8;  // 1: no retries
  std::chrono::milliseconds first_pause{50};
  std::chrono::milliseconds last_pause{1000};
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CALL_OPTIONS_H_
