// Where a model writes its changes, so that they survive the session.
#ifndef BACKPROP_SERVER_SESSION_MODEL_LOG_H_
#define BACKPROP_SERVER_SESSION_MODEL_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/network.h"
#include "server/records/model_records.h"
#include "server/records/progress_mark.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"
#include "server/session/recorded_response.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"
#include "server/store/store.h"

namespace backprop::session {

// Each function writes one change, with the response to its request if that has an id. Changes are
// applied in the order of the calls. After one was rejected all later ones are rejected as well:
// the log then holds an older state than the session, which must be loaded again.
//
// A function that returns a `Done` returns its argument if there is nothing to wait for: the caller
// calls it, without its lock. Otherwise, and for functions without a result, `done` is called later
// by a thread of the store, never during the call, with the error if the change was rejected.
//
// Implementations: StoredModelLog, and MemoryModelLog for a model that is only in memory, which
// stores nothing but checkpoints. Thread-compatible: the session calls it with its lock held. Any
// thread may call durability() and stored().
class ModelLog {
 public:
  using Done = store::Store::Done;
  virtual ~ModelLog() = default;

  // How the model's changes are stored. kNone also for a model in memory: stored() tells them
  // apart.
  virtual store::Durability durability() const = 0;
  // Whether the model can be loaded from what this log has written.
  virtual bool stored() const = 0;
  // Whether a change was rejected.
  virtual bool broken() const = 0;
  // Rejects all later changes. Requires stored().
  virtual void Break() = 0;

  // A new model in its first state. `registry_part`: records that are stored with it.
  [[nodiscard]] virtual Done Create(const std::string& id, records::StoredModel model,
                                    const engine::State& state, store::WriteBatch registry_part,
                                    Done done) = 0;
  // The deletion of the model and everything that belongs to it. It does not depend on changes that
  // were rejected. `response_places`: ModelLedger::places(). `run`: a run whose rows are stored, or
  // 0. `has_checkpoints`: whether there are any.
  struct Deletion {
    std::string id;
    size_t response_places = 0;
    int64_t run = 0;
    bool has_checkpoints = false;
  };
  [[nodiscard]] virtual Done Delete(const Deletion& deletion, store::WriteBatch registry_part,
                                    Done done) = 0;

  // A step from the state of the last call to `next`.
  [[nodiscard]] virtual Done Step(const engine::State& next, const records::StepInput& input,
                                  const RecordedResponse& response, Done done) = 0;
  // A state that is not the result of a step.
  [[nodiscard]] virtual Done State(const engine::State& next, const RecordedResponse& response,
                                   Done done) = 0;
  // Nothing but a response.
  [[nodiscard]] virtual Done Response(const RecordedResponse& response, Done done) = 0;
  // Nothing: waits for all earlier changes.
  [[nodiscard]] Done WhenStored(Done done) { return Response({}, std::move(done)); }
  // Changes of checkpoints, which both implementations store.
  virtual void Checkpoints(store::WriteBatch changes, const RecordedResponse& response,
                           Done done) = 0;

  // The start of a run. The rows are stored if the run resumes after a restart, unless they belong
  // to a dataset.
  struct RunStart {
    std::string model_id;
    const Run* run;
    int64_t step = 0;  // of the model
    const RowsInUse* training;
    const RowsInUse* validation;
  };
  [[nodiscard]] virtual Done StartRun(const RunStart& start, const RecordedResponse& response,
                                      Done done) = 0;
  // The progress of the active run. `mark`: where the run resumes; null if it does not.
  // `checkpoints`: changes of checkpoints.
  virtual void MarkRun(const Run& run, const engine::State& state,
                       const records::ProgressMark* mark, store::WriteBatch checkpoints,
                       Done done) = 0;
  // The end of the active run, with the last state.
  [[nodiscard]] virtual Done EndRun(const Run& run, const engine::State& state,
                                    const records::RunSummary& summary,
                                    records::UnfinishedEpochPtr unfinished,
                                    store::WriteBatch checkpoints, Done done) = 0;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_MODEL_LOG_H_
