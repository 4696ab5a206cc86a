#include "server/session/memory_budget.h"

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::session {

absl::StatusOr<MemoryBudget::Claim> MemoryBudget::AskForWork(int64_t bytes,
                                                             absl::string_view what) {
  const int64_t before = counters_->work.fetch_add(bytes);
  Claim claim{counters_, &Counters::work, bytes};
  if (limited() && before + bytes > room()) return Refusal(bytes, before, what);
  return claim;
}

absl::Status MemoryBudget::CheckModel(int64_t bytes, absl::string_view what) const {
  if (!limited() || models() + bytes <= model_room()) return absl::OkStatus();
  return Refusal(bytes, models() + work(), what);
}

absl::Status MemoryBudget::Refusal(int64_t bytes, int64_t in_use, absl::string_view what) const {
  return base::ReasonError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat(what, ": needs ", bytes, " bytes of memory, but ", in_use, " of the ", room(),
                   " bytes available under --memory-limit are in use and cannot be evicted"),
      {"LIMIT_EXCEEDED", {{"limit", "memory_limit"}}});
}

}  // namespace backprop::session
