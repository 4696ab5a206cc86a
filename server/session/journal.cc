#include "server/session/journal.h"

#include <utility>
#include <variant>

#include "server/records/checkpoint.h"
#include "server/records/model_records.h"
#include "server/records/response_records.h"
#include "server/records/tables.h"

namespace backprop::session {
namespace {

// A load repeats at most kMostLoggedSteps steps, whose work has at most kMostLoggedStates times the
// bytes of a state.
constexpr int64_t kMostLoggedSteps = 256;
constexpr int64_t kMostLoggedStates = 4;

// The record names a run by its number.
records::StoredResponse RecordOf(const RecordedResponse& keyed) {
  records::StoredResponse stored{keyed.key, keyed.time, keyed.sequence, {}};
  if (const auto* step = std::get_if<records::StepOutcome>(&keyed.response)) {
    stored.response = *step;
  } else if (const auto* edited = std::get_if<int64_t>(&keyed.response)) {
    stored.response = *edited;
  } else if (const auto* checkpoint = std::get_if<records::CheckpointPtr>(&keyed.response)) {
    stored.response = *checkpoint;
  } else {
    stored.response = records::RunNumber{std::get<RunResponse>(keyed.response).number};
  }
  return stored;
}

}  // namespace

void Journal::Step(const engine::State& next, const records::StepInput& work,
                   const RecordedResponse& response, Done done) {
  const auto state_bytes = static_cast<int64_t>(next.values.size_bytes());
  const int64_t work_bytes = records::BytesOf(work);
  const bool log = work_bytes < state_bytes && logged_steps_ < kMostLoggedSteps &&
                   logged_bytes_ + work_bytes <= kMostLoggedStates * state_bytes;
  if (!log) return State(next, response, std::move(done));
  store::WriteBatch batch;
  batch.Put(records::kLog, records::LoggedStepKey(uid_, next.step),
            records::EncodeLoggedStep(work));
  ++logged_steps_;
  logged_bytes_ += work_bytes;
  last_logged_ = next.step;
  AddResponse(response, &batch);
  Commit(std::move(batch), std::move(done));
}

void Journal::State(const engine::State& next, const RecordedResponse& response, Done done) {
  store::WriteBatch batch;
  AddState(next, &batch);
  AddResponse(response, &batch);
  Commit(std::move(batch), std::move(done));
}

void Journal::Response(const RecordedResponse& response, Done done) {
  store::WriteBatch batch;
  AddResponse(response, &batch);
  Commit(std::move(batch), std::move(done));
}

void Journal::AddState(const engine::State& next, store::WriteBatch* batch) {
  batch->Put(records::kStates, records::UidKey(uid_), records::EncodeState(next));
  for (; logged_steps_ > 0; --logged_steps_) {
    batch->Delete(records::kLog, records::LoggedStepKey(uid_, last_logged_ - logged_steps_ + 1));
  }
  logged_bytes_ = 0;
}

void Journal::AddResponse(const RecordedResponse& response, store::WriteBatch* batch) {
  if (response.key.id.empty()) return;
  batch->Put(records::kRequests,
             records::ResponseKey(uid_, ModelLedger::PlaceOf(response.sequence)),
             records::EncodeResponse(RecordOf(response)));
}

void Journal::AddDeletion(size_t responses, int64_t run, store::WriteBatch* batch) {
  batch->Delete(records::kStates, records::UidKey(uid_));
  if (broken()) {  // it is unknown what the store holds of the model
    for (const store::Table* table : {&records::kRequests, &records::kLog, &records::kChunks}) {
      batch->DeletePrefix(*table, records::UidKey(uid_));
    }
  }
  for (; logged_steps_ > 0; --logged_steps_) {
    batch->Delete(records::kLog, records::LoggedStepKey(uid_, last_logged_ - logged_steps_ + 1));
  }
  for (size_t place = 0; place < responses; ++place) {
    batch->Delete(records::kRequests, records::ResponseKey(uid_, static_cast<uint8_t>(place)));
  }
  for (const records::RunPart part : records::kRunParts) {
    batch->Delete(records::kRuns, records::RunKey(uid_, part));
  }
  if (run > 0) batch->DeletePrefix(records::kChunks, records::ChunksKey(uid_, run));
}

void Journal::Commit(store::WriteBatch batch, Done done) {
  store_->Commit(std::move(batch), durability_, chain_, std::move(done));
}

void Journal::Restore(int64_t logged_steps, int64_t logged_bytes, int64_t last_step) {
  logged_steps_ = logged_steps;
  logged_bytes_ = logged_bytes;
  last_logged_ = last_step;
}

}  // namespace backprop::session
