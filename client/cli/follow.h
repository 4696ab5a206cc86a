// Following a run: its display, and what to say when its end was not seen.
#ifndef BACKPROP_CLIENT_CLI_FOLLOW_H_
#define BACKPROP_CLIENT_CLI_FOLLOW_H_

#include <optional>
#include <string>

#include "client/cli/command.h"
#include "client/cli/progress.h"

namespace backprop::cli {

struct ViewOptions {
  double quiet_after_seconds = 30;
};

// Shows events; with --json nothing, since the client prints them. `client` must outlive it.
class EventView {
 public:
  EventView(const Globals& globals, const Client& client, const ViewOptions& options);
  void Show(const TrainingEvent& event);
  // To be called before anything else is printed.
  void End();
  const std::string& run() const { return run_; }

 private:
  std::optional<ProgressView> view_;
  std::string run_;  // of the last event
};

// "follow it again with: backprop watch xor; …"
std::string HowToFollow(const std::string& model);

// Of a call that did not see the end of `run` (empty: it heard of none): says what became of the
// run and how to get back to it, and returns the exit status. Without `run_goes_on` the server
// stops the run with its call.
int GiveUp(const Globals& globals, const std::string& model, const std::string& run,
           const Status& status, bool run_goes_on);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_FOLLOW_H_
