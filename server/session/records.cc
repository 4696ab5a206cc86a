#include "server/session/records.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/session/checkpoints.h"
#include "server/store/records.pb.h"

namespace backprop::session {
namespace {

namespace v1 = store::v1;

constexpr char kFrame = 1;
constexpr size_t kFrameBytes = 1 + sizeof(uint64_t);

void Encode(const RequestKey& key, v1::RequestKey* message) {
  message->set_id(key.id);
  message->set_fingerprint(key.fingerprint);
}
RequestKey Decode(const v1::RequestKey& message) { return {message.id(), message.fingerprint()}; }

std::string Bytes(const engine::Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes()), buffer.size_bytes()};
}

// Returns false if `bytes` does not have the size of `count` numbers.
bool Read(const std::string& bytes, engine::DataType type, int64_t count, engine::Buffer* buffer) {
  if (count < 0 || bytes.size() != static_cast<size_t>(count * engine::SizeOf(type))) return false;
  *buffer = engine::Buffer(type, count);
  if (count > 0) std::memcpy(buffer->bytes(), bytes.data(), bytes.size());
  return true;
}

void EncodeRowsTo(const engine::Dataset& rows, v1::Rows* message) {
  message->set_rows(rows.rows);
  message->set_inputs_per_row(rows.inputs_per_row);
  message->set_targets_per_row(rows.targets_per_row);
  message->set_bytes_per_number(static_cast<uint32_t>(engine::SizeOf(rows.inputs.type())));
  message->set_inputs(Bytes(rows.inputs));
  message->mutable_classes()->Add(rows.classes.begin(), rows.classes.end());
  message->set_targets(Bytes(rows.targets));
  message->set_sample_weights(Bytes(rows.sample_weights));
}

absl::StatusOr<engine::Dataset> DecodeRowsFrom(const v1::Rows& message, engine::DataType type,
                                               absl::string_view what) {
  engine::Dataset rows;
  rows.rows = message.rows();
  rows.inputs_per_row = message.inputs_per_row();
  rows.targets_per_row = message.targets_per_row();
  rows.classes.assign(message.classes().begin(), message.classes().end());
  const bool targets = !message.targets().empty();
  const bool weights = !message.sample_weights().empty();
  if (rows.rows < 1 || (!rows.classes.empty() && message.classes_size() != rows.rows) ||
      !Read(message.inputs(), type, rows.rows * rows.inputs_per_row, &rows.inputs) ||
      !Read(message.targets(), type, targets ? rows.rows * rows.targets_per_row : 0,
            &rows.targets) ||
      !Read(message.sample_weights(), type, weights ? rows.rows : 0, &rows.sample_weights)) {
    return Damaged(what, "its rows are not what they say");
  }
  return rows;
}

absl::StatusOr<engine::Dataset> DecodeRowsFor(const v1::Rows& message,
                                              const engine::Network& network,
                                              absl::string_view what) {
  if (message.inputs_per_row() != network.inputs()) {
    return Damaged(what, "its rows do not fit the model");
  }
  return DecodeRowsFrom(message, network.spec().data_type, what);
}

}  // namespace

absl::Status Damaged(absl::string_view what, absl::string_view why) {
  return base::ReasonError(absl::StatusCode::kDataLoss,
                           absl::StrCat(what, ": its record in the store is damaged: ", why),
                           {"RECORD_DAMAGED", {{"record", std::string(what)}}});
}

std::string Seal(const google::protobuf::MessageLite& message) {
  std::string value(kFrameBytes, '\0');
  message.AppendToString(&value);
  const uint64_t checksum = XXH3_64bits(value.data() + kFrameBytes, value.size() - kFrameBytes);
  value[0] = kFrame;
  std::memcpy(value.data() + 1, &checksum, sizeof checksum);
  return value;
}

absl::Status Open(absl::string_view value, absl::string_view what,
                  google::protobuf::MessageLite* message) {
  if (value.size() < kFrameBytes || value[0] != kFrame) return Damaged(what, "it has no frame");
  uint64_t checksum = 0;
  std::memcpy(&checksum, value.data() + 1, sizeof checksum);
  value.remove_prefix(kFrameBytes);
  if (XXH3_64bits(value.data(), value.size()) != checksum) {
    return Damaged(what, "its checksum is wrong");
  }
  if (!message->ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Damaged(what, "it cannot be read");
  }
  return absl::OkStatus();
}

