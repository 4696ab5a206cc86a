// Sends more calls to a running server than it can answer, and measures what becomes of them.
//
//   bp_overload --address HOST:PORT --pid PID --token TOKEN --token TOKEN [--work-ms N]
//               [--seconds N] [--quick] [--check]
//
// The tokens are of writers of two projects. Calls are Steps of about --work-ms milliseconds on
// several models. They arrive at random times that do not depend on the responses (open loop), and
// latencies count from the time at which a call was due, so that a slow server or generator cannot
// hide a wait. Prints a table, then the figures that matter as ratios of the same run. --quick:
// short, to see that it works. --check: exits with 1 if a figure misses its target. Everything is
// bounded: the time of a phase, the calls in flight, and the deadline of each call.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backprop/v1/training_service.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/bench/figures.h"

namespace backprop::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Span = std::chrono::duration<double>;

struct Settings {
  std::string address;
  int64_t pid = 0;
  std::vector<std::string> tokens;
  double work_ms = 25;
  double seconds = 12;  // of a phase
  bool quick = false;
  bool check = false;
};

constexpr int kProjects = 2;
constexpr int kModels = 4;        // of each project
constexpr int kConnections = 10;  // of each project; the server allows 100 calls on each
constexpr int64_t kMostInFlight = 2000;
constexpr auto kDeadline = std::chrono::seconds(20);
constexpr int kInputs = 16;  // few, so that the work is large and the request is small
constexpr int kUnits = 1024;

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "bp_overload: %s\n", why.c_str());
  std::exit(2);
}

int64_t ResidentBytes(int64_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

bool IsOverloaded(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return false;
  google::rpc::ErrorInfo info;
  for (const auto& any : details.details()) {
    if (any.UnpackTo(&info)) return info.reason() == "OVERLOADED";
  }
  return false;
}

// What became of a call.
enum class End { kAnswered, kRefused, kFailed };
struct Outcome {
  int project;
  double due;    // seconds since the begin of the phase
  double ended;  // the same
  End end;
};

// The outcomes of the calls of a phase. Thread-safe.
class Outcomes {
 public:
  void Begin() { ++in_flight_; }
  void Add(const Outcome& outcome, const grpc::Status& status) {
    const std::lock_guard lock(mu_);
    all_.push_back(outcome);
    if (outcome.end == End::kFailed && first_error_.empty()) first_error_ = status.error_message();
    --in_flight_;
    changed_.notify_all();
  }
  int64_t in_flight() const { return in_flight_; }
  std::vector<Outcome> Wait() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return in_flight_ == 0; });
    return std::move(all_);
  }
  std::string first_error() {
    const std::lock_guard lock(mu_);
    return first_error_;
  }

 private:
  std::atomic<int64_t> in_flight_{0};
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Outcome> all_;
  std::string first_error_;
};

// The connections of one project and the step that it makes.
class Project {
 public:
  Project(const Settings& settings, int number)
      : number_(number), credentials_("Bearer " + settings.tokens[static_cast<size_t>(number)]) {
    for (int i = 0; i < kConnections; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // each call is one call
      stubs_.push_back(v1::TrainingService::NewStub(grpc::CreateCustomChannel(
          settings.address, grpc::InsecureChannelCredentials(), arguments)));
    }
    for (int i = 0; i < kModels; ++i) CreateModel(ModelId(i));
    SetRows(16);
  }

  void SetRows(int rows) {
    steps_.assign(kModels, {});
    for (int m = 0; m < kModels; ++m) {
      v1::StepRequest& step = steps_[static_cast<size_t>(m)];
      step.set_model("models/" + ModelId(m));
      const std::vector<float> inputs(static_cast<size_t>(rows * kInputs), 0.5F);
      step.mutable_batch()->mutable_inputs()->set_raw(inputs.data(), inputs.size() * sizeof(float));
      step.mutable_batch()->mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
      for (int i = 0; i < rows; ++i) step.mutable_batch()->mutable_labels()->add_values(i % 2);
    }
  }

  // Seconds of one step, when nothing else happens.
  double StepSeconds() {
    grpc::ClientContext context;
    Prepare(&context);
    v1::StepResponse response;
    grpc::Status status;
    const double seconds =
        Seconds([&] { status = stubs_[0]->Step(&context, steps_[0], &response); });
    if (!status.ok()) Fail("Step: " + status.error_message());
    return seconds;
  }

