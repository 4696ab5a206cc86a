// Between what sessions hold and the records of the store (server/store/records.proto).
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

// A message in the frame that every value of the store has: a version, a checksum.
std::string Seal(const google::protobuf::MessageLite& message);
// DATA_LOSS, naming `what`, if the frame or the message is damaged.
absl::Status Open(absl::string_view value, absl::string_view what,
                  google::protobuf::MessageLite* message);

// What a model is, as the store keeps it.
struct StoredModel {
  Uid uid = 0;
  std::string spec;  // as Environment::decode_spec reads it
  std::map<std::string, std::string> labels;
  std::optional<absl::Duration> ttl;
  absl::Time create_time;
  RequestKey created_by;
  int64_t created_at_step = 0;
  int64_t numbers = 0;
  store::Durability durability = store::Durability::kSync;
};
std::string EncodeModel(const StoredModel& model);
absl::StatusOr<StoredModel> DecodeModel(absl::string_view value, absl::string_view id);

std::string EncodeState(const engine::State& state);
absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model);

std::string EncodeAnswer(const KeyedAnswer& answer, uint64_t sequence);
struct StoredAnswer {
  KeyedAnswer answer;  // a run by its number alone
  uint64_t sequence = 0;
};
absl::StatusOr<StoredAnswer> DecodeAnswer(absl::string_view value, absl::string_view model);

// What CreateModel or DeleteModel answered; `model_id` of the former.
struct RegistryAnswer {
  RequestKey key;
  absl::Time time;
  uint64_t sequence = 0;
  std::string model_id;
};
std::string EncodeRegistryAnswer(const RegistryAnswer& answer);
// All of one kind, the oldest first. Damaged ones are left out: without them a late retry is a new
// request, which its model's name or step still guards.
absl::StatusOr<std::vector<RegistryAnswer>> ReadRegistryAnswers(store::Store* store,
                                                                RegistryAnswerKind kind);

// A caller's batch, or gradients (P).
using StepWork = std::variant<engine::Dataset, engine::Buffer>;
int64_t BytesOf(const StepWork& work);
std::string EncodeLoggedStep(const StepWork& work);
struct LoggedStep {
  StepWork work;
  std::string instruction_set;
};
absl::StatusOr<LoggedStep> DecodeLoggedStep(absl::string_view value, const engine::Network& network,
                                            absl::string_view model);

// Rows in pieces of about kChunkBytes, each framed on its own.
inline constexpr size_t kChunkBytes = size_t{1} << 20;
struct Piece {
  std::string record;
  int64_t rows = 0;
};
std::vector<Piece> EncodeRows(const engine::Dataset& rows);
// One piece, whose numbers must be of `type`.
absl::StatusOr<engine::Dataset> DecodePiece(absl::string_view value, engine::DataType type,
                                            absl::string_view what);
absl::StatusOr<engine::Dataset> DecodeRows(const std::vector<std::string>& pieces,
                                           const engine::Network& network, absl::string_view model);

void Encode(const engine::LossResult& loss, store::v1::Loss* message);
engine::LossResult Decode(const store::v1::Loss& message);
void Encode(const engine::StepResult& result, store::v1::StepResult* message);
engine::StepResult Decode(const store::v1::StepResult& message);

absl::Status Damaged(absl::string_view what, absl::string_view why);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RECORDS_H_