void Encode(const engine::LossResult& loss, v1::Loss* message) {
  message->set_sum(loss.sum);
  message->set_weight(loss.weight);
  message->set_correct(loss.correct);
  message->set_rows(loss.rows);
}
engine::LossResult Decode(const v1::Loss& message) {
  return {message.sum(), message.weight(), message.correct(), message.rows()};
}

void Encode(const engine::StepResult& result, v1::StepResult* message) {
  Encode(result.loss, message->mutable_loss());
  message->set_rows(result.rows);
  message->set_gradient_norm(result.gradient_norm);
  message->set_learning_rate(result.learning_rate);
}
engine::StepResult Decode(const v1::StepResult& message) {
  engine::StepResult result;
  result.loss = Decode(message.loss());
  result.rows = message.rows();
  result.gradient_norm = message.gradient_norm();
  result.learning_rate = message.learning_rate();
  return result;
}

std::string EncodeModel(const StoredModel& model) {
  v1::Model message;
  message.set_uid(model.uid);
  message.set_spec(model.spec);
  message.mutable_labels()->insert(model.labels.begin(), model.labels.end());
  message.set_ttl_nanos(model.ttl.has_value() ? absl::ToInt64Nanoseconds(*model.ttl) : 0);
  message.set_create_time_unix_nanos(absl::ToUnixNanos(model.create_time));
  Encode(model.created_by, message.mutable_created_by());
  message.set_created_at_step(model.created_at_step);
  message.set_numbers(model.value_count);
  message.set_durability(static_cast<uint32_t>(model.durability));
  return Seal(message);
}

absl::StatusOr<StoredModel> DecodeModel(absl::string_view value, absl::string_view id) {
  v1::Model message;
  const absl::Status opened = Open(value, absl::StrCat("models/", id), &message);
  if (!opened.ok()) return opened;
  StoredModel model;
  model.uid = message.uid();
  model.spec = message.spec();
  model.labels.insert(message.labels().begin(), message.labels().end());
  if (message.ttl_nanos() > 0) model.ttl = absl::Nanoseconds(message.ttl_nanos());
  model.create_time = absl::FromUnixNanos(message.create_time_unix_nanos());
  model.created_by = Decode(message.created_by());
  model.created_at_step = message.created_at_step();
  model.value_count = message.numbers();
  model.durability = static_cast<store::Durability>(message.durability());
  return model;
}

std::string EncodeState(const engine::State& state) {
  v1::State message;
  message.set_values(state.values.bytes(), state.values.size_bytes());
  message.set_step(state.step);
  message.set_optimizer_step(state.optimizer_step);
  v1::Plateau* plateau = message.mutable_plateau();
  plateau->set_learning_rate(state.plateau.learning_rate);
  plateau->set_best(state.plateau.best);
  plateau->set_bad_epochs(state.plateau.bad_epochs);
  plateau->set_cooldown(state.plateau.cooldown);
  if (state.standardization != nullptr) {
    message.mutable_mean()->Add(state.standardization->mean.begin(),
                                state.standardization->mean.end());
    message.mutable_std()->Add(state.standardization->std.begin(),
                               state.standardization->std.end());
  }
  return Seal(message);
}

absl::StatusOr<std::shared_ptr<engine::State>> DecodeState(absl::string_view value,
                                                           const engine::Network& network,
                                                           absl::string_view model) {
  v1::State message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  auto state = std::make_shared<engine::State>(engine::Buffer());
  const auto d = static_cast<int>(network.inputs());
  const bool standardizes = message.mean_size() > 0;
  if (!Read(message.values(), network.spec().data_type,
            network.parameter_count() * (1 + network.slot_count()), &state->values) ||
      message.mean_size() != message.std_size() || (standardizes && message.mean_size() != d)) {
    return Damaged(model, "its numbers do not fit its network");
  }
  state->step = message.step();
  state->optimizer_step = message.optimizer_step();
  state->plateau.learning_rate = message.plateau().learning_rate();
  state->plateau.best = message.plateau().best();
  state->plateau.bad_epochs = message.plateau().bad_epochs();
  state->plateau.cooldown = message.plateau().cooldown();
  if (standardizes) {
    state->standardization = std::make_shared<engine::Standardization>(
        engine::Standardization{{message.mean().begin(), message.mean().end()},
                                {message.std().begin(), message.std().end()}});
  }
  return state;
}

