// Changes programs (program.h) so that most of them stay well-formed.
#ifndef BACKPROP_TESTS_FUZZ_MUTATOR_H_
#define BACKPROP_TESTS_FUZZ_MUTATOR_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "tests/fuzz/program.h"

namespace backprop::fuzz {

// Thread-compatible.
class Mutator {
 public:
  // Changes bytes as libFuzzer does; the result has at most `max_size` bytes.
  using MutateBytes = std::function<std::string(std::string bytes, size_t max_size)>;
  // As Harness::type_of.
  using TypeOf = std::function<const google::protobuf::Descriptor*(uint8_t kind)>;

  Mutator(TypeOf type_of, MutateBytes mutate_bytes, uint32_t seed)
      : type_of_(std::move(type_of)), mutate_bytes_(std::move(mutate_bytes)), random_(seed) {}

  // Makes one change: adds, removes, repeats or moves a part, changes its kind, its bytes, or one
  // field of its message.
  void Change(Program* program);
  // Joins some parts of both programs, or gives a message of `program` a field from `other`.
  void Cross(const Program& other, Program* program);

 private:
  size_t Below(size_t count) {
    return std::uniform_int_distribution<size_t>(0, count - 1)(random_);
  }
  bool OneIn(size_t count) { return Below(count) == 0; }

  void ChangePart(Part* part);
  bool ChangeMessage(Part* part);
  // Changes one field of the message, or of a message in it.
  void ChangeField(google::protobuf::Message* message, int depth);
  void ChangeSingle(google::protobuf::Message* message,
                    const google::protobuf::FieldDescriptor* field, int depth);
  void ChangeRepeated(google::protobuf::Message* message,
                      const google::protobuf::FieldDescriptor* field, int depth);
  void AddElement(google::protobuf::Message* message,
                  const google::protobuf::FieldDescriptor* field, int depth);
  void ChangeElement(google::protobuf::Message* message,
                     const google::protobuf::FieldDescriptor* field, int index, int depth);

  int64_t Integer(int64_t old);
  double Number(double old);
  std::string Text(const std::string& old);
  std::string Bytes(const std::string& old);

  const TypeOf type_of_;
  const MutateBytes mutate_bytes_;
  std::mt19937 random_;
};

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_MUTATOR_H_