  // Starts a call; `then` is called after its outcome was added.
  template <class Then>
  void Start(Clock::time_point phase, Clock::time_point due, Outcomes* outcomes, Then then) {
    struct Call {
      grpc::ClientContext context;
      v1::StepResponse response;
    };
    auto* const call = new Call;
    Prepare(&call->context);
    outcomes->Begin();
    const auto turn = static_cast<size_t>(started_++);
    stubs_[turn % kConnections]->async()->Step(
        &call->context, &steps_[turn % kModels], &call->response,
        [this, call, phase, due, outcomes, then](const grpc::Status& status) {
          const End end = status.ok()            ? End::kAnswered
                          : IsOverloaded(status) ? End::kRefused
                                                 : End::kFailed;
          delete call;
          const Span at = due - phase, ended = Clock::now() - phase;
          then(end);
          outcomes->Add({number_, at.count(), ended.count(), end}, status);
        });
  }

 private:
  static std::string ModelId(int number) { return "overload-" + std::to_string(number); }

  void Prepare(grpc::ClientContext* context) const {
    context->AddMetadata("authorization", credentials_);
    context->set_deadline(std::chrono::system_clock::now() + kDeadline);
  }

  void CreateModel(const std::string& id) {
    v1::CreateModelRequest request;
    request.set_model_id(id);
    request.mutable_spec()->set_input_size(kInputs);
    for (const int units : {kUnits, kUnits, 2})
      request.mutable_spec()->add_layers()->set_units(units);
    request.mutable_spec()->mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-4);
    grpc::ClientContext context;
    Prepare(&context);
    v1::CreateModelResponse response;
    const grpc::Status status = stubs_[0]->CreateModel(&context, request, &response);
    if (!status.ok()) Fail("CreateModel: " + status.error_message());
  }

  const int number_;
  const std::string credentials_;
  std::vector<std::unique_ptr<v1::TrainingService::Stub>> stubs_;
  std::vector<v1::StepRequest> steps_;
  std::atomic<int64_t> started_{0};
};

using Projects = std::vector<std::unique_ptr<Project>>;

// The largest resident memory of the server while this object exists.
class MemoryWatch {
 public:
  explicit MemoryWatch(int64_t pid)
      : thread_([this, pid] {
          while (!stop_) {
            most_ = std::max<int64_t>(most_, ResidentBytes(pid));
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
          }
        }) {}
  ~MemoryWatch() {
    stop_ = true;
    thread_.join();
  }
  double megabytes() const { return static_cast<double>(most_) / (1 << 20); }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> most_{0};
  std::thread thread_;
};

// The figures of one project, or of all, in the steady part of a phase.
struct Figures {
  double sent = 0, answered = 0, refused = 0;  // per second
  double p50_ms = 0, p99_ms = 0;               // of answered calls
  double refused_p50_ms = 0, refused_p99_ms = 0, refused_max_ms = 0;
  int64_t failed = 0;
};

Figures FiguresOf(const std::vector<Outcome>& outcomes, int project, double from, double to) {
  std::vector<double> answered, refused;
  Figures figures;
  for (const Outcome& call : outcomes) {
    if ((project >= 0 && call.project != project) || call.due < from || call.due >= to) continue;
    figures.sent += 1 / (to - from);
    const double ms = 1e3 * (call.ended - call.due);
    if (call.end == End::kAnswered) answered.push_back(ms);
    if (call.end == End::kRefused) refused.push_back(ms);
    if (call.end == End::kFailed) ++figures.failed;
  }
  // The throughput: calls that ended in this time, whenever they were due.
  const auto counts = [&](const Outcome& call) {
    return (project < 0 || call.project == project) && call.end == End::kAnswered &&
           call.ended >= from && call.ended < to;
  };
  figures.answered =
      static_cast<double>(std::count_if(outcomes.begin(), outcomes.end(), counts)) / (to - from);
  figures.refused = static_cast<double>(refused.size()) / (to - from);
  if (!answered.empty()) {
    figures.p50_ms = Quantile(answered, 0.5);
    figures.p99_ms = Quantile(answered, 0.99);
  }
  if (!refused.empty()) {
    figures.refused_p50_ms = Quantile(refused, 0.5);
    figures.refused_p99_ms = Quantile(refused, 0.99);
    figures.refused_max_ms = Quantile(refused, 1);
  }
  return figures;
}

