#include "client/cli/progress.h"

#include <cstdio>

#include "client/cli/plot.h"

namespace backprop::cli {
namespace {

template <class... Args>
std::string Format(const char* format, Args... args) {
  char line[256];
  std::snprintf(line, sizeof(line), format, args...);
  return line;
}

std::string Accuracy(const Metrics& metrics) {
  return metrics.accuracy.has_value() ? Format("%.4f", *metrics.accuracy) : "-";
}

double StepsPerSecond(const Progress& progress) {
  return progress.metrics.rows == 0
             ? 0
             : progress.samples_per_second / static_cast<double>(progress.metrics.rows);
}

std::string Seconds(std::chrono::nanoseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  if (seconds >= 3600) return Format("%.1f h", seconds / 3600);
  if (seconds >= 60) return Format("%.1f min", seconds / 60);
  return Format("%.2f s", seconds);
}

}  // namespace

std::string ProgressHeader() {
  return Format("%10s %8s %12s %10s %12s %12s", "iteration", "epoch", "loss", "accuracy",
                "grad norm", "steps/s");
}

std::string ProgressRow(const Progress& progress) {
  std::string row =
      Format("%10lld %8lld %12.6f %10s %12.4e %12.0f", static_cast<long long>(progress.iteration),
             static_cast<long long>(progress.epoch), progress.metrics.loss,
             Accuracy(progress.metrics).c_str(), progress.gradient_norm, StepsPerSecond(progress));
  if (progress.validation.has_value()) {
    row += Format("  validation %.6f", progress.validation->loss);
    if (progress.validation->accuracy.has_value()) row += " " + Accuracy(*progress.validation);
  }
  return row;
}

std::string SummaryLine(const TrainingSummary& summary) {
  std::string line =
      Format("%s after %lld iterations in %s", StopReasonName(summary.stop_reason),
             static_cast<long long>(summary.iterations), Seconds(summary.elapsed).c_str());
  if (summary.metrics.has_value()) {
    line += Format(": loss %.6f", summary.metrics->loss);
    if (summary.metrics->accuracy.has_value()) {
      line += ", accuracy " + Accuracy(*summary.metrics);
    }
  }
  if (summary.validation.has_value()) {
    line += Format("; validation loss %.6f", summary.validation->loss);
    if (summary.validation->accuracy.has_value()) {
      line += ", accuracy " + Accuracy(*summary.validation);
    }
  }
  if (summary.best_iteration > 0) {
    line += Format("; best at iteration %lld with %.6f%s",
                   static_cast<long long>(summary.best_iteration), summary.best_loss,
                   summary.restored_best ? ", restored" : "");
  }
  if (!summary.message.empty()) line += "\n" + summary.message;
  return line;
}

void ProgressView::Show(const TrainingEvent& event) {
  if (const auto* progress = std::get_if<Progress>(&event.body)) {
    ShowProgress(*progress);
  } else if (const auto* summary = std::get_if<TrainingSummary>(&event.body)) {
    ShowSummary(*summary);
  }
}

void ProgressView::ShowProgress(const Progress& progress) {
  constexpr size_t kKeptLosses = 4096;
  if (losses_.size() < kKeptLosses) losses_.push_back(progress.metrics.loss);
  if (!terminal_) {
    if (!header_shown_) std::printf("%s\n", ProgressHeader().c_str());
    header_shown_ = true;
    std::printf("%s\n", ProgressRow(progress).c_str());
    std::fflush(stdout);
    return;
  }
  const double share =
      static_cast<double>(progress.iteration) / static_cast<double>(progress.total_iterations);
  std::string validation;
  if (progress.validation.has_value()) {
    validation = Format("  validation %.6f", progress.validation->loss);
  }
  std::printf("\r\033[K%lld/%lld %3.0f%%  loss %.6f  accuracy %s%s  %.0f steps/s  ETA %s  %s",
              static_cast<long long>(progress.iteration),
              static_cast<long long>(progress.total_iterations), share * 100, progress.metrics.loss,
              Accuracy(progress.metrics).c_str(), validation.c_str(), StepsPerSecond(progress),
              Seconds(progress.eta).c_str(), Sparkline(losses_, 16).c_str());
  std::fflush(stdout);
}

void ProgressView::ShowSummary(const TrainingSummary& summary) {
  std::printf("%s%s\n", terminal_ ? "\r\033[K" : "", SummaryLine(summary).c_str());
  std::fflush(stdout);
}

}  // namespace backprop::cli
