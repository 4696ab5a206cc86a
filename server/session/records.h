// Converts between the objects of sessions and the records of the store
// (server/store/records.proto).
#ifndef BACKPROP_SERVER_SESSION_RECORDS_H_
#define BACKPROP_SERVER_SESSION_RECORDS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/session/answer.h"
#include "server/session/keys.h"
#include "server/session/model_info.h"
#include "server/store/store.h"

namespace google::protobuf {
class MessageLite;
}
namespace backprop::store::v1 {
class Loss;
class StepResult;
}  // namespace backprop::store::v1

namespace backprop::session {

// Encodes a message with the header that every value of the store has: a version and a checksum.
std::string Seal(const google::protobuf::MessageLite& message);
// Decodes a value. DATA_LOSS, naming `what`, if the header or the message is damaged.
absl::Status Open(absl::string_view value, absl::string_view what,
                  google::protobuf::MessageLite* message);

// The record of a model.
struct StoredModel {
  Uid uid = 0;
  std::string spec;  // for Environment::decode_spec
  std::map<std::string, std::string> labels;
  std::optional<absl::Duration> ttl;
  absl::Time create_time;
  RequestKey created_by;
  int64_t created_at_step = 0;
  int64_t value_count = 0;
  store::Durability durability = store::Durability::kSync;
};
std::string EncodeModel(const StoredModel& model);
absl::StatusOr<StoredModel> DecodeModel(absl::string_view value, absl::string_view id);

std::string EncodeState(const engine::State& state);
absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model);

std::string EncodeAnswer(const KeyedAnswer& answer);
// A run is decoded only by its number.
absl::StatusOr<KeyedAnswer> DecodeAnswer(absl::string_view value, absl::string_view model);

// The response of CreateModel, DeleteModel or DeleteDataset; `model_id` is of CreateModel only.
struct RegistryAnswer {
  RequestKey key;
  absl::Time time;
  uint64_t sequence = 0;
  std::string model_id;
};
std::string EncodeRegistryAnswer(const RegistryAnswer& answer);
// Reads all responses of one kind, oldest first. Damaged ones are omitted: a late retry then counts
// as a new request, which the model's name or step still protects against repetition.
absl::StatusOr<std::vector<RegistryAnswer>> ReadRegistryAnswers(store::Store* store,
                                                                RegistryAnswerKind kind);

// The input of a step: a batch, or gradients (P numbers).
using StepInput = std::variant<engine::Dataset, engine::Buffer>;
// Approximate size of the work.
int64_t BytesOf(const StepInput& work);
std::string EncodeLoggedStep(const StepInput& work);
struct LoggedStep {
  StepInput work;
  std::string instruction_set;
};
absl::StatusOr<LoggedStep> DecodeLoggedStep(absl::string_view value, const engine::Network& network,
                                            absl::string_view model);

// Rows are stored in pieces of about kChunkBytes, each a record of its own.
inline constexpr size_t kChunkBytes = size_t{1} << 20;
struct Piece {
  std::string record;
  int64_t rows = 0;
};
std::vector<Piece> EncodeRows(const engine::Dataset& rows);
// Decodes one piece, whose numbers must be of `type`.
absl::StatusOr<engine::Dataset> DecodePiece(absl::string_view value, engine::DataType type,
                                            absl::string_view what);
absl::StatusOr<engine::Dataset> DecodeRows(const std::vector<std::string>& pieces,
                                           const engine::Network& network, absl::string_view model);

void Encode(const engine::LossResult& loss, store::v1::Loss* message);
engine::LossResult Decode(const store::v1::Loss& message);
void Encode(const engine::StepResult& result, store::v1::StepResult* message);
engine::StepResult Decode(const store::v1::StepResult& message);

// DATA_LOSS (RECORD_DAMAGED): the record of `what` is damaged.
absl::Status Damaged(absl::string_view what, absl::string_view why);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RECORDS_H_
