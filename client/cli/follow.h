// Displaying a run, and messages for a run whose end was not seen.
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

// Displays events; with --json nothing, because the client prints them. `client` must outlive the
// view.
class EventView {
 public:
  EventView(const Globals& globals, const Client& client, const ViewOptions& options);
  void Show(const TrainingEvent& event);
  // Ends the display. Call before printing anything else.
  void End();
  const std::string& run() const { return run_; }

 private:
  std::optional<ProgressView> view_;
  std::string run_;  // run of the last event
};

// Returns "follow it again with: backprop watch xor; …".
std::string HowToFollow(const std::string& model);

// Reports that a call ended before the end of `run` (empty: unknown): what happened to the run and
// how to return to it. Returns the exit status. `run_goes_on`: the run continues after the call;
// otherwise the server stops it.
int GiveUp(const Globals& globals, const std::string& model, const std::string& run,
           const Status& status, bool run_goes_on);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_FOLLOW_H_
