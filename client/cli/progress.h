// Shows a run as it goes.
#ifndef BACKPROP_CLIENT_CLI_PROGRESS_H_
#define BACKPROP_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "backprop/training.h"

namespace backprop::cli {

// On a terminal one line that is rewritten; elsewhere a line for every report. Prints to standard
// output.
class ProgressView {
 public:
  explicit ProgressView(bool terminal) : terminal_(terminal) {}

  void Show(const TrainingEvent& event);
  const std::vector<double>& losses() const { return losses_; }

 private:
  void ShowProgress(const Progress& progress);
  void ShowSummary(const TrainingSummary& summary);

  const bool terminal_;
  bool header_shown_ = false;
  std::vector<double> losses_;
};

// "iteration  loss  accuracy …" and the rows under it.
std::string ProgressHeader();
std::string ProgressRow(const Progress& progress);
// "completed after 3000 iterations in 0.05 s: loss 0.0830, accuracy 0.9700"
std::string SummaryLine(const TrainingSummary& summary);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PROGRESS_H_
