#include "server/session/memory_model_log.h"

#include <cassert>
#include <utility>

#include "server/engine/network.h"
#include "server/records/tables.h"

namespace backprop::session {

void MemoryModelLog::Break() { assert(false && "a log in memory does not reject changes"); }

ModelLog::Done MemoryModelLog::Create(const std::string&, records::StoredModel,
                                      const engine::State&, store::WriteBatch, Done done) {
  return done;
}

ModelLog::Done MemoryModelLog::Delete(const Deletion& deletion, store::WriteBatch, Done done) {
  if (deletion.has_checkpoints) {
    store::WriteBatch batch;
    batch.DeletePrefix(records::kCheckpoints, records::UidKey(uid_));
    Archive(std::move(batch), [](const absl::Status&) {});
  }
  return done;
}

ModelLog::Done MemoryModelLog::Step(const engine::State&, const records::StepInput&,
                                    const RecordedResponse&, Done done) {
  return done;
}

ModelLog::Done MemoryModelLog::State(const engine::State&, const RecordedResponse&, Done done) {
  return done;
}

ModelLog::Done MemoryModelLog::Response(const RecordedResponse&, Done done) { return done; }

void MemoryModelLog::Checkpoints(store::WriteBatch changes, const RecordedResponse&, Done done) {
  Archive(std::move(changes), std::move(done));
}

ModelLog::Done MemoryModelLog::StartRun(const RunStart&, const RecordedResponse&, Done done) {
  return done;
}

void MemoryModelLog::MarkRun(const Run&, const engine::State&, const records::ProgressMark*,
                             store::WriteBatch checkpoints, Done done) {
  Archive(std::move(checkpoints), std::move(done));
}

ModelLog::Done MemoryModelLog::EndRun(const Run&, const engine::State&, const records::RunSummary&,
                                      records::UnfinishedEpochPtr, store::WriteBatch checkpoints,
                                      Done done) {
  if (!checkpoints.ops().empty()) Archive(std::move(checkpoints), [](const absl::Status&) {});
  return done;
}

void MemoryModelLog::Archive(store::WriteBatch batch, Done done) {
  archive_->Commit(std::move(batch), store::Durability::kNone, nullptr, std::move(done));
}

}  // namespace backprop::session
