#include "server/rpc/goaway.h"

#include <grpcpp/version_info.h>

#include <algorithm>
#include <climits>
#include <cstdint>

#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR == 51
#define BACKPROP_GOAWAY_WORKS 1
#include <grpc/event_engine/event_engine.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "server/base/mutex.h"
#else
#define BACKPROP_GOAWAY_WORKS 0
#endif

namespace backprop::rpc {

bool Goaway::Works() { return BACKPROP_GOAWAY_WORKS != 0; }

#if BACKPROP_GOAWAY_WORKS

namespace {

using grpc_event_engine::experimental::EndpointConfig;
using grpc_event_engine::experimental::EventEngine;
using grpc_event_engine::experimental::MemoryAllocator;
using grpc_event_engine::experimental::MemoryAllocatorFactory;

// The age that gRPC is told: 22 days, which no flag can set and no other timer has. gRPC varies it
// by up to 10 % and takes milliseconds in an int.
constexpr std::chrono::milliseconds kToldAge(1'900'000'000);
constexpr EventEngine::Duration kShortest = kToldAge * 89 / 100;
constexpr EventEngine::Duration kLongest = kToldAge * 111 / 100;

// The timers of the age of all connections. Thread-safe.
class AgeTimers {
 public:
  void set_age(absl::Duration age) {
    const base::MutexLock lock(&mu_);
    age_ = age;
  }

  static bool IsAge(EventEngine::Duration when) { return kShortest <= when && when <= kLongest; }

  // `closure` runs once, unless Cancel returns true for the result.
  EventEngine::TaskHandle Add(EventEngine::Duration when, EventEngine::Closure* closure,
                              const std::shared_ptr<EventEngine>& engine) {
    const base::MutexLock lock(&mu_);
    const int64_t id = ++last_id_;
    Timer timer{closure, engine, std::nullopt};
    const double part = static_cast<double>(when.count()) /
                        static_cast<double>(EventEngine::Duration(kToldAge).count());
    const absl::Duration age = goaways_ > 0 ? absl::ZeroDuration() : part * age_;
    if (age != absl::InfiniteDuration()) {
      timer.handle =
          engine->RunAfter(absl::ToChronoNanoseconds(age), [this, id] { RunClosure(Take(id)); });
    }
    timers_.emplace(id, std::move(timer));
    return {{reinterpret_cast<intptr_t>(this), static_cast<intptr_t>(id)}};
  }

  bool IsOurs(EventEngine::TaskHandle handle) const {
    return handle.keys[0] == reinterpret_cast<intptr_t>(this);
  }
  bool Cancel(EventEngine::TaskHandle handle) {
    const std::optional<Timer> timer = Take(handle.keys[1]);
    if (timer.has_value() && timer->handle.has_value()) timer->engine->Cancel(*timer->handle);
    return timer.has_value();
  }

  void BeginGoaway() {
    std::unordered_map<int64_t, Timer> timers;
    {
      const base::MutexLock lock(&mu_);
      ++goaways_;
      timers.swap(timers_);
    }
    for (const auto& [id, timer] : timers) {
      if (timer.handle.has_value()) timer.engine->Cancel(*timer.handle);
      RunClosure(timer);
    }
  }
  void EndGoaway() {
    const base::MutexLock lock(&mu_);
    --goaways_;
  }

 private:
  struct Timer {
    EventEngine::Closure* closure;                  // gRPC's
    std::shared_ptr<EventEngine> engine;            // where `handle` is from
    std::optional<EventEngine::TaskHandle> handle;  // none: the age is infinite
  };

  // The caller must run or drop the closure of the timer; no other thread finds it.
  std::optional<Timer> Take(int64_t id) {
    const base::MutexLock lock(&mu_);
    const auto found = timers_.find(id);
    if (found == timers_.end()) return std::nullopt;
    std::optional<Timer> taken = std::move(found->second);
    timers_.erase(found);
    return taken;
  }
  static void RunClosure(const std::optional<Timer>& timer) {
    if (timer.has_value()) timer->closure->Run();
  }

  base::Mutex mu_;
  absl::Duration age_ ABSL_GUARDED_BY(mu_) = absl::InfiniteDuration();
  int goaways_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::unordered_map<int64_t, Timer> timers_ ABSL_GUARDED_BY(mu_);
};

// Never destroyed, because gRPC's threads may outlive static objects.
AgeTimers& Timers() {
  static auto* const timers = new AgeTimers;
  return *timers;
}

// Passes everything to another engine, but the timers of the age.
class AgeEngine final : public EventEngine {
 public:
  explicit AgeEngine(std::shared_ptr<EventEngine> engine) : engine_(std::move(engine)) {}

  absl::StatusOr<std::unique_ptr<Listener>> CreateListener(
      Listener::AcceptCallback on_accept, absl::AnyInvocable<void(absl::Status)> on_shutdown,
      const EndpointConfig& config,
      std::unique_ptr<MemoryAllocatorFactory> memory_allocator_factory) override {
    return engine_->CreateListener(std::move(on_accept), std::move(on_shutdown), config,
                                   std::move(memory_allocator_factory));
  }
  ConnectionHandle Connect(OnConnectCallback on_connect, const ResolvedAddress& address,
                           const EndpointConfig& config, MemoryAllocator memory_allocator,
                           Duration timeout) override {
    return engine_->Connect(std::move(on_connect), address, config, std::move(memory_allocator),
                            timeout);
  }
  bool CancelConnect(ConnectionHandle handle) override { return engine_->CancelConnect(handle); }
  bool IsWorkerThread() override { return engine_->IsWorkerThread(); }
  std::unique_ptr<DNSResolver> GetDNSResolver(
      const DNSResolver::ResolverOptions& options) override {
    return engine_->GetDNSResolver(options);
  }
  void Run(Closure* closure) override { engine_->Run(closure); }
  void Run(absl::AnyInvocable<void()> closure) override { engine_->Run(std::move(closure)); }
  TaskHandle RunAfter(Duration when, Closure* closure) override {
    if (AgeTimers::IsAge(when)) return Timers().Add(when, closure, engine_);
    return engine_->RunAfter(when, closure);
  }
  TaskHandle RunAfter(Duration when, absl::AnyInvocable<void()> closure) override {
    return engine_->RunAfter(when, std::move(closure));
  }
  bool Cancel(TaskHandle handle) override {
    return Timers().IsOurs(handle) ? Timers().Cancel(handle) : engine_->Cancel(handle);
  }

 private:
  const std::shared_ptr<EventEngine> engine_;
};

// Does its work once per process. The factory cannot call CreateEventEngine, which calls the
// factory, so all engines share one of gRPC's, which is never destroyed.
void UseAgeEngine() {
  static std::once_flag once;
  std::call_once(once, [] {
    const std::shared_ptr<EventEngine> engine =
        grpc_event_engine::experimental::CreateEventEngine();
    grpc_event_engine::experimental::SetEventEngineFactory(
        [engine] { return std::make_unique<AgeEngine>(engine); });
  });
}

}  // namespace

void SetMaxConnectionAge(absl::Duration age, grpc::ServerBuilder* builder) {
  UseAgeEngine();
  Timers().set_age(age);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(kToldAge.count()));
}

Goaway::Goaway() { Timers().BeginGoaway(); }
Goaway::~Goaway() { Timers().EndGoaway(); }

#else

void SetMaxConnectionAge(absl::Duration age, grpc::ServerBuilder* builder) {
  const int64_t milliseconds = std::min<int64_t>(absl::ToInt64Milliseconds(age), INT_MAX);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(milliseconds));
}

Goaway::Goaway() = default;
Goaway::~Goaway() = default;

#endif

}  // namespace backprop::rpc
