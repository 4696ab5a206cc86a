#include "server/session/stored_model_log.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/step.h"
#include "server/engine/workspace.h"
#include "server/records/checkpoint.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/row_records.h"
#include "server/records/rules.h"
#include "server/records/tables.h"
#include "server/session/errors.h"
#include "server/session/workspace_limit.h"

namespace backprop::session {
namespace {

// A load repeats at most kMostLoggedSteps steps, whose inputs have at most kMostLoggedStates times
// the bytes of a state.
constexpr int64_t kMostLoggedSteps = 256;
constexpr int64_t kMostLoggedStates = 4;
// At least what the record of a logged step has in addition to its input.
constexpr int64_t kStepRecordBytes = 128;

// The record names a run by its number.
records::StoredResponse RecordOf(const RecordedResponse& recorded) {
  records::StoredResponse stored{recorded.key, recorded.time, recorded.sequence, {}};
  if (const auto* step = std::get_if<records::StepOutcome>(&recorded.response)) {
    stored.response = *step;
  } else if (const auto* edited = std::get_if<int64_t>(&recorded.response)) {
    stored.response = *edited;
  } else if (const auto* checkpoint = std::get_if<records::CheckpointPtr>(&recorded.response)) {
    stored.response = *checkpoint;
  } else {
    stored.response = records::RunNumber{std::get<RunResponse>(recorded.response).number};
  }
  return stored;
}

}  // namespace

ModelLog::Done StoredModelLog::Commit(store::WriteBatch batch, Done done) {
  store_->Commit(std::move(batch), durability_, chain_, std::move(done));
  return nullptr;
}

ModelLog::Done StoredModelLog::Create(const std::string& id, records::StoredModel model,
                                      const engine::State& state, store::WriteBatch registry_part,
                                      Done done) {
  model.uid = uid_;
  model.durability = durability_;
  registry_part.Put(records::kModels, id, records::EncodeModel(model));
  AddState(state, &registry_part);
  return Commit(std::move(registry_part), std::move(done));
}

ModelLog::Done StoredModelLog::Delete(const Deletion& deletion, store::WriteBatch batch,
                                      Done done) {
  batch.Delete(records::kModels, deletion.id);
  batch.Delete(records::kStates, records::UidKey(uid_));
  if (broken()) {  // it is unknown what the store holds of the model
    for (const store::Table* table : {&records::kRequests, &records::kLog, &records::kChunks}) {
      batch.DeletePrefix(*table, records::UidKey(uid_));
    }
  }
  AddDeletionOfSteps(&batch);
  for (size_t place = 0; place < deletion.response_places; ++place) {
    batch.Delete(records::kRequests, records::ResponseKey(uid_, static_cast<uint8_t>(place)));
  }
  for (const records::RunPart part : records::kRunParts) {
    batch.Delete(records::kRuns, records::RunKey(uid_, part));
  }
  if (deletion.run > 0) {
    batch.DeletePrefix(records::kChunks, records::ChunksKey(uid_, deletion.run));
  }
  if (deletion.has_checkpoints) {
    batch.DeletePrefix(records::kCheckpoints, records::UidKey(uid_));
  }
  // Without the chain, because the deletion does not depend on changes that were rejected.
  store_->Commit(std::move(batch), durability_, nullptr, std::move(done));
  return nullptr;
}

// States and steps.

ModelLog::Done StoredModelLog::Step(const engine::State& next, const records::StepInput& input,
                                    const RecordedResponse& response, Done done) {
  const auto state_bytes = static_cast<int64_t>(next.values.size_bytes());
  const int64_t input_bytes = records::BytesOf(input);
  const bool as_input = input_bytes < state_bytes && logged_steps_ < kMostLoggedSteps &&
                        logged_bytes_ + input_bytes <= kMostLoggedStates * state_bytes &&
                        (project_ == nullptr ||
                         project_->HasRoom(Resource::kStoredBytes, input_bytes + kStepRecordBytes));
  if (!as_input) return State(next, response, std::move(done));
  store::WriteBatch batch;
  batch.Put(records::kLog, records::LoggedStepKey(uid_, next.step),
            records::EncodeLoggedStep(input));
  ++logged_steps_;
  logged_bytes_ += input_bytes;
  last_logged_ = next.step;
  AddResponse(response, &batch);
  return Commit(std::move(batch), std::move(done));
}

ModelLog::Done StoredModelLog::State(const engine::State& next, const RecordedResponse& response,
                                     Done done) {
  store::WriteBatch batch;
  AddState(next, &batch);
  AddResponse(response, &batch);
  return Commit(std::move(batch), std::move(done));
}

void StoredModelLog::AddState(const engine::State& next, store::WriteBatch* batch) {
  batch->Put(records::kStates, records::UidKey(uid_), records::EncodeState(next));
  AddDeletionOfSteps(batch);
  logged_bytes_ = 0;
}

void StoredModelLog::AddDeletionOfSteps(store::WriteBatch* batch) {
  for (; logged_steps_ > 0; --logged_steps_) {
    batch->Delete(records::kLog, records::LoggedStepKey(uid_, last_logged_ - logged_steps_ + 1));
  }
}

// Makes a logged step again. Its work fits the network.
absl::Status StoredModelLog::Repeat(const engine::Network& network, const records::StepInput& work,
                                    const std::string& model, const engine::State& state,
                                    engine::Workspace* workspace, engine::State* next) {
  const std::string step = absl::StrCat("logged step ", state.step + 1);
  if (logged_steps_ == kMostLoggedSteps) {
    return records::Damaged(model, absl::StrCat(step, ": expected at most ", kMostLoggedSteps,
                                                " logged steps, got more"));
  }
  engine::StepResult result;
  if (const auto* batch = std::get_if<engine::Dataset>(&work)) {
    if (engine::AwaitsFit(network, state)) {
      return records::Damaged(
          model, absl::StrCat(step, ": expected a standardisation that is fitted, got none"));
    }
    absl::Status fits = CheckWorkspace(network, batch->rows, engine::PassKind::kForwardBackward,
                                       absl::StrCat(model, ": ", step), *limits_);
    if (!fits.ok()) return fits;
    result = engine::TrainStep(network, state, batch->All(), workspace, next);
  } else {
    result = engine::ApplyStep(network, state, std::get<engine::Buffer>(work), workspace, next);
  }
  ++logged_steps_;
  logged_bytes_ += records::BytesOf(work);
  if (result.not_finite == engine::NotFinite::kNothing) return absl::OkStatus();
  return records::Damaged(model, absl::StrCat(step, ": expected a finite result, but ",
                                              NameOf(result.not_finite), " is not"));
}

absl::StatusOr<std::shared_ptr<engine::State>> StoredModelLog::ReadState(
    const engine::Network& network, const std::string& model, std::string* made_by) {
  const auto value = store_->Get(records::kStates, records::UidKey(uid_));
  if (!value.ok()) return value.status();
  if (!value->has_value()) return records::Damaged(model, "its state is missing");
  auto decoded = records::DecodeState(**value, network, model);
  if (!decoded.ok()) return decoded.status();
  std::shared_ptr<engine::State> state = *std::move(decoded);
  absl::Status repeated;
  engine::Workspace workspace;
  auto next = std::make_shared<engine::State>(network);
  const auto repeat = [&](absl::string_view key, absl::string_view record) {
    if (key != records::LoggedStepKey(uid_, state->step + 1)) {
      return records::Damaged(model, absl::StrCat("logged step ", state->step + 1, " is missing"));
    }
    const auto logged = records::DecodeLoggedStep(record, network, model);
    if (!logged.ok()) return logged.status();
    if (logged->instruction_set != engine::InstructionSet()) *made_by = logged->instruction_set;
    absl::Status made = Repeat(network, logged->work, model, *state, &workspace, next.get());
    if (made.ok()) std::swap(state, next);
    return made;
  };
  const absl::Status scanned =
      store_->Scan(records::kLog, records::LoggedStepKey(uid_, state->step + 1),
                   store::EndOfPrefix(records::UidKey(uid_)),
                   [&](absl::string_view key, absl::string_view record) {
                     repeated = repeat(key, record);
                     return repeated.ok();
                   });
  if (!scanned.ok()) return scanned;
  if (!repeated.ok()) return repeated;
  last_logged_ = state->step;
  return state;
}

// Responses and checkpoints.

ModelLog::Done StoredModelLog::Response(const RecordedResponse& response, Done done) {
  store::WriteBatch batch;
  AddResponse(response, &batch);
  return Commit(std::move(batch), std::move(done));
}

void StoredModelLog::Checkpoints(store::WriteBatch changes, const RecordedResponse& response,
                                 Done done) {
  AddResponse(response, &changes);
  (void)Commit(std::move(changes), std::move(done));
}

void StoredModelLog::AddResponse(const RecordedResponse& response, store::WriteBatch* batch) const {
  if (response.key.id.empty()) return;
  batch->Put(records::kRequests,
             records::ResponseKey(uid_, ModelLedger::PlaceOf(response.sequence)),
             records::EncodeResponse(RecordOf(response)));
}

absl::StatusOr<std::vector<records::StoredResponse>> StoredModelLog::ReadResponses(
    const std::string& model) const {
  std::vector<records::StoredResponse> responses;
  absl::Status decoded;
  const std::string prefix = records::UidKey(uid_);
  const absl::Status scanned = store_->Scan(records::kRequests, prefix, store::EndOfPrefix(prefix),
                                            [&](absl::string_view, absl::string_view value) {
                                              auto response = records::DecodeResponse(value, model);
                                              decoded = response.status();
                                              if (!decoded.ok()) return false;
                                              responses.push_back(*std::move(response));
                                              return true;
                                            });
  if (!scanned.ok()) return scanned;
  if (!decoded.ok()) return decoded;
  std::sort(responses.begin(), responses.end(),
            [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  return responses;
}

// Runs.

// A run that resumes needs its rows. For other runs only the number is needed.
ModelLog::Done StoredModelLog::StartRun(const RunStart& start, const RecordedResponse& response,
                                        Done done) {
  const Run& run = *start.run;
  store::WriteBatch batch;
  records::StoredRun stored;
  stored.number = run.number();
  stored.resumes = run.resumes();
  stored.start_step = start.step;
  if (run.resumes()) {
    stored.config = run.config();
    stored.key = run.key();
    stored.model = start.model_id;
    stored.training_dataset = start.training->dataset;
    stored.validation_dataset = start.validation->dataset;
    const auto add = [&](const RowsInUse& rows, records::RowsOf which) {
      uint32_t count = 0;
      if (rows.rows == nullptr || rows.dataset != 0) return count;
      for (records::Chunk& chunk : records::EncodeRows(*rows.rows)) {
        batch.Put(records::kChunks, records::ChunkKey(uid_, run.number(), which, count++),
                  std::move(chunk.record));
      }
      return count;
    };
    stored.training_chunks = add(*start.training, records::RowsOf::kTraining);
    stored.validation_chunks = add(*start.validation, records::RowsOf::kValidation);
  }
  batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kRun),
            records::EncodeRun(stored));
  AddResponse(response, &batch);
  return Commit(std::move(batch), std::move(done));
}

void StoredModelLog::MarkRun(const Run& run, const engine::State& state,
                             const records::ProgressMark* mark, store::WriteBatch checkpoints,
                             Done done) {
  store::WriteBatch batch = std::move(checkpoints);
  AddState(state, &batch);
  if (mark != nullptr) {
    batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kMark),
              records::EncodeMark(*mark, run.log().Image()));
    if (mark->best_state != stored_best_) {
      stored_best_ = mark->best_state;
      batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kBest),
                records::EncodeState(*stored_best_));
    }
  }
  (void)Commit(std::move(batch), std::move(done));
}

