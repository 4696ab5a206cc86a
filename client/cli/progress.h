// Display of the progress of a run.
#ifndef BACKPROP_CLIENT_CLI_PROGRESS_H_
#define BACKPROP_CLIENT_CLI_PROGRESS_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backprop/training.h"
#include "client/cli/live_line.h"
#include "client/cli/rate_meter.h"

namespace backprop::cli {

// Prints progress to standard output: on a terminal one line, rewritten and fitted to the width;
// otherwise one line per report. If nothing arrives for `quiet_after`, prints that, and whether the
// connection is still established: in the line on a terminal, otherwise to standard error.
// Thread-compatible.
class ProgressView {
 public:
  struct Options {
    bool terminal = false;
    std::chrono::milliseconds quiet_after{30000};
    std::function<bool()> connected;  // called on another thread
  };
  explicit ProgressView(Options options);
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void Show(const TrainingEvent& event);
  // Ends the display and clears the live line, so that errors are on a line of their own.
  void End();

 private:
  using Clock = std::chrono::steady_clock;
  void ShowProgress(const Progress& progress);
  void ShowRow(const Progress& progress);
  void ShowSummary(const TrainingSummary& summary);
  void ShowQuiet(Clock::duration quiet);
  void WatchForQuiet();

  const Options options_;
  std::mutex mu_;  // guards the members below and the output
  std::condition_variable changed_;
  bool ended_ = false;
  Clock::time_point last_news_ = Clock::now();
  LiveLine line_;
  bool header_shown_ = false;
  RateMeter rate_;
  std::vector<double> losses_;
  std::optional<Progress> last_;
  std::thread watcher_;
};

// The header "iteration  loss  accuracy …" and a row below it. `rate` is in iterations per second;
// unset: the server's rate, which counts from the start of the run.
std::string ProgressHeader();
std::string ProgressRow(const Progress& progress, std::optional<double> rate = std::nullopt);
// The parts of the live line.
std::vector<LinePart> ProgressParts(const Progress& progress, std::optional<double> rate,
                                    const std::vector<double>& losses);
// Returns "completed after 3000 iterations in 0.05 s: loss 0.0830, accuracy 0.9700".
std::string SummaryLine(const TrainingSummary& summary);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PROGRESS_H_
