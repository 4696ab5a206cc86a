// Counts memory against the memory limit.
#ifndef BACKPROP_SERVER_SESSION_MEMORY_BUDGET_H_
#define BACKPROP_SERVER_SESSION_MEMORY_BUDGET_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/limits.h"

namespace backprop::session {

// Counts memory in two kinds:
//   models  Held by sessions. With a store, sessions can be evicted, so no model is rejected: the
//           registry evicts until the models fit into the room that work leaves, and at least a
//           quarter of the room is theirs.
//   work    Runs, rows in use, large requests, changes that are being stored. It cannot be evicted,
//           so work that does not fit into the room is rejected.
// The room is the limit minus `memory_fixed_bytes`, at least a quarter of the limit. Without a
// limit, memory is counted and nothing is rejected. Thread-safe.
class MemoryBudget {
  struct Counters {
    std::atomic<int64_t> models{0};
    std::atomic<int64_t> work{0};
  };

 public:
  // Memory that is counted until the claim is destroyed. May outlive the budget. Thread-compatible.
  class Claim {
   public:
    Claim() = default;
    Claim(Claim&& other) noexcept { *this = std::move(other); }
    Claim& operator=(Claim&& other) noexcept {
      counters_.swap(other.counters_);
      std::swap(counter_, other.counter_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Claim() {
      if (counters_ != nullptr) (counters_.get()->*counter_).fetch_sub(bytes_);
    }
    // Counts `bytes` instead of the previous number. Does nothing for a claim without a budget.
    void Resize(int64_t bytes) {
      if (counters_ == nullptr || bytes == bytes_) return;
      (counters_.get()->*counter_).fetch_add(bytes - bytes_);
      bytes_ = bytes;
    }
    int64_t bytes() const { return bytes_; }

   private:
    friend class MemoryBudget;
    Claim(std::shared_ptr<Counters> counters, std::atomic<int64_t> Counters::*counter,
          int64_t bytes)
        : counters_(std::move(counters)), counter_(counter), bytes_(bytes) {}

    std::shared_ptr<Counters> counters_;
    std::atomic<int64_t> Counters::*counter_ = nullptr;
    int64_t bytes_ = 0;
  };

  // `limits` is read at each call and must outlive the budget.
  explicit MemoryBudget(const base::Limits* limits) : limits_(limits) {}

  // Counts the memory of a model.
  Claim CountModel(int64_t bytes) {
    counters_->models.fetch_add(bytes);
    return {counters_, &Counters::models, bytes};
  }

  // Counts work that is never rejected, such as a run that resumes after a restart.
  Claim CountWork(int64_t bytes) {
    counters_->work.fetch_add(bytes);
    return {counters_, &Counters::work, bytes};
  }

  // RESOURCE_EXHAUSTED (LIMIT_EXCEEDED) if the work does not fit; the message begins with `what`.
  absl::StatusOr<Claim> AskForWork(int64_t bytes, absl::string_view what);

  // The same check for a model that cannot be evicted because there is no store. Counts nothing.
  absl::Status CheckModel(int64_t bytes, absl::string_view what) const;

  // Whether models should be evicted.
  bool models_exceed() const { return limited() && models() > model_room(); }

  int64_t models() const { return counters_->models.load(); }
  int64_t work() const { return counters_->work.load(); }

 private:
  bool limited() const { return limits_->memory_limit_bytes > 0; }
  int64_t room() const {
    const int64_t limit = limits_->memory_limit_bytes;
    return std::max(limit - limits_->memory_fixed_bytes, limit / 4);
  }
  int64_t model_room() const { return std::max(room() - work(), room() / 4); }
  absl::Status Refusal(int64_t bytes, int64_t in_use, absl::string_view what) const;

  const base::Limits* const limits_;
  const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_MEMORY_BUDGET_H_