// Calls per second with a fixed number of calls in flight: the most that the server can do.
double MeasureCapacity(const Settings& settings, const Projects& projects) {
  constexpr int kInFlight = 6;  // of each project; so few are never refused
  Outcomes outcomes;
  const auto begin = Clock::now();
  std::atomic<bool> stop{false};
  std::function<void(Project*)> next = [&](Project* project) {
    const auto now = Clock::now();
    project->Start(begin, now, &outcomes, [&, project](End) {
      if (!stop) next(project);
    });
  };
  for (const auto& project : projects) {
    for (int i = 0; i < kInFlight; ++i) next(project.get());
  }
  std::this_thread::sleep_for(Span(settings.seconds));
  stop = true;
  const auto all = outcomes.Wait();
  const double warm_up = settings.seconds / 6;
  const Figures figures = FiguresOf(all, -1, warm_up, settings.seconds);
  if (figures.failed > 0) Fail("a call failed: " + outcomes.first_error());
  std::printf("Capacity: %.1f calls/s with %d in flight, p50 %.1f ms, p99 %.1f ms\n\n",
              figures.answered, kInFlight * kProjects, figures.p50_ms, figures.p99_ms);
  if (figures.answered <= 0) Fail("the server answered no call");
  return figures.answered;
}

struct Phase {
  std::string name;
  double rates[kProjects];  // calls per second
};

struct Measured {
  Figures all;
  Figures of[kProjects];
  double memory_mb = 0;
};

// The times at which the calls of a phase are due, in order, each with its project.
std::vector<std::pair<double, int>> Arrivals(const Phase& phase, double seconds) {
  std::mt19937 random(1);
  std::vector<std::pair<double, int>> arrivals;
  for (int project = 0; project < kProjects; ++project) {
    std::exponential_distribution<double> gap(phase.rates[project]);
    for (double at = gap(random); at < seconds; at += gap(random))
      arrivals.emplace_back(at, project);
  }
  std::sort(arrivals.begin(), arrivals.end());
  return arrivals;
}

Measured Run(const Settings& settings, const Projects& projects, const Phase& phase) {
  Outcomes outcomes;
  const MemoryWatch memory(settings.pid);
  int64_t left_out = 0;
  const auto begin = Clock::now();
  for (const auto& [at, project] : Arrivals(phase, settings.seconds)) {
    const auto due = begin + std::chrono::duration_cast<Clock::duration>(Span(at));
    std::this_thread::sleep_until(due);
    if (outcomes.in_flight() >= kMostInFlight) {
      ++left_out;
      continue;
    }
    projects[static_cast<size_t>(project)]->Start(begin, due, &outcomes, [](End) {});
  }
  const auto all = outcomes.Wait();
  const double warm_up = settings.seconds / 6;
  Measured measured;
  measured.all = FiguresOf(all, -1, warm_up, settings.seconds);
  for (int p = 0; p < kProjects; ++p) {
    measured.of[p] = FiguresOf(all, p, warm_up, settings.seconds);
  }
  measured.memory_mb = memory.megabytes();
  if (measured.all.failed > 0) {
    std::printf("%s: %s\n", phase.name.c_str(), outcomes.first_error().c_str());
  }
  if (left_out > 0) {
    std::printf("%s: %lld calls were not sent, because %lld were in flight\n", phase.name.c_str(),
                static_cast<long long>(left_out), static_cast<long long>(kMostInFlight));
  }
  return measured;
}

void PrintHead() {
  std::printf(
      "| load | sent/s | answered/s | of the peak | p50 ms | p99 ms | refused/s | refused p50, "
      "p99, "
      "max ms | failed | resident MB |\n|---|---|---|---|---|---|---|---|---|---|\n");
}

void PrintRow(const std::string& name, const Figures& f, double peak, double memory_mb) {
  std::printf("| %s | %.1f | %.1f | %.2f | %.1f | %.1f | %.1f | %.1f, %.1f, %.1f | %lld | %.0f |\n",
              name.c_str(), f.sent, f.answered, f.answered / peak, f.p50_ms, f.p99_ms, f.refused,
              f.refused_p50_ms, f.refused_p99_ms, f.refused_max_ms,
              static_cast<long long>(f.failed), memory_mb);
  std::fflush(stdout);
}

// Prints a figure with its target, and returns whether it is met.
bool Compare(const char* what, double value, bool met, const char* target) {
  std::printf("%-62s %8.2f  %s%s\n", what, value, target, met ? "" : "  MISSED");
  return met;
}

struct Results {
  double peak = 0;
  Measured half, full, twice, tenfold, uneven, after;
};