ModelLog::Done StoredModelLog::EndRun(const Run& run, const engine::State& state,
                                      const records::RunSummary& summary,
                                      records::UnfinishedEpochPtr unfinished,
                                      store::WriteBatch checkpoints, Done done) {
  store::WriteBatch batch = std::move(checkpoints);
  AddState(state, &batch);
  batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kFinished),
            records::EncodeFinishedRun(
                {run.number(), run.config(), run.log().Image(), summary, std::move(unfinished)}));
  for (const records::RunPart part :
       {records::RunPart::kRun, records::RunPart::kMark, records::RunPart::kBest}) {
    batch.Delete(records::kRuns, records::RunKey(uid_, part));
  }
  if (run.resumes()) {
    batch.DeletePrefix(records::kChunks, records::ChunksKey(uid_, run.number()));
  }
  stored_best_ = nullptr;
  return Commit(std::move(batch), std::move(done));
}

absl::StatusOr<std::optional<records::FinishedRun>> StoredModelLog::ReadFinishedRun(
    const std::string& model) const {
  const auto value =
      store_->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kFinished));
  if (!value.ok()) return value.status();
  if (!value->has_value()) return std::nullopt;
  return records::DecodeFinishedRun(**value, model);
}

absl::StatusOr<std::optional<StoredModelLog::ActiveRun>> StoredModelLog::ReadActiveRun(
    const engine::Network& network, const std::string& model) {
  const auto value = store_->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kRun));
  if (!value.ok()) return value.status();
  if (!value->has_value()) return std::nullopt;
  auto run = records::DecodeRun(**value, model);
  if (!run.ok()) return run.status();
  ActiveRun active;
  active.run = *std::move(run);
  if (!active.run.resumes) return active;
  const int64_t number = active.run.number;
  auto training =
      ReadRows(network, number, records::RowsOf::kTraining, active.run.training_chunks, model);
  if (!training.ok()) return training.status();
  auto validation =
      ReadRows(network, number, records::RowsOf::kValidation, active.run.validation_chunks, model);
  if (!validation.ok()) return validation.status();
  active.rows = {*std::move(training), *std::move(validation)};
  const absl::Status marked = ReadMark(network, model, &active);
  if (!marked.ok()) return marked;
  return active;
}

