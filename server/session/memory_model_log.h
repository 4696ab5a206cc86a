// The log of a model that is only in memory.
#ifndef BACKPROP_SERVER_SESSION_MEMORY_MODEL_LOG_H_
#define BACKPROP_SERVER_SESSION_MEMORY_MODEL_LOG_H_

#include <string>

#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/session/model_log.h"
#include "server/store/store.h"

namespace backprop::session {

// Writes checkpoints to an archive in memory, and nothing else.
class MemoryModelLog final : public ModelLog {
 public:
  // `archive` must outlive the log.
  MemoryModelLog(store::Store* archive, records::Uid uid) : archive_(archive), uid_(uid) {}

  store::Durability durability() const override { return store::Durability::kNone; }
  bool stored() const override { return false; }
  bool broken() const override { return false; }
  void Break() override;

  Done Create(const std::string& id, records::StoredModel model, const engine::State& state,
              store::WriteBatch registry_part, Done done) override;
  Done Delete(const Deletion& deletion, store::WriteBatch registry_part, Done done) override;
  Done Step(const engine::State& next, const records::StepInput& input,
            const RecordedResponse& response, Done done) override;
  Done State(const engine::State& next, const RecordedResponse& response, Done done) override;
  Done Response(const RecordedResponse& response, Done done) override;
  void Checkpoints(store::WriteBatch changes, const RecordedResponse& response, Done done) override;
  Done StartRun(const RunStart& start, const RecordedResponse& response, Done done) override;
  void MarkRun(const Run& run, const engine::State& state, const records::ProgressMark* mark,
               store::WriteBatch checkpoints, Done done) override;
  Done EndRun(const Run& run, const engine::State& state, const records::RunSummary& summary,
              records::UnfinishedEpochPtr unfinished, store::WriteBatch checkpoints,
              Done done) override;

 private:
  void Archive(store::WriteBatch batch, Done done);

  store::Store* const archive_;
  const records::Uid uid_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_MEMORY_MODEL_LOG_H_