// Returns whether everything that must hold holds.
bool Judge(const Settings& settings, const Results& r) {
  const Figures& ten = r.tenfold.all;
  std::printf("\nAt ten times the capacity, in this run:\n");
  bool met =
      Compare("throughput / peak", ten.answered / r.peak, ten.answered >= 0.9 * r.peak, ">= 0.90");
  met &= Compare("p99 / p99 at the capacity", ten.p99_ms / r.full.all.p99_ms,
                 ten.p99_ms <= 2 * r.full.all.p99_ms, "<= 2.00");
  Compare("p99 / p99 at half the capacity", ten.p99_ms / r.half.all.p99_ms, true, "");
  met &= Compare("refused calls: p99, ms", ten.refused_p99_ms, ten.refused_p99_ms <= 10, "<= 10");
  Compare("resident memory - resident memory at half the capacity, MB",
          r.tenfold.memory_mb - r.half.memory_mb, true, "");
  const Figures& calm = r.uneven.of[1];
  met &= Compare("beside a project at ten times: p99 / p99 at the capacity",
                 calm.p99_ms / r.full.all.p99_ms, calm.p99_ms <= 2 * r.full.all.p99_ms, "<= 2.00");
  // These hold on any machine, also in a short run.
  bool sound =
      Compare("calls that failed otherwise, all phases",
              static_cast<double>(r.half.all.failed + r.full.all.failed + r.twice.all.failed +
                                  ten.failed + r.uneven.all.failed + r.after.all.failed),
              r.half.all.failed + r.full.all.failed + r.twice.all.failed + ten.failed +
                      r.uneven.all.failed + r.after.all.failed ==
                  0,
              "0");
  sound &= Compare("refused/s at ten times", ten.refused, ten.refused > r.peak, "> peak");
  sound &= Compare("refused/s at half the capacity, after it", r.after.all.refused,
                   r.after.all.refused <= 0.02 * r.peak, "about 0");
  return sound && (met || settings.quick);
}

// Chooses the number of rows so that a step takes as long as it should.
void Calibrate(const Settings& settings, const Projects& projects) {
  int rows = 16;
  for (int round = 0; round < 3; ++round) {
    for (const auto& project : projects) project->SetRows(rows);
    std::vector<double> seconds;
    for (int i = 0; i < 7; ++i) seconds.push_back(projects[0]->StepSeconds());
    const double factor = settings.work_ms / 1e3 / Quantile(seconds, 0.5);
    if (round < 2)
      rows = static_cast<int>(std::clamp(rows * factor, 1.0, 20'000.0));
    else
      std::printf("A call: Step of %d rows, %.1f ms alone.\n", rows, 1e3 * Quantile(seconds, 0.5));
  }
}

int Main(const Settings& settings) {
  Projects projects;
  for (int i = 0; i < kProjects; ++i) projects.push_back(std::make_unique<Project>(settings, i));
  Calibrate(settings, projects);
  Results results;
  const double peak = results.peak = MeasureCapacity(settings, projects);
  struct Planned {
    Phase phase;
    Measured* result;
  };
  const Planned plan[] = {{{"0.5 x", {0.25 * peak, 0.25 * peak}}, &results.half},
                          {{"1 x", {0.5 * peak, 0.5 * peak}}, &results.full},
                          {{"2 x", {peak, peak}}, &results.twice},
                          {{"10 x", {5 * peak, 5 * peak}}, &results.tenfold},
                          {{"10 x and 0.2 x", {10 * peak, 0.2 * peak}}, &results.uneven},
                          {{"0.5 x again", {0.25 * peak, 0.25 * peak}}, &results.after}};
  PrintHead();
  for (const Planned& planned : plan) {
    *planned.result = Run(settings, projects, planned.phase);
    PrintRow(planned.phase.name, planned.result->all, peak, planned.result->memory_mb);
  }
  PrintRow("the 10 x of both", results.uneven.of[0], peak, results.uneven.memory_mb);
  PrintRow("the 0.2 x of both", results.uneven.of[1], peak, results.uneven.memory_mb);
  const bool met = Judge(settings, results);
  return met || !settings.check ? 0 : 1;
}

Settings Parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quick") {
      settings.quick = true;
      settings.seconds = 2;
      continue;
    }
    if (flag == "--check") {
      settings.check = true;
      continue;
    }
    if (i + 1 == argc) Fail(flag + " needs a value");
    const std::string value = argv[++i];
    if (flag == "--address") {
      settings.address = value;
    } else if (flag == "--pid") {
      settings.pid = std::atoll(value.c_str());
    } else if (flag == "--token") {
      settings.tokens.push_back(value);
    } else if (flag == "--work-ms") {
      settings.work_ms = std::clamp(std::atof(value.c_str()), 1.0, 1000.0);
    } else if (flag == "--seconds") {
      settings.seconds = std::clamp(std::atof(value.c_str()), 1.0, 300.0);
    } else {
      Fail("unknown flag " + flag);
    }
  }
  if (settings.address.empty() || settings.pid == 0 || settings.tokens.size() != kProjects) {
    Fail("--address, --pid and two times --token are required");
  }
  return settings;
}

}  // namespace
}  // namespace backprop::bench

int main(int argc, char** argv) {
  return backprop::bench::Main(backprop::bench::Parse(argc, argv));
}
