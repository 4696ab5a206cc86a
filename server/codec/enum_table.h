// Converts between enums of the contract and ours with one table for both directions.
#ifndef BACKPROP_SERVER_CODEC_ENUM_TABLE_H_
#define BACKPROP_SERVER_CODEC_ENUM_TABLE_H_

#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/fields.h"

namespace backprop::codec {

template <class Message, class Ours>
struct EnumPair {
  Message message;
  Ours ours;
};

// Returns our value for `value`, or `fallback` for the zero value. A value that is not in the table
// adds a violation about `field` and returns `fallback`; `expected` lists the valid values.
template <class Message, class Ours, size_t kSize>
Ours DecodeEnum(const EnumPair<Message, Ours> (&table)[kSize], Message value, Ours fallback,
                const std::string& field, absl::string_view expected, base::Fields* fields) {
  if (value == Message(0)) return fallback;
  for (const auto& pair : table) {
    if (pair.message == value) return pair.ours;
  }
  fields->Add(field, absl::StrCat("expected ", expected, ", got ", static_cast<int>(value)));
  return fallback;
}

// The zero value if `value` is not in the table.
template <class Message, class Ours, size_t kSize>
Message EncodeEnum(const EnumPair<Message, Ours> (&table)[kSize], Ours value) {
  for (const auto& pair : table) {
    if (pair.ours == value) return pair.message;
  }
  return Message(0);
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_ENUM_TABLE_H_
