#include "tests/fuzz/mutator.h"

#include <google/protobuf/reflection.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <utility>

namespace backprop::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int kDeepest = 8;  // messages in messages
constexpr size_t kMostBytes = 4096;
constexpr int kMostElements = 512;

// Names and ids that the seeds use, and some that are wrong.
constexpr const char* kTexts[] = {"",
                                  "m",
                                  "r",
                                  "d",
                                  "x",
                                  "c",
                                  "models/m",
                                  "models/r",
                                  "models/t",
                                  "models/x",
                                  "models/",
                                  "models/m/runs/1",
                                  "models/m/runs/2",
                                  "models/m/checkpoints/c",
                                  "models/m/checkpoints/run-1-best",
                                  "datasets/d",
                                  "datasets/x",
                                  "projects/default",
                                  "layers[0].weights",
                                  "layers[0].bias",
                                  "layers[1].weights",
                                  "layers[1].bias",
                                  "layers[0].weights/momentum",
                                  "yes",
                                  "no",
                                  "request-1",
                                  "\xc3\xa4\xe2\x82\xac",
                                  "a b",
                                  "..",
                                  "default/m"};

std::unique_ptr<Message> Parse(const google::protobuf::Descriptor* type, const std::string& bytes) {
  std::unique_ptr<Message> message(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
  return message->ParseFromString(bytes) ? std::move(message) : nullptr;
}

}  // namespace

void Mutator::Change(Program* program) {
  if (program->empty()) return program->push_back({static_cast<uint8_t>(Below(256)), ""});
  const size_t at = Below(program->size());
  const auto place = program->begin() + static_cast<std::ptrdiff_t>(at);
  switch (Below(12)) {
    case 0:
      program->erase(place);
      return;
    case 1:
      if (program->size() < kMaxParts)
        program->insert(place, Part((*program)[Below(program->size())]));
      return;
    case 2:
      std::swap(*place, (*program)[Below(program->size())]);
      return;
    case 3:
      if (program->size() < kMaxParts)
        program->insert(place, {static_cast<uint8_t>(Below(256)), ""});
      return;
    case 4:
      place->kind = static_cast<uint8_t>(OneIn(2) ? Below(256) : (place->kind ^ (1U << Below(8))));
      return;
    default:
      return ChangePart(&*place);
  }
}

void Mutator::Cross(const Program& other, Program* program) {
  if (other.empty()) return;
  const Part& from = other[Below(other.size())];
  if (program->empty() || OneIn(3)) {
    const size_t at = Below(program->size() + 1);
    if (program->size() < kMaxParts)
      program->insert(program->begin() + static_cast<std::ptrdiff_t>(at), from);
    return;
  }
  Part& to = (*program)[Below(program->size())];
  const auto* const type = type_of_(to.kind);
  if (type == nullptr || type_of_(from.kind) != type || OneIn(4)) {
    to = from;
    return;
  }
  const auto message = Parse(type, to.bytes);
  const auto donor = Parse(type, from.bytes);
  if (message == nullptr || donor == nullptr || type->field_count() == 0) return;
  // Merging a message with one that has a single field gives it that field.
  std::vector<const FieldDescriptor*> present;
  donor->GetReflection()->ListFields(*donor, &present);
  if (present.empty()) return;
  const FieldDescriptor* const kept = present[Below(present.size())];
  for (const FieldDescriptor* field : present) {
    if (field != kept) donor->GetReflection()->ClearField(donor.get(), field);
  }
  if (OneIn(2)) message->GetReflection()->ClearField(message.get(), kept);
  message->MergeFrom(*donor);
  to.bytes = message->SerializePartialAsString();
}

void Mutator::ChangePart(Part* part) {
  if (!OneIn(8) && ChangeMessage(part)) return;
  part->bytes = mutate_bytes_(part->bytes, std::max(part->bytes.size() + 64, kMostBytes));
}

bool Mutator::ChangeMessage(Part* part) {
  const auto* const type = type_of_(part->kind);
  if (type == nullptr || type->field_count() == 0) return false;
  const auto message = Parse(type, part->bytes);
  if (message == nullptr) return false;
  ChangeField(message.get(), 0);
  part->bytes = message->SerializePartialAsString();
  return true;
}

