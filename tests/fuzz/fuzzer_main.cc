// The entry points of libFuzzer. --harness=NAME selects what is fuzzed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/mutator.h"
#include "tests/fuzz/program.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace backprop::fuzz {
namespace {

const Harness* chosen = nullptr;

std::string MutateBytes(std::string bytes, size_t max_size) {
  const size_t size = bytes.size();
  bytes.resize(std::max(max_size, size));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
  return bytes;
}

absl::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

size_t Write(const Program& program, uint8_t* data, size_t max_size) {
  const std::string input = WriteProgram(program).substr(0, max_size);
  std::memcpy(data, input.data(), input.size());
  return input.size();
}

}  // namespace
}  // namespace backprop::fuzz

using namespace backprop::fuzz;  // NOLINT: the functions of libFuzzer are in no namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  absl::string_view name;
  for (int i = 1; i < *argc; ++i) {
    absl::string_view argument = (*argv)[i];
    if (absl::ConsumePrefix(&argument, "--harness=")) name = argument;
  }
  chosen = FindHarness(name);
  if (chosen != nullptr) return 0;
  std::fprintf(stderr, "--harness=NAME is required; the names are:");
  for (const Harness& harness : Harnesses()) std::fprintf(stderr, " %s", harness.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chosen->run(View(data, size));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  // Sometimes the bytes of a program as well, so that its framing is tried.
  if (chosen->type_of == nullptr || seed % 64 == 0) return LLVMFuzzerMutate(data, size, max_size);
  Mutator mutator(chosen->type_of, MutateBytes, seed);
  Program program = ReadProgram(View(data, size));
  for (unsigned int i = 0; i <= seed % 3; ++i) mutator.Change(&program);
  return Write(program, data, max_size);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* data1, size_t size1,
                                            const uint8_t* data2, size_t size2, uint8_t* out,
                                            size_t max_out_size, unsigned int seed) {
  if (chosen->type_of == nullptr) {  // the beginning of one and the end of the other
    const size_t first = std::min(size1 == 0 ? 0 : seed % (size1 + 1), max_out_size);
    const size_t from = size2 == 0 ? 0 : (seed / 7) % size2;
    const size_t second = std::min(size2 - from, max_out_size - first);
    std::memcpy(out, data1, first);
    std::memcpy(out + first, data2 + from, second);
    return first + second;
  }
  Mutator mutator(chosen->type_of, MutateBytes, seed);
  Program program = ReadProgram(View(data1, size1));
  mutator.Cross(ReadProgram(View(data2, size2)), &program);
  return Write(program, out, max_out_size);
}
