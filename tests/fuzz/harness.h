// What a fuzz target is, and the list of all targets. docs/fuzzing.md says how they are run.
#ifndef BACKPROP_TESTS_FUZZ_HARNESS_H_
#define BACKPROP_TESTS_FUZZ_HARNESS_H_

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace backprop::fuzz {

// One decoder of untrusted bytes and its properties.
struct Harness {
  const char* name;
  // Decodes one input. Ends the process with a message if a property does not hold.
  void (*run)(absl::string_view input);
  // Small well-formed inputs, with which fuzzing begins. The same at each call, but for random ids.
  std::vector<std::string> (*seeds)();
  // If an input is a program (program.h): the message that a part of this kind contains, or null if
  // its bytes are no message. Null: an input is plain bytes.
  const google::protobuf::Descriptor* (*type_of)(uint8_t kind);
};

// All harnesses, in the order in which scripts/fuzz runs them.
const std::vector<Harness>& Harnesses();
// Null if there is none of that name.
const Harness* FindHarness(absl::string_view name);

// Ends the process. libFuzzer then keeps the input.
[[noreturn]] void Fail(const char* file, int line, const char* property, const std::string& what);

// A property of the code under test. The further arguments are those of absl::StrCat; they are
// evaluated only if the property does not hold.
#define BP_HOLDS(property, ...)                                                         \
  do {                                                                                  \
    if (!(property))                                                                    \
      ::backprop::fuzz::Fail(__FILE__, __LINE__, #property, absl::StrCat(__VA_ARGS__)); \
  } while (false)

// Whether `status` has one of these codes.
inline bool IsOneOf(const absl::Status& status, std::initializer_list<absl::StatusCode> codes) {
  for (const absl::StatusCode code : codes) {
    if (status.code() == code) return true;
  }
  return false;
}

// Whether `status` is OK, or an error about the request: what a decoder of requests may return.
inline bool IsVerdict(const absl::Status& status) {
  return IsOneOf(status, {absl::StatusCode::kOk, absl::StatusCode::kInvalidArgument,
                          absl::StatusCode::kResourceExhausted});
}

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_HARNESS_H_