absl::StatusOr<std::shared_ptr<const engine::Dataset>> StoredModelLog::ReadRows(
    const engine::Network& network, int64_t run, records::RowsOf which, uint32_t chunks,
    const std::string& model) const {
  if (chunks == 0) return nullptr;
  std::vector<std::string> values;
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    auto value = store_->Get(records::kChunks, records::ChunkKey(uid_, run, which, chunk));
    if (!value.ok()) return value.status();
    if (!value->has_value()) return records::Damaged(model, "the rows of its run are missing");
    values.push_back(**std::move(value));
  }
  auto rows = records::DecodeRows(values, network, model);
  if (!rows.ok()) return rows.status();
  return std::make_shared<const engine::Dataset>(*std::move(rows));
}

absl::Status StoredModelLog::ReadMark(const engine::Network& network, const std::string& model,
                                      ActiveRun* run) {
  const auto value = store_->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kMark));
  if (!value.ok()) return value.status();
  if (!value->has_value()) return absl::OkStatus();
  auto mark = records::DecodeMark(**value, model);
  if (!mark.ok()) return mark.status();
  records::Rules rules(model);
  rules.Between("a mark's iteration", mark->mark.iteration, 0, run->run.config.iterations);
  if (!rules.ok()) return rules.status();
  run->mark = std::move(mark->mark);
  run->log = std::move(mark->log);
  const auto& stopping = run->run.config.early_stopping;
  if (!stopping.has_value() || !stopping->restore_best) return absl::OkStatus();
  const auto best = store_->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kBest));
  if (!best.ok()) return best.status();
  if (best->has_value()) {
    auto state = records::DecodeState(**best, network, model);
    if (!state.ok()) return state.status();
    run->mark->best_state = *std::move(state);
    stored_best_ = run->mark->best_state;
  }
  return absl::OkStatus();
}

}  // namespace backprop::session
