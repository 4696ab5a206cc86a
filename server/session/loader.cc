#include "server/session/loader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/text.h"
#include "server/codec/spec_codec.h"
#include "server/engine/network.h"
#include "server/engine/step.h"
#include "server/records/checkpoint.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/request_key.h"
#include "server/records/response_records.h"
#include "server/records/rules.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/session/stored_model_log.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

// Reads the records of one model. Load() may be called once.
class Loader {
 public:
  Loader(Environment* environment, absl::string_view id)
      : environment_(environment), id_(id), name_(records::ModelName(id)) {}

  absl::StatusOr<std::shared_ptr<Session>> Load() {
    const auto value = store()->Get(records::kModels, id_);
    if (!value.ok()) return value.status();
    if (!value->has_value()) return nullptr;
    auto model = records::DecodeModel(**value, id_);
    if (!model.ok()) return model.status();
    uid_ = model->uid;
    start_.uid = uid_;
    auto log =
        std::make_unique<StoredModelLog>(store(), &environment_->limits, uid_, model->durability,
                                         environment_->projects.Of(records::ProjectOf(id_)));
    log_ = log.get();
    start_.log = std::move(log);
    using Part = absl::Status (Loader::*)();
    absl::Status read = ReadModel(*model);
    for (const Part part : {&Loader::ReadState, &Loader::ReadFinishedRun, &Loader::ReadActiveRun,
                            &Loader::ReadResponses, &Loader::ReadCheckpoints}) {
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
    records::Rules rules(name_);  // a wrong number would remain in the counts of the server
    rules.Equal("numbers", model.value_count,
                network().parameter_count() * (1 + network().slot_count()));
    if (!rules.ok()) return rules.status();
    start_.create_time = model.create_time;
    start_.created_by = model.created_by;
    start_.created_at_step = model.created_at_step;
    return absl::OkStatus();
  }

  absl::Status ReadState() {
    std::string made_by;
    auto state = log_->ReadState(network(), name_, &made_by);
    if (!state.ok()) return state.status();
    if (!made_by.empty() && environment_->on_warning) {
      environment_->on_warning(absl::StrCat(
          name_, ": logged steps of the engine for ", base::Escape(made_by, base::kMaxQuotedBytes),
          " are replayed by the engine for ", engine::InstructionSet(),
          "; the parameters may differ in their last bits"));
    }
    start_.state = *std::move(state);
    return absl::OkStatus();
  }

  absl::Status ReadFinishedRun() {
    auto finished = log_->ReadFinishedRun(name_);
    if (!finished.ok()) return finished.status();
    if (!finished->has_value()) return absl::OkStatus();
    records::FinishedRun& run = **finished;
    start_.run_count = run.number;
    start_.latest_run =
        std::make_shared<Run>(absl::StrCat(name_, "/runs/", run.number), run.number, run.config,
                              records::RequestKey(), false, std::move(run.log));
    start_.latest_run->Finish(run.summary);
    start_.unfinished = std::move(run.unfinished);
    return absl::OkStatus();
  }

  absl::Status ReadActiveRun() {
    auto read = log_->ReadActiveRun(network(), name_);
    if (!read.ok()) return read.status();
    if (!read->has_value()) return absl::OkStatus();
    StoredModelLog::ActiveRun& active = **read;
    start_.run_count = active.run.number;
    start_.unfinished = nullptr;  // this run has made later steps
    if (!active.run.resumes)
      return absl::OkStatus();  // it ended with the server; its state is kept
    ResumeArgs resume;
    resume.data = std::move(active.rows);
    resume.start_step = active.run.start_step;
    resume.mark = std::move(active.mark);
    resume.training_dataset = active.run.training_dataset;
    resume.validation_dataset = active.run.validation_dataset;
    resume.run =
        std::make_shared<Run>(absl::StrCat(name_, "/runs/", active.run.number), active.run.number,
                              active.run.config, active.run.key, true, std::move(active.log));
    resume_ = std::move(resume);
    return absl::OkStatus();
  }

  absl::Status ReadResponses() {
    const auto responses = log_->ReadResponses(name_);
    if (!responses.ok()) return responses.status();
    for (const records::StoredResponse& stored : *responses) {
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
  StoredModelLog* log_ = nullptr;  // of start_
  std::optional<ResumeArgs> resume_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Session>> LoadSession(Environment* environment,
                                                     absl::string_view id) {
  return Loader(environment, id).Load();
}

}  // namespace backprop::session
