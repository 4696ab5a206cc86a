// Runs a harness on files, without libFuzzer, so that every compiler can run the regressions:
//
//   bp_fuzz_replay HARNESS [--seeds] FILE|DIRECTORY…   runs them, after the seeds with --seeds
//   bp_fuzz_replay HARNESS --write-seeds DIRECTORY     writes the seeds as files
//   bp_fuzz_replay --list                              names the harnesses
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/harness.h"

namespace backprop::fuzz {
namespace {

namespace fs = std::filesystem;

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

int Main(const std::vector<std::string>& arguments) {
  if (arguments.size() == 1 && arguments[0] == "--list") {
    for (const Harness& harness : Harnesses()) std::puts(harness.name);
    return 0;
  }
  const Harness* const harness = arguments.empty() ? nullptr : FindHarness(arguments[0]);
  if (harness == nullptr) {
    std::fprintf(stderr,
                 "usage: bp_fuzz_replay HARNESS [--seeds] FILE|DIRECTORY...\n"
                 "       bp_fuzz_replay HARNESS --write-seeds DIRECTORY\n"
                 "       bp_fuzz_replay --list\n");
    return 2;
  }
  if (arguments.size() == 3 && arguments[1] == "--write-seeds") {
    return WriteSeeds(*harness, arguments[2]);
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
