#include "server/records/response_records.h"

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "server/base/text.h"
#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/project.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"
#include "server/records/tables.h"

namespace backprop::records {

std::string EncodeResponse(const StoredResponse& stored) {
  v1::Response message;
  Encode(stored.key, message.mutable_key());
  message.set_time_unix_nanos(absl::ToUnixNanos(stored.time));
  message.set_sequence(stored.sequence);
  if (const auto* step = std::get_if<StepOutcome>(&stored.response)) {
    message.mutable_step()->set_step(step->step);
    Encode(step->result, message.mutable_step()->mutable_result());
  } else if (const auto* edited = std::get_if<int64_t>(&stored.response)) {
    message.set_edited(*edited);
  } else if (const auto* checkpoint = std::get_if<CheckpointPtr>(&stored.response)) {
    Encode(**checkpoint, message.mutable_checkpoint());
  } else {
    message.set_run(std::get<RunNumber>(stored.response).number);
  }
  return Seal(message);
}

absl::StatusOr<StoredResponse> DecodeResponse(absl::string_view value, absl::string_view model) {
  v1::Response message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  StoredResponse stored;
  stored.sequence = message.sequence();
  stored.key = Decode(message.key());
  stored.time = absl::FromUnixNanos(message.time_unix_nanos());
  switch (message.response_case()) {
    case v1::Response::kStep:
      stored.response = StepOutcome{message.step().step(), Decode(message.step().result())};
      return stored;
    case v1::Response::kEdited:
      stored.response = message.edited();
      return stored;
    case v1::Response::kRun:
      stored.response = RunNumber{message.run()};
      return stored;
    case v1::Response::kCheckpoint:
      stored.response = std::make_shared<const Checkpoint>(Decode(message.checkpoint()));
      return stored;
    case v1::Response::RESPONSE_NOT_SET:
      break;
  }
  return Damaged(model, "a recorded response has an unknown kind");
}

std::string EncodeRegistryResponse(const RegistryResponse& response) {
  v1::RegistryResponse message;
  Encode(response.key, message.mutable_key());
  message.set_time_unix_nanos(absl::ToUnixNanos(response.time));
  message.set_sequence(response.sequence);
  message.set_model_id(response.model_id);
  return Seal(message);
}

absl::StatusOr<RegistryResponse> DecodeRegistryResponse(absl::string_view value) {
  v1::RegistryResponse message;
  constexpr char kWhat[] = "a response";
  const absl::Status opened = Open(value, kWhat, &message);
  if (!opened.ok()) return opened;
  // A retry gets this model, so it must be one of the caller's project. Ids of format 1 have none.
  const std::string& id = message.model_id();
  Rules rules(kWhat);
  rules.Require(
      !absl::StrContains(id, '/') || ProjectOf(id) == ProjectOfRequestId(message.key().id()),
      "model_id", "one in the project of the request", base::Quote(id));
  if (!rules.ok()) return rules.status();
  return RegistryResponse{Decode(message.key()), absl::FromUnixNanos(message.time_unix_nanos()),
                          message.sequence(), message.model_id()};
}

absl::StatusOr<std::vector<RegistryResponse>> ReadRegistryResponses(store::Store* store,
                                                                    RegistryRequestKind kind) {
  std::vector<RegistryResponse> responses;
  const std::string prefix = RegistryResponsesKey(kind);
  absl::Status scanned = store->Scan(kRequests, prefix, store::EndOfPrefix(prefix),
                                     [&](absl::string_view, absl::string_view value) {
                                       auto response = DecodeRegistryResponse(value);
                                       if (response.ok()) responses.push_back(*std::move(response));
                                       return true;
                                     });
  if (!scanned.ok()) return scanned;
  std::sort(responses.begin(), responses.end(),
            [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  return responses;
}

}  // namespace backprop::records
