// Counts the memory of bodies.
#ifndef BACKPROP_SERVER_HTTP_MEMORY_H_
#define BACKPROP_SERVER_HTTP_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace backprop::http {

// The memory of all bodies together. Thread-safe.
class Memory {
 public:
  // 0: no limit.
  explicit Memory(int64_t limit_bytes) : limit_(limit_bytes) {}

  // One body's share, released with it. Thread-compatible.
  class Claim {
   public:
    explicit Claim(Memory* memory) : memory_(memory) {}
    ~Claim() { memory_->used_.fetch_sub(held_, std::memory_order_relaxed); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    // From now on the claim is for `bytes`; few bytes are not counted. False if that exceeds the
    // limit, in which case the claim keeps its size. A claim that shrinks is never refused, nor is
    // one that is alone.
    bool Resize(size_t bytes) {
      const int64_t wanted = bytes < kUncountedBytes ? 0 : static_cast<int64_t>(bytes);
      const int64_t more = wanted - held_;
      if (more == 0) return true;
      const int64_t before = memory_->used_.fetch_add(more, std::memory_order_relaxed);
      const bool alone = before == held_;
      if (more > 0 && memory_->limit_ > 0 && before + more > memory_->limit_ && !alone) {
        memory_->used_.fetch_sub(more, std::memory_order_relaxed);
        return false;
      }
      held_ = wanted;
      return true;
    }

   private:
    static constexpr size_t kUncountedBytes = 64 << 10;

    Memory* const memory_;
    int64_t held_ = 0;
  };

  int64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_MEMORY_H_