std::string EncodeAnswer(const KeyedAnswer& answer) {
  v1::Answer message;
  Encode(answer.key, message.mutable_key());
  message.set_time_unix_nanos(absl::ToUnixNanos(answer.time));
  message.set_sequence(answer.sequence);
  if (const auto* step = std::get_if<StepOutcome>(&answer.answer)) {
    message.mutable_step()->set_step(step->step);
    Encode(step->result, message.mutable_step()->mutable_result());
  } else if (const auto* edited = std::get_if<int64_t>(&answer.answer)) {
    message.set_edited(*edited);
  } else if (const auto* checkpoint = std::get_if<CheckpointPtr>(&answer.answer)) {
    Encode(**checkpoint, message.mutable_checkpoint());
  } else {
    message.set_run(std::get<RunAnswer>(answer.answer).number);
  }
  return Seal(message);
}

absl::StatusOr<KeyedAnswer> DecodeAnswer(absl::string_view value, absl::string_view model) {
  v1::Answer message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  KeyedAnswer stored;
  stored.sequence = message.sequence();
  stored.key = Decode(message.key());
  stored.time = absl::FromUnixNanos(message.time_unix_nanos());
  switch (message.answer_case()) {
    case v1::Answer::kStep:
      stored.answer = StepOutcome{message.step().step(), Decode(message.step().result())};
      return stored;
    case v1::Answer::kEdited:
      stored.answer = message.edited();
      return stored;
    case v1::Answer::kRun:
      stored.answer = RunAnswer{message.run(), nullptr};
      return stored;
    case v1::Answer::kCheckpoint:
      stored.answer = std::make_shared<const Checkpoint>(Decode(message.checkpoint()));
      return stored;
    case v1::Answer::ANSWER_NOT_SET:
      break;
  }
  return Damaged(model, "an answer is of no known kind");
}

std::string EncodeRegistryAnswer(const RegistryAnswer& answer) {
  v1::RegistryAnswer message;
  Encode(answer.key, message.mutable_key());
  message.set_time_unix_nanos(absl::ToUnixNanos(answer.time));
  message.set_sequence(answer.sequence);
  message.set_model_id(answer.model_id);
  return Seal(message);
}

