// The frame of every value in the store: a version, a checksum and a message.
#ifndef BACKPROP_SERVER_RECORDS_FRAME_H_
#define BACKPROP_SERVER_RECORDS_FRAME_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class MessageLite;
}

namespace backprop::records {

// Encodes a message with the header that every value of the store has: a version and a checksum.
std::string Seal(const google::protobuf::MessageLite& message);
// Decodes a value. DATA_LOSS, naming `what`, if the header or the message is damaged.
absl::Status Open(absl::string_view value, absl::string_view what,
                  google::protobuf::MessageLite* message);

// DATA_LOSS (RECORD_DAMAGED): the record of `what` is damaged.
absl::Status Damaged(absl::string_view what, absl::string_view why);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_FRAME_H_
