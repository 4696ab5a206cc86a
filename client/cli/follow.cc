#include "client/cli/follow.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "client/cli/live_line.h"

namespace backprop::cli {
namespace {

// Describes the end of a run whose call has ended; the server stops it at its next step. Waits for
// that, to report the step.
std::string HowItStopped(const Globals& globals, const std::string& model, const std::string& run) {
  constexpr std::chrono::seconds kLongestStep{10};
  CallOptions call;
  call.timeout = kLongestStep;
  const auto summary = globals.ConnectHidden().WatchTraining(model, {.run = run}, nullptr, call);
  if (!summary.ok()) return "the server stops the run and keeps its parameters";
  return "the run was stopped; its parameters up to step " + std::to_string(summary->step) +
         " are kept";
}

}  // namespace

EventView::EventView(const Globals& globals, const Client& client, const ViewOptions& options) {
  if (globals.json) return;
  ProgressView::Options view;
  view.terminal = IsTerminal(stdout);
  view.quiet_after =
      std::chrono::milliseconds(static_cast<int64_t>(options.quiet_after_seconds * 1000));
  view.connected = [&client] { return client.Connected(); };
  view_.emplace(std::move(view));
}

void EventView::Show(const TrainingEvent& event) {
  run_ = event.run;
  if (view_.has_value()) view_->Show(event);
}

void EventView::End() {
  if (view_.has_value()) view_->End();
}

std::string HowToFollow(const std::string& model) {
  return "follow it again with: backprop watch " + model + "; stop it with: backprop stop " + model;
}

int GiveUp(const Globals& globals, const std::string& model, const std::string& run,
           const Status& status, bool run_goes_on) {
  const bool interrupted = globals.interrupt.cancelled();
  std::string fate;
  if (run.empty()) {
    fate = interrupted ? "no event of a run was received" : "";
  } else if (run_goes_on) {
    fate = run + " continues; " + HowToFollow(model);
  } else if (interrupted || status.code == StatusCode::kDeadlineExceeded) {
    fate = HowItStopped(globals, model, run);
  } else if (status.code == StatusCode::kUnavailable && status.reason.empty()) {
    // With a data directory, the run resumes when the server restarts.
    fate = "if the server stopped, " + run + " resumes when the server restarts with --data-dir; " +
           HowToFollow(model);
  }
  if (interrupted) return globals.FailHere(kInterrupted, "INTERRUPTED", "interrupted; " + fate);
  return globals.Fail(status, fate);
}

}  // namespace backprop::cli
