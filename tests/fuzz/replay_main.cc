// Runs a harness on files, without libFuzzer, so that every compiler can run the regressions:
//
//   bp_fuzz_replay HARNESS [--seeds] FILE|DIRECTORY…          runs them, after the seeds with
//   --seeds bp_fuzz_replay HARNESS --variants COUNT [SEED [FIRST]]    runs variants of the seeds
//   (1, 0) bp_fuzz_replay HARNESS --write-seeds DIRECTORY            writes the seeds as files
//   bp_fuzz_replay --list                                     names the harnesses
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/variants.h"

namespace backprop::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMostSeconds = 60;  // of one variant

// A file, or all files below a directory in the order of their names. Nothing if there is none.
std::vector<fs::path> FilesOf(const fs::path& path) {
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) return {path};
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool RunFile(const Harness& harness, const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string input((std::istreambuf_iterator<char>(file)), {});
  if (!file) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    return false;
  }
  std::fprintf(stderr, "%s\n", path.c_str());  // the last one that is named has failed
  harness.run(input);
  return true;
}

int WriteSeeds(const Harness& harness, const fs::path& directory) {
  fs::create_directories(directory);
  size_t number = 0;
  for (const std::string& seed : harness.seeds()) {
    std::ofstream file(directory / absl::StrCat("seed-", number++), std::ios::binary);
    file << seed;
    if (!file.flush()) {
      std::fprintf(stderr, "cannot write to %s\n", directory.c_str());
      return 1;
    }
  }
  return 0;
}

// The variant that runs now, for OnFailure().
struct Running {
  const std::string* input = nullptr;
  std::string path;  // where the input is kept if it breaks a property
};
Running running;

// Keeps the input. Calls nothing that a signal handler must not call.
void OnFailure(int signal) {
  const int file = open(running.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ssize_t written = -1;
  if (file >= 0) written = write(file, running.input->data(), running.input->size());
  constexpr char kKept[] = "the input is kept in ";
  if (written >= 0 && write(2, kKept, sizeof kKept - 1) > 0 &&
      write(2, running.path.data(), running.path.size()) > 0) {
    written = write(2, "\n", 1);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

int RunVariants(const Harness& harness, uint32_t count, uint32_t seed, uint32_t first) {
  const Variants variants(&harness, harness.seeds(), seed);
  for (uint32_t i = first; i < first + count; ++i) {
    const std::string input = variants.Draw(i);
    running.path = absl::StrCat("fuzz-", harness.name, "-", seed, "-", i);
    running.input = &input;
    if (i == first) {
      for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) {
        std::signal(signal, OnFailure);
      }
    }
    alarm(kMostSeconds);
    harness.run(input);
  }
  alarm(0);
  std::fprintf(stderr, "%s: %u variants\n", harness.name, count);
  return 0;
}

// Returns false if `text` is not a number.
bool ReadNumber(const std::vector<std::string>& arguments, size_t at, uint32_t* number) {
  return at >= arguments.size() || absl::SimpleAtoi(arguments[at], number);
}

int PrintUsage() {
  std::fprintf(stderr,
               "usage: bp_fuzz_replay HARNESS [--seeds] FILE|DIRECTORY...\n"
               "       bp_fuzz_replay HARNESS --variants COUNT [SEED [FIRST]]\n"
               "       bp_fuzz_replay HARNESS --write-seeds DIRECTORY\n"
               "       bp_fuzz_replay --list\n");
  return 2;
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.size() == 1 && arguments[0] == "--list") {
    for (const Harness& harness : Harnesses()) std::puts(harness.name);
    return 0;
  }
  const Harness* const harness = arguments.empty() ? nullptr : FindHarness(arguments[0]);
  if (harness == nullptr) return PrintUsage();
  if (arguments.size() == 3 && arguments[1] == "--write-seeds") {
    return WriteSeeds(*harness, arguments[2]);
  }
  if (arguments.size() >= 3 && arguments.size() <= 5 && arguments[1] == "--variants") {
    uint32_t count = 0, seed = 1, first = 0;
    if (!ReadNumber(arguments, 2, &count) || !ReadNumber(arguments, 3, &seed) ||
        !ReadNumber(arguments, 4, &first)) {
      return PrintUsage();
    }
    return RunVariants(*harness, count, seed, first);
  }
  size_t count = 0;
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i] == "--seeds") {
      for (const std::string& seed : harness->seeds()) {
        harness->run(seed);
        ++count;
      }
      continue;
    }
    for (const fs::path& file : FilesOf(arguments[i])) {
      if (!RunFile(*harness, file)) return 1;
      ++count;
    }
  }
  std::fprintf(stderr, "%s: %zu inputs\n", harness->name, count);
  return 0;
}

}  // namespace
}  // namespace backprop::fuzz

int main(int argc, char** argv) {
  return backprop::fuzz::Main(std::vector<std::string>(argv + 1, argv + argc));
}