absl::StatusOr<std::vector<RegistryAnswer>> ReadRegistryAnswers(store::Store* store,
                                                                RegistryAnswerKind kind) {
  std::vector<RegistryAnswer> answers;
  const std::string prefix = RegistryAnswersKey(kind);
  absl::Status scanned = store->Scan(
      store::Table::kRequests, prefix, store::EndOfPrefix(prefix),
      [&](absl::string_view, absl::string_view value) {
        v1::RegistryAnswer message;
        if (Open(value, "an answer", &message).ok()) {
          answers.push_back({Decode(message.key()), absl::FromUnixNanos(message.time_unix_nanos()),
                             message.sequence(), message.model_id()});
        }
        return true;
      });
  if (!scanned.ok()) return scanned;
  std::sort(answers.begin(), answers.end(),
            [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  return answers;
}

int64_t BytesOf(const StepInput& work) {
  if (const auto* gradients = std::get_if<engine::Buffer>(&work)) {
    return static_cast<int64_t>(gradients->size_bytes());
  }
  const auto& batch = std::get<engine::Dataset>(work);
  return static_cast<int64_t>(batch.inputs.size_bytes() + batch.classes.size() +
                              batch.targets.size_bytes() + batch.sample_weights.size_bytes());
}

std::string EncodeLoggedStep(const StepInput& work) {
  v1::LoggedStep message;
  if (const auto* gradients = std::get_if<engine::Buffer>(&work)) {
    message.set_gradients(Bytes(*gradients));
  } else {
    EncodeRowsTo(std::get<engine::Dataset>(work), message.mutable_batch());
  }
  message.set_instruction_set(engine::InstructionSet());
  return Seal(message);
}

absl::StatusOr<LoggedStep> DecodeLoggedStep(absl::string_view value, const engine::Network& network,
                                            absl::string_view model) {
  v1::LoggedStep message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  if (message.work_case() == v1::LoggedStep::kGradients) {
    engine::Buffer gradients;
    if (!Read(message.gradients(), network.spec().data_type, network.parameter_count(),
              &gradients)) {
      return Damaged(model, "logged gradients do not fit its network");
    }
    return LoggedStep{std::move(gradients), message.instruction_set()};
  }
  auto rows = DecodeRowsFor(message.batch(), network, model);
  if (!rows.ok()) return rows.status();
  return LoggedStep{*std::move(rows), message.instruction_set()};
}

std::vector<Piece> EncodeRows(const engine::Dataset& rows) {
  const int64_t row_bytes =
      (rows.inputs_per_row + rows.targets_per_row + 2) * engine::SizeOf(rows.inputs.type());
  const int64_t at_once = std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes) / row_bytes);
  std::vector<Piece> pieces;
  for (int64_t first = 0; first < rows.rows; first += at_once) {
    const int64_t count = std::min(at_once, rows.rows - first);
    const engine::BatchView view = rows.View(first, count);
    v1::Rows message;
    message.set_rows(count);
    message.set_inputs_per_row(rows.inputs_per_row);
    message.set_targets_per_row(rows.targets_per_row);
    const int64_t size = engine::SizeOf(rows.inputs.type());
    message.set_bytes_per_number(static_cast<uint32_t>(size));
    const auto bytes = [&](int64_t per_row) { return static_cast<size_t>(count * per_row * size); };
    message.set_inputs(view.inputs, bytes(rows.inputs_per_row));
    if (view.classes != nullptr) message.mutable_classes()->Add(view.classes, view.classes + count);
    if (view.targets != nullptr) message.set_targets(view.targets, bytes(rows.targets_per_row));
    if (view.sample_weights != nullptr) message.set_sample_weights(view.sample_weights, bytes(1));
    pieces.push_back({Seal(message), count});
  }
  return pieces;
}

absl::StatusOr<engine::Dataset> DecodePiece(absl::string_view value, engine::DataType type,
                                            absl::string_view what) {
  v1::Rows message;
  const absl::Status opened = Open(value, what, &message);
  if (!opened.ok()) return opened;
  return DecodeRowsFrom(message, type, what);
}

absl::StatusOr<engine::Dataset> DecodeRows(const std::vector<std::string>& pieces,
                                           const engine::Network& network,
                                           absl::string_view model) {
  std::vector<engine::Dataset> parts;
  int64_t total = 0;
  for (const std::string& piece : pieces) {
    v1::Rows message;
    const absl::Status opened = Open(piece, model, &message);
    if (!opened.ok()) return opened;
    auto part = DecodeRowsFor(message, network, model);
    if (!part.ok()) return part.status();
    total += part->rows;
    parts.push_back(*std::move(part));
  }
  if (parts.empty()) return Damaged(model, "the rows of its run are missing");
  engine::Dataset all = engine::EmptyLike(parts.front(), total);
  int64_t row = 0;
  const auto append = [&](const engine::Buffer& from, engine::Buffer* to, int64_t per_row) {
    if (from.count() == 0) return;
    std::memcpy(to->bytes() + row * per_row * engine::SizeOf(from.type()), from.bytes(),
                from.size_bytes());
  };
  for (const engine::Dataset& part : parts) {
    if (part.classes.empty() != all.classes.empty() ||
        (part.targets.count() == 0) != (all.targets.count() == 0) ||
        (part.sample_weights.count() == 0) != (all.sample_weights.count() == 0)) {
      return Damaged(model, "pieces of the rows of its run do not fit each other");
    }
    append(part.inputs, &all.inputs, all.inputs_per_row);
    append(part.targets, &all.targets, all.targets_per_row);
    append(part.sample_weights, &all.sample_weights, 1);
    std::copy(part.classes.begin(), part.classes.end(), all.classes.begin() + row);
    row += part.rows;
  }
  return all;
}

}  // namespace backprop::session
