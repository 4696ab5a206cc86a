// Flips one byte of a small store at a time: the server refuses to start, reports the damaged
// record, or nothing has changed. A wrong answer is never given. BP_FLIPS bytes are tried, spread
// over all files except RocksDB's OPTIONS, which opening does not read; 0: every byte, and every
// 61st of the OPTIONS, which are most of the bytes (scripts/flip).
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/records/tables.h"
#include "server/registry/registry.h"
#include "server/store/rocks_store.h"
#include "tests/engine/cases.h"
#include "tests/session/fixture.h"
#include "tests/temporary_directory.h"

namespace backprop::session {
namespace {

namespace fs = std::filesystem;

constexpr int kHarmless = 0, kWrong = 1, kRefused = 2, kNamed = 3;

engine::NetworkSpec SpecOf(const std::string& id) {
  auto spec = engine::XorSpec(1, engine::DataType::kFloat32);
  if (id == "logged") {  // larger than its batches: its steps are logged
    spec.layers.front().units = 64;
    spec.optimizer.kind = engine::OptimizerKind::kAdam;
  }
  return spec;
}

// A server's sessions on a real store. Runs in a separate process, because RocksDB's threads do not
// fork.
struct Stored {
  explicit Stored(const std::string& directory) {
    store::RocksOptions options;
    options.directory = directory;
    options.schema = records::kSchema;
    options.memory_bytes = 8 << 20;
    auto opened_store = store::OpenRocksStore(options);
    status = opened_store.status();
    if (!status.ok()) return;
    store = *std::move(opened_store);
    environment.store = environment.archive = store.get();
    environment.row_source = &datasets;
    status = datasets.Open().status();
    if (status.ok()) status = registry.Open().status();
  }
  ~Stored() {
    if (store == nullptr) return;
    datasets.Stop();
    registry.Drain();
    pool.reset();
    store::WaitForAnswers(store.get());
  }

