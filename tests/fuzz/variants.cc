#include "tests/fuzz/variants.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "tests/fuzz/mutator.h"
#include "tests/fuzz/program.h"

namespace backprop::fuzz {
namespace {

size_t Below(size_t count, std::mt19937* random) {
  return std::uniform_int_distribution<size_t>(0, count - 1)(*random);
}

// Bytes that end numbers, rows and texts, or begin others.
constexpr char kBytes[] = "\0\x01\x7f\x80\xff,\n\r\"'-+.e019{}[]:\\ \t";

// Overwrites, inserts, removes or copies some bytes at one place.
std::string ChangeOnePlace(std::string bytes, std::mt19937* random) {
  const auto below = [&](size_t count) { return Below(count, random); };
  const size_t at = below(bytes.size() + 1);
  const size_t count = 1 + (below(4) == 0 ? below(64) : below(4));
  switch (below(6)) {
    case 0:
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      return bytes;
    case 1:
      if (at < bytes.size()) bytes[at] = kBytes[below(std::size(kBytes) - 1)];
      return bytes;
    case 2:
      return bytes.insert(at, count, kBytes[below(std::size(kBytes) - 1)]);
    case 3:
      return bytes.erase(at, count);
    case 4:
      return bytes.insert(at, bytes.substr(below(bytes.size() + 1), 4 * count));
    default:
      return bytes.substr(0, below(8) == 0 ? at : bytes.size());
  }
}

}  // namespace

std::string Variants::Change(const std::string& input, std::mt19937* random) const {
  const auto change_bytes = [random](std::string bytes, size_t max_size) {
    return ChangeOnePlace(std::move(bytes), random).substr(0, max_size);
  };
  const std::string& other = seeds_[Below(seeds_.size(), random)];
  if (harness_->type_of == nullptr || Below(32, random) == 0) {
    if (Below(8, random) != 0) return change_bytes(input, kMostBytes);
    // The beginning of one and the end of the other.
    return input.substr(0, Below(input.size() + 1, random)) +
           other.substr(Below(other.size() + 1, random));
  }
  Mutator mutator(harness_->type_of, change_bytes, static_cast<uint32_t>((*random)()));
  Program program = ReadProgram(input);
  if (Below(8, random) == 0) {
    mutator.Cross(ReadProgram(other), &program);
  } else {
    mutator.Change(&program);
  }
  return WriteProgram(program);
}

std::string Variants::Draw(uint32_t number) const {
  std::seed_seq sequence{seed_, number};
  std::mt19937 random(sequence);
  std::string input = seeds_[Below(seeds_.size(), &random)];
  const size_t changes = 1 + Below(6, &random);
  for (size_t i = 0; i < changes; ++i) input = Change(input, &random).substr(0, kMostBytes);
  return input;
}

}  // namespace backprop::fuzz