void Mutator::ChangeField(Message* message, int depth) {
  const auto* const type = message->GetDescriptor();
  if (type->field_count() == 0) return;
  std::vector<const FieldDescriptor*> present;
  message->GetReflection()->ListFields(*message, &present);
  // Mostly a field that is there: most messages have many that are not.
  const FieldDescriptor* const field =
      !present.empty() && !OneIn(4)
          ? present[Below(present.size())]
          : type->field(static_cast<int>(Below(static_cast<size_t>(type->field_count()))));
  if (field->is_repeated()) return ChangeRepeated(message, field, depth);
  const bool has = !field->has_presence() || message->GetReflection()->HasField(*message, field);
  if (has && OneIn(8)) return message->GetReflection()->ClearField(message, field);
  ChangeSingle(message, field, depth);
}

void Mutator::ChangeSingle(Message* message, const FieldDescriptor* field, int depth) {
  const auto* const r = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r->SetInt32(message, field,
                         static_cast<int32_t>(Integer(r->GetInt32(*message, field))));
    case FieldDescriptor::CPPTYPE_INT64:
      return r->SetInt64(message, field, Integer(r->GetInt64(*message, field)));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r->SetUInt32(message, field,
                          static_cast<uint32_t>(Integer(r->GetUInt32(*message, field))));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r->SetUInt64(
          message, field,
          static_cast<uint64_t>(Integer(static_cast<int64_t>(r->GetUInt64(*message, field)))));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r->SetDouble(message, field, Number(r->GetDouble(*message, field)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r->SetFloat(
          message, field,
          static_cast<float>(Number(static_cast<double>(r->GetFloat(*message, field)))));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->SetBool(message, field, !r->GetBool(*message, field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r->SetEnumValue(
          message, field,
          static_cast<int>(OneIn(8) ? Integer(0) : static_cast<int64_t>(Below(12))));
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string old = r->GetString(*message, field);
      return r->SetString(message, field,
                          field->type() == FieldDescriptor::TYPE_BYTES ? Bytes(old) : Text(old));
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (depth < kDeepest) ChangeField(r->MutableMessage(message, field), depth + 1);
      return;
  }
}

void Mutator::ChangeRepeated(Message* message, const FieldDescriptor* field, int depth) {
  const auto* const r = message->GetReflection();
  const int size = r->FieldSize(*message, field);
  if (size == 0 || OneIn(3)) {
    // Sizes matter: several at once, so that a shape and its values can meet.
    const size_t count = OneIn(4) ? 1 + Below(16) : 1;
    for (size_t i = 0; i < count; ++i) AddElement(message, field, depth);
    return;
  }
  const int at = static_cast<int>(Below(static_cast<size_t>(size)));
  switch (Below(4)) {
    case 0:
      r->SwapElements(message, field, at, size - 1);
      r->RemoveLast(message, field);
      return;
    case 1:
      r->SwapElements(message, field, at, static_cast<int>(Below(static_cast<size_t>(size))));
      return;
    default:
      return ChangeElement(message, field, at, depth);
  }
}

void Mutator::AddElement(Message* message, const FieldDescriptor* field, int depth) {
  const auto* const r = message->GetReflection();
  const int size = r->FieldSize(*message, field);
  if (size >= kMostElements) return;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r->AddInt32(message, field, static_cast<int32_t>(Integer(0)));
    case FieldDescriptor::CPPTYPE_INT64:
      return r->AddInt64(message, field, Integer(0));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r->AddUInt32(message, field, static_cast<uint32_t>(Integer(0)));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r->AddUInt64(message, field, static_cast<uint64_t>(Integer(0)));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r->AddDouble(message, field, Number(1));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r->AddFloat(message, field, static_cast<float>(Number(1)));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->AddBool(message, field, OneIn(2));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r->AddEnumValue(message, field, static_cast<int>(Below(12)));
    case FieldDescriptor::CPPTYPE_STRING:
      return r->AddString(message, field, Text(""));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message* const added = r->AddMessage(message, field);
      if (size > 0 && OneIn(2)) {
        const auto from = static_cast<int>(Below(static_cast<size_t>(size)));
        added->CopyFrom(r->GetRepeatedMessage(*message, field, from));
      }
      if (depth < kDeepest && OneIn(2)) ChangeField(added, depth + 1);
      return;
    }
  }
}

void Mutator::ChangeElement(Message* message, const FieldDescriptor* field, int index, int depth) {
  const auto* const r = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r->SetRepeatedInt32(
          message, field, index,
          static_cast<int32_t>(Integer(r->GetRepeatedInt32(*message, field, index))));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r->SetRepeatedDouble(message, field, index,
                                  Number(r->GetRepeatedDouble(*message, field, index)));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r->SetRepeatedEnumValue(message, field, index, static_cast<int>(Below(12)));
    case FieldDescriptor::CPPTYPE_STRING:
      return r->SetRepeatedString(message, field, index,
                                  Text(r->GetRepeatedString(*message, field, index)));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (depth < kDeepest)
        ChangeField(r->MutableRepeatedMessage(message, field, index), depth + 1);
      return;
    default:  // the contract and the records have no other repeated fields
      return AddElement(message, field, depth);
  }
}

