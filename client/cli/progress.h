// Shows a run as it goes.
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

// On a terminal one line that is rewritten and fitted to its width; elsewhere a line for every
// report. Prints to standard output. When nothing has come for `quiet_after` it says so, and
// whether there still is a connection: in the line, or elsewhere on standard error.
class ProgressView {
 public:
  struct Options {
    bool terminal = false;
    std::chrono::milliseconds quiet_after{30000};
    std::function<bool()> connected;  // is called on another thread
  };
  explicit ProgressView(Options options);
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void Show(const TrainingEvent& event);
  // Nothing more is shown: a live line is cleared, so that errors stand on a line of their own.
  void End();

 private:
  using Clock = std::chrono::steady_clock;
  void ShowProgress(const Progress& progress);
  void ShowRow(const Progress& progress);
  void ShowSummary(const TrainingSummary& summary);
  void ShowQuiet(Clock::duration quiet);
  void WatchForQuiet();

  const Options options_;
  std::mutex mu_;  // guards all below, and what is printed
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

// "iteration  loss  accuracy …" and the rows under it. `rate`: iterations a second; without one the
// server's, which counts from the run's begin.
std::string ProgressHeader();
std::string ProgressRow(const Progress& progress, std::optional<double> rate = std::nullopt);
// The parts of the live line.
std::vector<LinePart> ProgressParts(const Progress& progress, std::optional<double> rate,
                                    const std::vector<double>& losses);
// "completed after 3000 iterations in 0.05 s: loss 0.0830, accuracy 0.9700"
std::string SummaryLine(const TrainingSummary& summary);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PROGRESS_H_
