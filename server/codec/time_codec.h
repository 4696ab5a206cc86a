// Encodes times, which must be 1970 or later, and durations. A value that does not fit int64
// nanoseconds is encoded as the nearest one that does.
#ifndef BACKPROP_SERVER_CODEC_TIME_CODEC_H_
#define BACKPROP_SERVER_CODEC_TIME_CODEC_H_

#include <cstdint>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace backprop::codec {

inline void EncodeTimestamp(absl::Time time, google::protobuf::Timestamp* message) {
  const int64_t nanos = absl::ToUnixNanos(time);
  message->set_seconds(nanos / 1'000'000'000);
  message->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

inline void EncodeDuration(absl::Duration duration, google::protobuf::Duration* message) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  message->set_seconds(nanos / 1'000'000'000);
  message->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_TIME_CODEC_H_
