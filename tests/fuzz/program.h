// An input that consists of parts: messages, pieces of a file, or actions. Every sequence of bytes
// is a program.
#ifndef BACKPROP_TESTS_FUZZ_PROGRAM_H_
#define BACKPROP_TESTS_FUZZ_PROGRAM_H_

#include <google/protobuf/message.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace backprop::fuzz {

// The kind has a meaning of its own in each harness.
struct Part {
  uint8_t kind = 0;
  std::string bytes;
};
using Program = std::vector<Part>;

inline constexpr size_t kMaxPartBytes = 0xffff;
inline constexpr size_t kMaxParts = 64;

// A part is written as its kind (1 byte), its length (2 bytes, little-endian) and its bytes.
// Reading ends after kMaxParts parts; the last part may be shorter than its length says.
inline Program ReadProgram(absl::string_view input) {
  Program program;
  while (input.size() >= 3 && program.size() < kMaxParts) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(input[i]); };
    const size_t length = byte(1) | static_cast<size_t>(byte(2)) << 8;
    Part part{byte(0), std::string(input.substr(3, length))};
    input.remove_prefix(3 + part.bytes.size());
    program.push_back(std::move(part));
  }
  return program;
}

// Longer parts are cut.
inline std::string WriteProgram(const Program& program) {
  std::string input;
  for (const Part& part : program) {
    const size_t length = std::min(part.bytes.size(), kMaxPartBytes);
    input.push_back(static_cast<char>(part.kind));
    input.push_back(static_cast<char>(length & 0xff));
    input.push_back(static_cast<char>(length >> 8));
    input.append(part.bytes, 0, length);
  }
  return input;
}

inline Part PartOf(uint8_t kind, const google::protobuf::MessageLite& message) {
  return {kind, message.SerializeAsString()};
}

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_PROGRAM_H_
