#include "server/janitor.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>

#include "absl/time/clock.h"
#include "server/ops/logging.h"

namespace backprop {

void LogNotices(const std::vector<rpc::TlsNotice>& notices) {
  for (const rpc::TlsNotice& notice : notices) {
    const auto level = notice.level == rpc::TlsNotice::Level::kInfo      ? spdlog::level::info
                       : notice.level == rpc::TlsNotice::Level::kWarning ? spdlog::level::warn
                                                                         : spdlog::level::err;
    ops::LogLine("tls", level, notice.text);
  }
}

Janitor::Janitor(rpc::Context* context, ops::AuthFileWatch* auth_file, rpc::Tls* tls,
                 const ops::Config& config)
    : context_(context),
      idle_timeout_(config.stream_idle_timeout),
      registry_(context->registry),
      datasets_(context->datasets),
      auth_file_(auth_file),
      tls_(tls),
      trimmer_(config.limits.memory_limit_bytes),
      thread_([this] { Work(); }) {}

Janitor::~Janitor() {
  {
    const base::MutexLock lock(&mu_);
    stop_ = true;
    stops_.NotifyAll();
  }
  thread_.join();
}

void Janitor::Work() {
  constexpr int kTicksPerSecond = std::chrono::seconds(1) / ops::kTrimmerInterval;
  const base::MutexLock lock(&mu_);
  for (int tick = 1; !stops_.WaitFor(&mu_, absl::FromChrono(ops::kTrimmerInterval),
                                     [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stop_; });
       ++tick) {
    trimmer_.Tick();
    if (tick % kTicksPerSecond == 0) WorkOfASecond();
  }
}

void Janitor::WorkOfASecond() {
  ops::ReportLeftOut();
  if (const int64_t expired = registry_->ExpireIdle(); expired > 0) {
    spdlog::info("{} models expired", expired);
  }
  if (const int64_t expired = datasets_->ExpireUploads(); expired > 0) {
    spdlog::info("{} unfinished uploads expired", expired);
  }
  const absl::Time now = context_->environment->clock->Now();
  context_->calls.EndIdle(now, idle_timeout_);
  context_->sending.EndIdle(now, idle_timeout_);
  if (auth_file_ != nullptr) auth_file_->Check();
  if (tls_ != nullptr) LogNotices(tls_->Check(absl::Now()));
  registry_->EvictBeyondLimit();  // new work may need the memory
  if (const int64_t resumed = registry_->ResumeParked(); resumed > 0) {
    spdlog::info("{} runs resume: changes can be stored again", resumed);
  }
}

}  // namespace backprop
