// Conversions of messages that are parts of several records. Only for the encoders of records.
#ifndef BACKPROP_SERVER_SESSION_MESSAGES_H_
#define BACKPROP_SERVER_SESSION_MESSAGES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/engine/step.h"
#include "server/session/checkpoint.h"
#include "server/session/metrics.h"
#include "server/session/request_key.h"
#include "server/store/records.pb.h"

namespace backprop::session {

void Encode(const RequestKey& key, store::v1::RequestKey* message);
RequestKey Decode(const store::v1::RequestKey& message);
void Encode(const engine::LossResult& loss, store::v1::Loss* message);
engine::LossResult Decode(const store::v1::Loss& message);
void Encode(const engine::StepResult& result, store::v1::StepResult* message);
engine::StepResult Decode(const store::v1::StepResult& message);
void Encode(const Metrics& metrics, store::v1::Metrics* message);
Metrics Decode(const store::v1::Metrics& message);
void Encode(const Checkpoint& checkpoint, store::v1::Checkpoint* message);
Checkpoint Decode(const store::v1::Checkpoint& message);

void Encode(const engine::Dataset& rows, store::v1::Rows* message);
// The numbers of the rows must be of `type`. DATA_LOSS, naming `what`, if the sizes do not agree.
absl::StatusOr<engine::Dataset> DecodeRows(const store::v1::Rows& message, engine::DataType type,
                                           absl::string_view what);
// The same for rows that must also have the inputs and the data type of a network.
absl::StatusOr<engine::Dataset> DecodeRowsFor(const store::v1::Rows& message,
                                              const engine::Network& network,
                                              absl::string_view what);

std::string BytesOf(const engine::Buffer& buffer);
// Returns false if `bytes` does not have the size of `count` numbers.
bool ReadBytes(const std::string& bytes, engine::DataType type, int64_t count,
               engine::Buffer* buffer);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_MESSAGES_H_
