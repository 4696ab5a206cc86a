#include "server/rpc/call/overload_control.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::rpc {
namespace {

// After which a count is likely to be lower. The callers add their own random part.
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

}  // namespace

const char* NameOf(Overload overload) {
  switch (overload) {
    case Overload::kCalls:
      return "calls";
    case Overload::kProjectCalls:
      return "project_calls";
    case Overload::kRequestBytes:
      return "request_bytes";
    case Overload::kReceiving:
      return "receiving";
    case Overload::kThreads:
      return "threads";
    case Overload::kModel:
      return "model";
  }
  return "?";
}

void OverloadControl::SetLimits(const OverloadLimits& limits) {
  limits_ = limits;
  target_ = absl::ToChronoNanoseconds(limits.delay_target);
}

absl::Status OverloadControl::Begin(size_t project, int64_t bytes, TimePoint received,
                                    TimePoint now, Permit* permit) {
  Permit begun;
  begun.control_ = this;
  begun.project_ = project;
  begun.bytes_ = bytes < kUncountedBytes ? 0 : bytes;
  const int64_t calls = Add(&calls_, 1);
  const int64_t of_project = counts_projects() ? Add(&of_project_[project], 1) : 0;
  const int64_t all_bytes = begun.bytes_ == 0 ? 0 : Add(&bytes_, begun.bytes_);
  absl::Status fits = CheckCalls(calls, of_project);
  if (!fits.ok()) return fits;
  const int64_t most_bytes = limits_.max_request_bytes;
  if (most_bytes != 0 && all_bytes > most_bytes && all_bytes > begun.bytes_) {
    return Refuse(Overload::kRequestBytes,
                  absl::StrCat("the requests of active calls use ", all_bytes - begun.bytes_,
                               " of ", most_bytes, " bytes (--max-in-flight-bytes)"),
                  kRetryAfter);
  }
  const auto waited = now - received;
  receiving_.Observe(now, waited, IsAlone(now, waited), target_);
  if (receiving_.Refuses(now, waited, target_)) {
    return Refuse(
        Overload::kReceiving,
        absl::StrCat("calls wait for longer than ", absl::FormatDuration(limits_.delay_target),
                     " before they are read (--queue-delay-target)"),
        kRetryAfter);
  }
  *permit = std::move(begun);
  return absl::OkStatus();
}

bool OverloadControl::IsAlone(TimePoint now, exec::DelayState::Duration waited) {
  if (waited <= target_) return false;
  const int64_t at = exec::DelayState::Duration(now.time_since_epoch()).count();
  const int64_t before = last_late_.exchange(at, std::memory_order_relaxed);
  return at - before > (exec::DelayState::kInterval * target_).count();
}

absl::Status OverloadControl::CheckCalls(int64_t calls, int64_t of_project) {
  const int64_t most = limits_.max_active_calls;
  if (most != 0 && calls > most) {
    return Refuse(Overload::kCalls, absl::StrCat(most, " calls are active (--max-active-calls)"),
                  kRetryAfter);
  }
  int64_t most_of_project = limits_.max_active_calls_per_project;
  if (most_of_project == OverloadLimits::kAsManyAsAreFree) {
    most_of_project = most == 0 ? 0 : std::max<int64_t>(1, most - calls);
  }
  if (most_of_project != 0 && of_project > most_of_project) {
    return Refuse(Overload::kProjectCalls,
                  absl::StrCat(of_project - 1, " calls of the project are active ",
                               "(--max-active-calls-per-project)"),
                  kRetryAfter);
  }
  return absl::OkStatus();
}

absl::Status OverloadControl::Refuse(Overload overload, absl::string_view why,
                                     absl::Duration retry_after) {
  refused_[static_cast<size_t>(overload)].Add();
  return base::ReasonError(
      absl::StatusCode::kUnavailable,
      absl::StrCat("the server is overloaded: ", why, "; nothing was done, retry after ",
                   absl::FormatDuration(retry_after)),
      {"OVERLOADED", {{"queue", NameOf(overload)}}, retry_after});
}

void OverloadControl::Leave(size_t project, int64_t bytes) {
  calls_.value.fetch_sub(1, std::memory_order_relaxed);
  if (counts_projects()) of_project_[project].value.fetch_sub(1, std::memory_order_relaxed);
  if (bytes != 0) bytes_.value.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace backprop::rpc
