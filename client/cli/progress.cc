#include "client/cli/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "client/cli/format.h"
#include "client/cli/plot.h"

namespace backprop::cli {
namespace {

std::string Accuracy(const Metrics& metrics) {
  return metrics.accuracy.has_value() ? FormatText("%.4f", *metrics.accuracy) : "-";
}

// The server's rate counts from the start of the run.
double StepsPerSecond(const Progress& progress, std::optional<double> rate) {
  if (rate.has_value()) return *rate;
  return progress.metrics.rows == 0
             ? 0
             : progress.samples_per_second / static_cast<double>(progress.metrics.rows);
}

std::string Seconds(std::chrono::nanoseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  if (seconds >= 48 * 3600) return FormatText("%.1f d", seconds / 86400);
  if (seconds >= 3600) return FormatText("%.1f h", seconds / 3600);
  if (seconds >= 60) return FormatText("%.1f min", seconds / 60);
  return FormatText("%.2f s", seconds);
}

}  // namespace

std::string ProgressHeader() {
  return FormatText("%10s %8s %12s %10s %12s %12s", "iteration", "epoch", "loss", "accuracy",
                    "grad norm", "steps/s");
}

std::string ProgressRow(const Progress& progress, std::optional<double> rate) {
  std::string row = FormatText(
      "%10lld %8lld %12.6f %10s %12.4e %12.0f", static_cast<long long>(progress.iteration),
      static_cast<long long>(progress.epoch), progress.metrics.loss,
      Accuracy(progress.metrics).c_str(), progress.gradient_norm, StepsPerSecond(progress, rate));
  if (progress.validation.has_value()) {
    row += FormatText("  validation %.6f", progress.validation->loss);
    if (progress.validation->accuracy.has_value()) row += " " + Accuracy(*progress.validation);
  }
  return row;
}

std::string SummaryLine(const TrainingSummary& summary) {
  std::string line =
      FormatText("%s after %lld iterations in %s", StopReasonName(summary.stop_reason),
                 static_cast<long long>(summary.iterations), Seconds(summary.elapsed).c_str());
  if (summary.metrics.has_value()) {
    line += FormatText(": loss %.6f", summary.metrics->loss);
    if (summary.metrics->accuracy.has_value()) {
      line += ", accuracy " + Accuracy(*summary.metrics);
    }
  }
  if (summary.validation.has_value()) {
    line += FormatText("; validation loss %.6f", summary.validation->loss);
    if (summary.validation->accuracy.has_value()) {
      line += ", accuracy " + Accuracy(*summary.validation);
    }
  }
  if (summary.best_iteration > 0) {
    line += FormatText("; best at iteration %lld with %.6f%s",
                       static_cast<long long>(summary.best_iteration), summary.best_loss,
                       summary.restored_best ? ", restored" : "");
  }
  if (!summary.message.empty()) line += "\n" + summary.message;
  return line;
}

std::vector<LinePart> ProgressParts(const Progress& progress, std::optional<double> rate,
                                    const std::vector<double>& losses) {
  const auto done = static_cast<double>(progress.iteration);
  const auto all = static_cast<double>(progress.total_iterations);
  const double speed = StepsPerSecond(progress, rate);
  std::string eta = Seconds(progress.eta);
  if (rate.has_value()) {
    // The rate may be so low that the time overflows.
    const double seconds = std::min((all - done) / *rate, 1e9);
    eta = Seconds(std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9)));
  }
  std::string validation;
  if (progress.validation.has_value()) {
    validation = FormatText("validation %.6f", progress.validation->loss);
  }
  return {
      {FormatText("%lld/%lld %3.0f%%", static_cast<long long>(progress.iteration),
                  static_cast<long long>(progress.total_iterations), std::floor(done * 100 / all)),
       0},
      {FormatText("loss %.6f", progress.metrics.loss), 2},
      {"accuracy " + Accuracy(progress.metrics), 5},
      {validation, 3},
      {FormatText("%.0f steps/s", speed), 4},
      {"ETA " + eta, 1},
      {Sparkline(losses, 16), 6}};
}

ProgressView::ProgressView(Options options)
    : options_(std::move(options)),
      line_(stdout, options_.terminal),
      watcher_([this] { WatchForQuiet(); }) {}

ProgressView::~ProgressView() { End(); }

void ProgressView::End() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ended_ = true;
    line_.Clear();
  }
  changed_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

void ProgressView::Show(const TrainingEvent& event) {
  const std::lock_guard<std::mutex> lock(mu_);
  last_news_ = Clock::now();
  if (const auto* progress = std::get_if<Progress>(&event.body)) {
    ShowProgress(*progress);
  } else if (const auto* summary = std::get_if<TrainingSummary>(&event.body)) {
    ShowSummary(*summary);
  }
}

void ProgressView::ShowProgress(const Progress& progress) {
  constexpr size_t kKeptLosses = 4096;
  if (losses_.size() < kKeptLosses) losses_.push_back(progress.metrics.loss);
  rate_.Add(progress.iteration, last_news_);
  last_ = progress;
  if (options_.terminal) {
    line_.Show(ProgressParts(progress, rate_.PerSecond(), losses_));
    return;
  }
  if (!header_shown_) std::printf("%s\n", ProgressHeader().c_str());
  header_shown_ = true;
  std::printf("%s\n", ProgressRow(progress, rate_.PerSecond()).c_str());
  std::fflush(stdout);
}

void ProgressView::ShowSummary(const TrainingSummary& summary) {
  line_.Clear();
  std::printf("%s\n", SummaryLine(summary).c_str());
  std::fflush(stdout);
}

void ProgressView::ShowQuiet(Clock::duration quiet) {
  const bool connected = !options_.connected || options_.connected();
  const std::string news = FormatText(
      "no events for %lld s; %s",
      static_cast<long long>(std::chrono::duration_cast<std::chrono::seconds>(quiet).count()),
      connected ? "still connected" : "not connected, retrying");
  if (!options_.terminal) {
    std::fprintf(stderr, "%s\n", news.c_str());
    return;
  }
  std::vector<LinePart> parts;
  if (last_.has_value()) parts = ProgressParts(*last_, rate_.PerSecond(), losses_);
  parts.push_back({news, -1});
  line_.Show(parts);
}

// Reports silence: every second on a terminal, otherwise after each multiple of quiet_after.
void ProgressView::WatchForQuiet() {
  const Clock::duration again =
      options_.terminal ? std::chrono::seconds(1) : Clock::duration(options_.quiet_after);
  std::unique_lock<std::mutex> lock(mu_);
  Clock::time_point told = Clock::time_point::min();
  while (!ended_) {
    const Clock::time_point now = Clock::now();
    const Clock::time_point due =
        std::max(last_news_ + options_.quiet_after,
                 told <= last_news_ ? Clock::time_point::min() : told + again);
    if (now >= due) {
      ShowQuiet(now - last_news_);
      told = now;
    } else {
      changed_.wait_until(lock, due);
    }
  }
}

}  // namespace backprop::cli
