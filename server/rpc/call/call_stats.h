// Counts calls by method, project and code, and refusals by reason.
#ifndef BACKPROP_SERVER_RPC_CALL_CALL_STATS_H_
#define BACKPROP_SERVER_RPC_CALL_CALL_STATS_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"

namespace backprop::rpc {

// Number under which calls of a project are counted. The first kMostCountedProjects - 1 names that
// the process asks for get a number each; all later ones share the last number, so that counts are
// bounded. The number of "default" is 0. Takes a lock, so it is called when a caller is made known,
// and not for each call. Thread-safe.
inline constexpr size_t kMostCountedProjects = 256;
size_t CountedProject(absl::string_view name);
// The name of a number that CountedProject() returned; "(other)" for the last number.
std::string CountedProjectName(size_t number);

// Thread-safe, except for Add().
class CallStats {
 public:
  // What is counted of one method.
  class Method {
   public:
    Method(const char* name, size_t index) : name_(name), index_(index) {}
    const char* name() const { return name_; }
    void Begin() { begun_.Add(); }
    // Calls that have begun and not ended.
    int64_t in_flight() const {
      const int64_t ended = times_.values().count();  // first, so that the result is not negative
      return begun_.value() - ended;
    }
    const base::TimeHistogram& times() const { return times_; }

   private:
    friend class CallStats;
    const char* const name_;
    const size_t index_;
    base::Counter begun_;
    base::TimeHistogram times_;
  };

  CallStats() = default;
  ~CallStats();
  CallStats(const CallStats&) = delete;
  CallStats& operator=(const CallStats&) = delete;

  // Adds a method, which lives as long as this object, or finds the one with the same name. All
  // methods must be added before the first call begins.
  Method* Add(const char* name);

  // Counts a call that Begin() was called for. `project`: see CountedProject().
  void End(Method* method, size_t project, absl::StatusCode code, std::chrono::nanoseconds time);

  // Counts `error` under its reason (base::ReasonOf), if it has one. At most kMostReasons reasons
  // are told apart; further ones count as "OTHER". The reasons are constants of the program.
  static constexpr size_t kMostReasons = 128;
  void CountReason(const absl::Status& error);

  const std::deque<Method>& methods() const { return methods_; }
  // Calls that have ended.
  struct Ended {
    const char* method;
    size_t project;
    absl::StatusCode code;
    int64_t calls;  // at least 1
  };
  std::vector<Ended> ended() const;
  std::map<std::string, int64_t> reasons() const;

 private:
  static constexpr size_t kCodes = 17;
  // Calls of one project and of the threads of one shard, by method, then by code.
  struct alignas(base::kCacheLineBytes) Cells {
    std::vector<std::array<std::atomic<int64_t>, kCodes>> calls;
  };
  using Project = std::array<Cells, base::kCounterShards>;

  Project* Get(size_t project);

  std::deque<Method> methods_;
  std::array<std::atomic<Project*>, kMostCountedProjects> projects_{};  // null until first used
  mutable base::Mutex mu_;
  std::map<std::string, int64_t, std::less<>> reasons_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALL_STATS_H_
