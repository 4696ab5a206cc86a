#include "server/records/answer_records.h"

#include <algorithm>
#include <memory>

#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/records.pb.h"
#include "server/records/tables.h"

namespace backprop::records {

std::string EncodeAnswer(const StoredAnswer& answer) {
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
    message.set_run(std::get<RunNumber>(answer.answer).number);
  }
  return Seal(message);
}

absl::StatusOr<StoredAnswer> DecodeAnswer(absl::string_view value, absl::string_view model) {
  v1::Answer message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  StoredAnswer stored;
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
      stored.answer = RunNumber{message.run()};
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
      kRequests, prefix, store::EndOfPrefix(prefix),
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

}  // namespace backprop::records
