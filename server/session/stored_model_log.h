// Writes the changes of one model to a store, and reads them when the model is loaded.
#ifndef BACKPROP_SERVER_SESSION_STORED_MODEL_LOG_H_
#define BACKPROP_SERVER_SESSION_STORED_MODEL_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/engine/workspace.h"
#include "server/records/keys.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"
#include "server/session/model_log.h"
#include "server/session/projects.h"
#include "server/session/rows_in_use.h"
#include "server/store/store.h"

namespace backprop::session {

// Each change is one batch. The batches of a model form a chain, so that the store rejects all
// batches after one that it has rejected.
//
// A step is stored as its input if that is smaller than the state. After 256 such steps, or before
// their inputs have more than four times the bytes of a state, the whole state replaces them. A
// load repeats at most 256 steps.
//
// Functions that read are called when the model is loaded, before any that writes. They block on
// the disk. Their errors are DATA_LOSS, naming `model` (models/{id}), if a record is damaged, and
// those of the store.
class StoredModelLog final : public ModelLog {
 public:
  // `store` and `limits` must outlive the log, and `project`, that of the model, which may be null.
  // If its quota of stored bytes is reached, steps are stored as states, which take no more space.
  StoredModelLog(store::Store* store, const base::Limits* limits, records::Uid uid,
                 store::Durability durability, const Project* project = nullptr)
      : store_(store),
        limits_(limits),
        uid_(uid),
        durability_(durability),
        project_(project),
        chain_(std::make_shared<store::Chain>()) {}

  store::Durability durability() const override { return durability_; }
  bool stored() const override { return true; }
  bool broken() const override { return chain_->broken(); }
  void Break() override { chain_->Break(); }

  Done Create(const std::string& id, records::StoredModel model, const engine::State& state,
              store::WriteBatch registry_part, Done done) override;
  Done Delete(const Deletion& deletion, store::WriteBatch registry_part, Done done) override;

  Done Step(const engine::State& next, const records::StepInput& input,
            const RecordedResponse& response, Done done) override;
  Done State(const engine::State& next, const RecordedResponse& response, Done done) override;
  // Reads the last stored state and repeats the steps after it, exactly as they were made the first
  // time. `made_by`: set to the instruction set of the engine that made one of them, if it was not
  // that of this process; then the last bits may differ. Errors: also RESOURCE_EXHAUSTED if a step
  // needs more than max_workspace_bytes, which was more when it was made.
  absl::StatusOr<std::shared_ptr<engine::State>> ReadState(const engine::Network& network,
                                                           const std::string& model,
                                                           std::string* made_by);

  Done Response(const RecordedResponse& response, Done done) override;
  void Checkpoints(store::WriteBatch changes, const RecordedResponse& response, Done done) override;
  // The stored responses, oldest first.
  absl::StatusOr<std::vector<records::StoredResponse>> ReadResponses(
      const std::string& model) const;

  Done StartRun(const RunStart& start, const RecordedResponse& response, Done done) override;
  void MarkRun(const Run& run, const engine::State& state, const records::ProgressMark* mark,
               store::WriteBatch checkpoints, Done done) override;
  Done EndRun(const Run& run, const engine::State& state, const records::RunSummary& summary,
              records::UnfinishedEpochPtr unfinished, store::WriteBatch checkpoints,
              Done done) override;
  // The last run that has ended; nothing if none has.
  absl::StatusOr<std::optional<records::FinishedRun>> ReadFinishedRun(
      const std::string& model) const;
  // The run that was active when the server stopped; nothing if none was. Without rows that belong
  // to a dataset. A run that does not resume has no rows and no mark.
  struct ActiveRun {
    records::StoredRun run;
    RunData rows;
    std::optional<records::ProgressMark> mark;  // unset: the run resumes from its beginning
    records::RunLogImage log;
  };
  absl::StatusOr<std::optional<ActiveRun>> ReadActiveRun(const engine::Network& network,
                                                         const std::string& model);

 private:
  Done Commit(store::WriteBatch batch, Done done);
  absl::Status Repeat(const engine::Network& network, const records::StepInput& work,
                      const std::string& model, const engine::State& state,
                      engine::Workspace* workspace, engine::State* next);
  void AddState(const engine::State& next, store::WriteBatch* batch);
  void AddDeletionOfSteps(store::WriteBatch* batch);
  void AddResponse(const RecordedResponse& response, store::WriteBatch* batch) const;
  absl::StatusOr<std::shared_ptr<const engine::Dataset>> ReadRows(const engine::Network& network,
                                                                  int64_t run,
                                                                  records::RowsOf which,
                                                                  uint32_t chunks,
                                                                  const std::string& model) const;
  absl::Status ReadMark(const engine::Network& network, const std::string& model, ActiveRun* run);

  store::Store* const store_;
  const base::Limits* const limits_;
  const records::Uid uid_;
  const store::Durability durability_;
  const Project* const project_;
  const std::shared_ptr<store::Chain> chain_;
  // Steps in the log since the last stored state.
  int64_t logged_steps_ = 0;
  int64_t logged_bytes_ = 0;
  int64_t last_logged_ = 0;  // step count of the newest one
  // The best state of the active run that is stored, or null.
  std::shared_ptr<const engine::State> stored_best_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_STORED_MODEL_LOG_H_
