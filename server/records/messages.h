// Conversions of messages that are parts of several records. Only for the encoders of records.
#ifndef BACKPROP_SERVER_RECORDS_MESSAGES_H_
#define BACKPROP_SERVER_RECORDS_MESSAGES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/engine/step.h"
#include "server/records/checkpoint.h"
#include "server/records/metrics.h"
#include "server/records/records.pb.h"
#include "server/records/request_key.h"

namespace backprop::records {

void Encode(const RequestKey& key, v1::RequestKey* message);
RequestKey Decode(const v1::RequestKey& message);
void Encode(const engine::LossResult& loss, v1::Loss* message);
engine::LossResult Decode(const v1::Loss& message);
void Encode(const engine::StepResult& result, v1::StepResult* message);
engine::StepResult Decode(const v1::StepResult& message);
void Encode(const Metrics& metrics, v1::Metrics* message);
Metrics Decode(const v1::Metrics& message);
void Encode(const Checkpoint& checkpoint, v1::Checkpoint* message);
Checkpoint Decode(const v1::Checkpoint& message);

void Encode(const engine::Dataset& rows, v1::Rows* message);
// The numbers of the rows must be of `type`. DATA_LOSS, naming `what` and the field, if the sizes
// do not agree or a value is none of a valid dataset (engine/data.h). Classes are only known not to
// be negative.
absl::StatusOr<engine::Dataset> DecodeRows(const v1::Rows& message, engine::DataType type,
                                           absl::string_view what);
// The same for rows with which a network can be trained.
absl::StatusOr<engine::Dataset> DecodeRowsFor(const v1::Rows& message,
                                              const engine::Network& network,
                                              absl::string_view what);

std::string BytesOf(const engine::Buffer& buffer);
// Decodes `bytes`, whose size must be that of whole numbers of `type`.
engine::Buffer BufferOf(const std::string& bytes, engine::DataType type);
bool AllFinite(const engine::Buffer& buffer);
// Whether all of `count` numbers from number `first` are at least 0; NaN is not.
bool NoneNegative(const engine::Buffer& buffer, int64_t first, int64_t count);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_MESSAGES_H_
