#include "server/session/loader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/codec/spec_codec.h"
#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/step.h"
#include "server/engine/workspace.h"
#include "server/records/checkpoint.h"
#include "server/records/frame.h"
#include "server/records/keys.h"
#include "server/records/model_records.h"
#include "server/records/request_key.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/run_events.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

// Reads the records of one model. Load() may be called once.
class Loader {
 public:
  Loader(Environment* environment, absl::string_view id)
      : environment_(environment), id_(id), name_(absl::StrCat("models/", id)) {}

  absl::StatusOr<std::shared_ptr<Session>> Load() {
    const auto value = store()->Get(records::kModels, id_);
    if (!value.ok()) return value.status();
    if (!value->has_value()) return nullptr;
    auto model = records::DecodeModel(**value, id_);
    if (!model.ok()) return model.status();
    uid_ = model->uid;
    start_.uid = uid_;
    start_.journal.emplace(store(), uid_, model->durability);
    using Part = absl::Status (Loader::*)();
    absl::Status read = ReadModel(*model);
    for (const Part part : {&Loader::ReadState, &Loader::ReplayLog, &Loader::ReadFinishedRun,
                            &Loader::ReadRun, &Loader::ReadResponses, &Loader::ReadCheckpoints}) {
      if (read.ok()) read = (this->*part)();
    }
    if (!read.ok()) return read;
    auto session = std::make_shared<Session>(environment_, std::move(start_));
    if (resume_.has_value()) session->ResumeRun(*std::move(resume_));
    return session;
  }

 private:
  store::Store* store() const { return environment_->store; }
  const engine::Network& network() const { return *start_.network; }

  absl::Status ReadModel(const records::StoredModel& model) {
    auto decoded = codec::DecodeSpecRecord(model.spec);
    if (!decoded.ok()) {
      return records::Damaged(name_,
                              absl::StrCat("its spec is invalid: ", decoded.status().message()));
    }
    start_.info.id = id_;
    start_.info.labels = model.labels;
    start_.info.ttl = model.ttl;
    start_.info.class_names = std::move(decoded->class_names);
    start_.info.feature_names = std::move(decoded->feature_names);
    start_.network = std::make_shared<engine::Network>(std::move(decoded->spec));
    start_.create_time = model.create_time;
    start_.created_by = model.created_by;
    start_.created_at_step = model.created_at_step;
    return absl::OkStatus();
  }

  absl::Status ReadState() {
    const auto value = store()->Get(records::kStates, records::UidKey(uid_));
    if (!value.ok()) return value.status();
    if (!value->has_value()) return records::Damaged(name_, "its state is missing");
    auto state = records::DecodeState(**value, network(), name_);
    if (!state.ok()) return state.status();
    state_ = *std::move(state);
    return absl::OkStatus();
  }

  // Repeats the steps logged after that state, exactly as they were made the first time.
  absl::Status ReplayLog() {
    absl::Status status;
    int64_t steps = 0, bytes = 0;
    engine::Workspace workspace;
    auto next = std::make_shared<engine::State>(network());
    absl::Status scanned = store()->Scan(
        records::kLog, records::LoggedStepKey(uid_, state_->step + 1),
        store::EndOfPrefix(records::UidKey(uid_)),
        [&](absl::string_view key, absl::string_view value) {
          const int64_t step = state_->step + 1;
          if (key != records::LoggedStepKey(uid_, step)) {
            status = records::Damaged(name_, absl::StrCat("logged step ", step, " is missing"));
            return false;
          }
          const auto logged = records::DecodeLoggedStep(value, network(), name_);
          if (!logged.ok()) {
            status = logged.status();
            return false;
          }
          if (logged->instruction_set != engine::InstructionSet()) {
            made_by_ = logged->instruction_set;
          }
          if (const auto* batch = std::get_if<engine::Dataset>(&logged->work)) {
            engine::TrainStep(network(), *state_, batch->All(), &workspace, next.get());
          } else {
            engine::ApplyStep(network(), *state_, std::get<engine::Buffer>(logged->work),
                              &workspace, next.get());
          }
          std::swap(state_, next);
          ++steps;
          bytes += records::BytesOf(logged->work);
          return true;
        });
    if (!scanned.ok()) return scanned;
    if (!status.ok()) return status;
    if (!made_by_.empty() && environment_->on_warning) {
      environment_->on_warning(absl::StrCat(
          name_, ": logged steps of the engine for ", made_by_, " are replayed by the engine for ",
          engine::InstructionSet(), "; the parameters may differ in their last bits"));
    }
    start_.journal->Restore(steps, bytes, state_->step);
    start_.state = state_;
    return absl::OkStatus();
  }