int64_t Mutator::Integer(int64_t old) {
  constexpr int64_t kEdges[] = {0,
                                1,
                                -1,
                                2,
                                INT32_MAX,
                                INT32_MIN,
                                INT64_MAX,
                                INT64_MIN,
                                int64_t{1} << 31,
                                int64_t{1} << 32,
                                int64_t{1} << 53,
                                int64_t{1} << 61,
                                int64_t{1} << 62};
  switch (Below(5)) {
    case 0:
      return kEdges[Below(std::size(kEdges))];
    case 1:
      return static_cast<int64_t>(static_cast<uint64_t>(old) + 1);
    case 2:
      return static_cast<int64_t>(static_cast<uint64_t>(old) - 1);
    case 3:
      return static_cast<int64_t>(Below(100));
    default:
      return static_cast<int64_t>(static_cast<uint64_t>(old) ^ uint64_t{1} << Below(64));
  }
}

double Mutator::Number(double old) {
  using Limits = std::numeric_limits<double>;
  const double edges[] = {0,
                          -0.0,
                          1,
                          -1,
                          0.5,
                          1e-3,
                          Limits::infinity(),
                          -Limits::infinity(),
                          Limits::quiet_NaN(),
                          Limits::max(),
                          Limits::lowest(),
                          Limits::denorm_min(),
                          Limits::min(),
                          Limits::epsilon(),
                          static_cast<double>(std::numeric_limits<float>::max()),
                          1e39,
                          2147483648.0,
                          9007199254740993.0};
  switch (Below(5)) {
    case 0:
      return edges[Below(std::size(edges))];
    case 1:
      return std::nextafter(old, OneIn(2) ? Limits::infinity() : -Limits::infinity());
    case 2:
      return old * (OneIn(2) ? 2 : -0.5);
    case 3:
      return static_cast<double>(Below(8));
    default:
      return std::uniform_real_distribution<double>(-4, 4)(random_);
  }
}

std::string Mutator::Text(const std::string& old) {
  switch (Below(4)) {
    case 0:
      return mutate_bytes_(old, std::max(old.size() + 8, size_t{300}));
    case 1:
      return std::string(1 + Below(260), 'a');
    default:
      return kTexts[Below(std::size(kTexts))];
  }
}

// Bytes of tensors and records are often a multiple of an element's size.
std::string Mutator::Bytes(const std::string& old) {
  const double number = Number(1);
  switch (Below(4)) {
    case 0: {
      std::string longer = old;
      if (longer.size() < kMostBytes) longer.append(reinterpret_cast<const char*>(&number), 8);
      return longer;
    }
    case 1:
      return old.substr(0, old.size() - std::min(old.size(), size_t{4}) * Below(3));
    case 2: {
      std::string changed = old;
      if (changed.size() >= 8)
        std::memcpy(changed.data() + Below(changed.size() / 8) * 8, &number, 8);
      return changed;
    }
    default:
      return mutate_bytes_(old, std::max(old.size() + 16, kMostBytes));
  }
}

}  // namespace backprop::fuzz