  FakeClock
      clock;  // does not advance, because a campaign takes longer than responses are remembered
  std::unique_ptr<exec::ComputePool> pool = std::make_unique<exec::ComputePool>(1);
  std::unique_ptr<store::Store> store;
  Environment environment{pool.get(), &clock, {}, {}, {}, {}, {}};
  datasets::Datasets datasets{&environment, ""};
  Registry registry{&environment};
  absl::Status status;
};

class Access : public SessionFixture {
 public:
  using SessionFixture::Step;
  using SessionFixture::TrainArgsFor;
  using SessionFixture::Values;
  using SessionFixture::WaitFor;
  void TestBody() override {}
};

void MakeModel(Stored* stored, const std::string& id) {
  Registry::CreateArgs args;
  args.info.id = id;
  args.network = std::make_shared<engine::Network>(SpecOf(id));
  args.initial = [network = args.network] { return engine::InitialState(*network); };
  Waiter<std::shared_ptr<Session>> created;
  stored->registry.Create(std::move(args), created.callback());
  const auto session = *created.Wait();
  for (int i = 0; i < 3; ++i) Access::Step(session.get(), {absl::StrCat("r", i), 1}).value();
  Waiter<records::CheckpointPtr> kept;
  session->CreateCheckpoint({"c", {}, [] { return false; }}, kept.callback());
  kept.Wait().value();
  Access::Step(session.get()).value();
  auto train = Access::TrainArgsFor(10);
  Waiter<RunPtr> run;
  session->Train(std::move(train), run.callback());
  Access::WaitFor(*run.Wait());
  Access::Step(session.get()).value();
}

void MakeDataset(Stored* stored) {
  const auto info = *stored->datasets.BeginUpload({"d", "r", engine::DataType::kFloat32, {}});
  datasets::Datasets::AppendArgs append;
  append.uid = info.uid;
  append.rows = engine::XorData(20, 1, engine::DataType::kFloat32);
  append.check = [](const auto&, auto*, auto*) { return absl::OkStatus(); };
  Waiter<records::DatasetInfo> appended, complete;
  stored->datasets.Append(std::move(append), appended.callback());
  appended.Wait().value();
  stored->datasets.Complete(info.uid, 20, complete.callback());
  complete.Wait().value();
}

// All responses as text; DATA_LOSS for those that are rejected as damaged.
std::map<std::string, std::string> Ask(Stored* stored) {
  std::map<std::string, std::string> answers;
  const auto note = [&](const std::string& what, const absl::Status& status, std::string answer) {
    answers[what] = status.ok()                ? std::move(answer)
                    : absl::IsDataLoss(status) ? "DATA_LOSS"
                                               : "REFUSED " + status.ToString();
  };
  const auto text = [](const engine::State& state) {
    std::string numbers = absl::StrCat(state.step, ":", state.optimizer_step);
    for (const double value : Access::Values(state)) absl::StrAppend(&numbers, " ", value);
    return numbers;
  };
  for (const std::string id : {"plain", "logged"}) {
    const auto session = FindIn(&stored->registry, id);
    note(id, session.status(), session.ok() ? text(*(*session)->Read()) : "");
    if (!session.ok()) continue;
    const auto run = (*session)->FindRun(0);
    note(id + " run", run.status(), run.ok() ? (*run)->name() : "");
    // The response to a retry, then a checkpoint.
    const auto again = Access::Step(session->get(), {"r1", 1});
    note(id + " retry", again.status(), again.ok() ? absl::StrCat(again->step) : "");
    Waiter<int64_t> restored;
    (*session)->RestoreCheckpoint({"c", {}, [] { return false; }}, {}, restored.callback());
    note(id + " checkpoint", restored.Wait().status(),
         restored.Wait().ok() ? text(*(*session)->Read()) : "");
  }
  records::ModelInfo model;
  Waiter<RowsInUse> rows;
  stored->datasets.Use("d", model, engine::Network(SpecOf("plain")), "dataset", rows.callback());
  std::string numbers;
  if (rows.Wait().ok()) {
    for (const double value : engine::ToDoubles(rows.Wait()->rows->inputs, 0, 40)) {
      absl::StrAppend(&numbers, " ", value);
    }
    for (const int32_t c : rows.Wait()->rows->classes) absl::StrAppend(&numbers, " ", c);
  }
  note("dataset", rows.Wait().status(), numbers);
  return answers;
}

int Examine(const std::string& directory, const std::map<std::string, std::string>& expected) {
  Stored stored(directory);
  if (!stored.status.ok()) return kRefused;
  int result = kHarmless;
  for (const auto& [what, answer] : Ask(&stored)) {
    if (answer == expected.at(what)) continue;
    if (answer == "DATA_LOSS") {
      result = kNamed;
      continue;
    }
    std::fprintf(stderr, "%s: %s\n", what.c_str(), answer.substr(0, 300).c_str());
    return kWrong;
  }
  return result;
}

// Runs `work` in a separate process; returns its exit status, or -signal.
template <class Work>
int InChild(const Work& work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(FlippedBytesTest, AreDetectedOrHarmless) {
  TemporaryDirectory directory;
  const fs::path original = directory.path() + "/original";
  const std::string answers = directory.path() + "/answers";
  ASSERT_EQ(InChild([&] {
              Stored stored(original);
              MakeModel(&stored, "plain");
              MakeDataset(&stored);
              return 0;  // stopped: the data is in tables
            }),
            0);
  ASSERT_EQ(InChild([&]() -> int {
              Stored stored(original);
              MakeModel(&stored, "logged");
              _exit(0);  // killed: the data is in the log
            }),
            0);
  ASSERT_EQ(InChild([&] {
              fs::copy(original, directory.path() + "/asked", fs::copy_options::recursive);
              Stored stored(directory.path() + "/asked");
              std::ofstream file(answers);
              for (const auto& [what, answer] : Ask(&stored))
                file << what << "\n" << answer << "\n";
              return stored.status.ok() ? 0 : 1;
            }),
            0);
  std::map<std::string, std::string> expected;
  std::ifstream file(answers);
  for (std::string what, answer; std::getline(file, what) && std::getline(file, answer);) {
    EXPECT_NE(answer, "DATA_LOSS") << what;
    EXPECT_EQ(answer.find("REFUSED"), std::string::npos) << what << ": " << answer;
    expected[what] = answer;
  }
  ASSERT_EQ(expected.size(), 9u);

  const char* const wanted = std::getenv("BP_FLIPS");
  const size_t flips = wanted == nullptr ? 100 : static_cast<size_t>(std::atoll(wanted));
  std::set<fs::path> read, unread;
  uintmax_t logged = 0;
  for (const auto& entry : fs::directory_iterator(original)) {
    const std::string name = entry.path().filename();
    (name.rfind("OPTIONS", 0) == 0 ? unread : read).insert(name);
    if (entry.path().extension() == ".log") logged += entry.file_size();
  }
  ASSERT_GT(logged, 1000u);
  std::vector<std::pair<fs::path, int64_t>> bytes;
  const auto add = [&](const std::set<fs::path>& names, int64_t every) {
    for (const fs::path& name : names) {
      const auto size = static_cast<int64_t>(fs::file_size(original / name));
      for (int64_t at = 0; at < size; at += every) bytes.emplace_back(name, at);
    }
  };
  add(read, 1);
  if (flips == 0) add(unread, 61);
  const size_t stride = flips == 0 ? 1 : std::max<size_t>(1, bytes.size() / flips);
  std::map<fs::path, std::map<int, int>> outcomes;
  const std::string copy = directory.path() + "/copy";
  // Several processes can divide the work: BP_FLIP_PART of BP_FLIP_PARTS.
  const char* const part = std::getenv("BP_FLIP_PART");
  const char* const parts = std::getenv("BP_FLIP_PARTS");
  const size_t all_parts = parts == nullptr ? 1 : static_cast<size_t>(std::atoll(parts));
  const size_t mine = part == nullptr ? 0 : static_cast<size_t>(std::atoll(part));
  const size_t apart = stride * all_parts;
  for (size_t i = mine * stride; i < bytes.size(); i += apart) {
    const auto& [name, at] = bytes[i];
    fs::remove_all(copy);
    fs::copy(original, copy, fs::copy_options::recursive);
    {
      std::fstream flipped(fs::path(copy) / name, std::ios::in | std::ios::out | std::ios::binary);
      flipped.seekg(at);
      const char byte = static_cast<char>(flipped.get() ^ (1 << (i % 8)));
      flipped.seekp(at);
      flipped.put(byte);
    }
    const int outcome = InChild([&] { return Examine(copy, expected); });
    std::map<int, int>& of_file = outcomes[name];
    ++of_file[outcome];
    EXPECT_NE(outcome, kWrong) << name << " byte " << at;
    // Debian's RocksDB has assertions enabled, which may abort the process: that is not a wrong
    // answer.
    EXPECT_TRUE(outcome >= 0 || outcome == -SIGABRT) << name << " byte " << at << ": " << outcome;
    if (i + apart < bytes.size() && bytes[i + apart].first == name) continue;
    std::printf(
        "%s: %d flips harmless, %d named as DATA_LOSS, %d refused at the start, %d ended by an "
        "assertion of RocksDB's\n",
        name.c_str(), of_file[kHarmless], of_file[kNamed], of_file[kRefused], of_file[-SIGABRT]);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace backprop::session