  absl::Status ReadFinishedRun() {
    const auto value =
        store()->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kFinished));
    if (!value.ok()) return value.status();
    if (!value->has_value()) return absl::OkStatus();
    auto finished = records::DecodeFinishedRun(**value, name_);
    if (!finished.ok()) return finished.status();
    start_.run_count = finished->number;
    start_.latest_run = std::make_shared<Run>(
        absl::StrCat(name_, "/runs/", finished->number), finished->number, finished->config,
        records::RequestKey(), false, std::move(finished->log));
    start_.latest_run->Finish(finished->summary);
    start_.unfinished = std::move(finished->unfinished);
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const engine::Dataset>> ReadRows(int64_t run,
                                                                  records::RowsOf which,
                                                                  uint32_t pieces) {
    if (pieces == 0) return nullptr;
    std::vector<std::string> values;
    for (uint32_t piece = 0; piece < pieces; ++piece) {
      auto value = store()->Get(records::kChunks, records::ChunkKey(uid_, run, which, piece));
      if (!value.ok()) return value.status();
      if (!value->has_value()) return records::Damaged(name_, "the rows of its run are missing");
      values.push_back(**std::move(value));
    }
    auto rows = records::DecodeRows(values, network(), name_);
    if (!rows.ok()) return rows.status();
    return std::make_shared<const engine::Dataset>(*std::move(rows));
  }

  absl::Status ReadRun() {
    const auto value = store()->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kRun));
    if (!value.ok()) return value.status();
    if (!value->has_value()) return absl::OkStatus();
    const auto run = records::DecodeRun(**value, name_);
    if (!run.ok()) return run.status();
    start_.run_count = run->number;
    start_.unfinished = nullptr;                 // this run has made later steps
    if (!run->resumes) return absl::OkStatus();  // it ended with the server; its state is kept
    auto training = ReadRows(run->number, records::RowsOf::kTraining, run->training_chunks);
    if (!training.ok()) return training.status();
    auto validation = ReadRows(run->number, records::RowsOf::kValidation, run->validation_chunks);
    if (!validation.ok()) return validation.status();
    records::RunLogImage log;
    Session::ResumeArgs resume;
    resume.data = {*std::move(training), *std::move(validation)};
    resume.start_step = run->start_step;
    resume.training_dataset = run->training_dataset;
    resume.validation_dataset = run->validation_dataset;
    absl::Status marked = ReadMark(&resume, &log);
    if (!marked.ok()) return marked;
    resume.run = std::make_shared<Run>(absl::StrCat(name_, "/runs/", run->number), run->number,
                                       run->config, run->key, true, std::move(log));
    resume_ = std::move(resume);
    return absl::OkStatus();
  }

  absl::Status ReadMark(Session::ResumeArgs* resume, records::RunLogImage* log) {
    const auto value = store()->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kMark));
    if (!value.ok()) return value.status();
    if (!value->has_value()) return absl::OkStatus();
    auto mark = records::DecodeMark(**value, name_);
    if (!mark.ok()) return mark.status();
    const auto best = store()->Get(records::kRuns, records::RunKey(uid_, records::RunPart::kBest));
    if (!best.ok()) return best.status();
    if (best->has_value()) {
      auto state = records::DecodeState(**best, network(), name_);
      if (!state.ok()) return state.status();
      mark->mark.best_state = *std::move(state);
    }
    resume->mark = std::move(mark->mark);
    *log = std::move(mark->log);
    return absl::OkStatus();
  }

  absl::Status ReadResponses() {
    std::vector<records::StoredResponse> responses;
    absl::Status status;
    const std::string prefix = records::UidKey(uid_);
    absl::Status scanned = store()->Scan(records::kRequests, prefix, store::EndOfPrefix(prefix),
                                         [&](absl::string_view, absl::string_view value) {
                                           auto response = records::DecodeResponse(value, name_);
                                           if (!response.ok()) {
                                             status = response.status();
                                             return false;
                                           }
                                           responses.push_back(*std::move(response));
                                           return true;
                                         });
    if (!scanned.ok()) return scanned;
    if (!status.ok()) return status;
    std::sort(responses.begin(), responses.end(),
              [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
    for (const records::StoredResponse& stored : responses) {
      start_.responses.push_back({stored.key, stored.time, ResponseOf(stored), stored.sequence});
    }
    return absl::OkStatus();
  }

  // A response with the run that the record names, if it is still known.
  MutationResponse ResponseOf(const records::StoredResponse& stored) const {
    if (const auto* step = std::get_if<records::StepOutcome>(&stored.response)) return *step;
    if (const auto* edited = std::get_if<int64_t>(&stored.response)) return *edited;
    if (const auto* checkpoint = std::get_if<records::CheckpointPtr>(&stored.response))
      return *checkpoint;
    RunResponse response{std::get<records::RunNumber>(stored.response).number, nullptr};
    for (const auto& run : {start_.latest_run, resume_.has_value() ? resume_->run : nullptr}) {
      if (run != nullptr && run->number() == response.number) response.run = run;
    }
    return response;
  }

  absl::Status ReadCheckpoints() {
    auto checkpoints = Checkpoints::Load(store(), uid_, name_);
    if (!checkpoints.ok()) return checkpoints.status();
    start_.checkpoints = *std::move(checkpoints);
    return absl::OkStatus();
  }

  Environment* const environment_;
  const std::string id_;
  const std::string name_;
  records::Uid uid_ = 0;
  SessionStart start_;
  std::shared_ptr<engine::State> state_;
  std::string made_by_;  // instruction set of logged steps if it is not this machine's
  std::optional<Session::ResumeArgs> resume_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Session>> LoadSession(Environment* environment,
                                                     absl::string_view id) {
  return Loader(environment, id).Load();
}

}  // namespace backprop::session
