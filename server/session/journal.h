// Writes the changes of one model to the store.
#ifndef BACKPROP_SERVER_SESSION_JOURNAL_H_
#define BACKPROP_SERVER_SESSION_JOURNAL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/row_records.h"
#include "server/session/recorded_response.h"
#include "server/store/store.h"

namespace backprop::session {

// Each change is one batch; batches are committed in the order of the calls. After the store has
// rejected one, all later ones are rejected as well: the store then holds an older state than the
// session, which must be loaded again. Thread-compatible: the session calls it with its lock held.
// `done` is called later by a thread of the store, never during the call.
class Journal {
 public:
  using Done = store::Store::Done;

  Journal(store::Store* store, records::Uid uid, store::Durability durability)
      : store_(store),
        uid_(uid),
        durability_(durability),
        chain_(std::make_shared<store::Chain>()) {}

  records::Uid uid() const { return uid_; }
  store::Durability durability() const { return durability_; }
  bool broken() const { return chain_->broken(); }
  // Rejects all later changes; the session must be loaded again.
  void Break() { chain_->Break(); }
  store::Store* store() const { return store_; }

  // Stores a step: the next state or the work that produced it, whichever is smaller. Stores the
  // state if the log is so long that loading the model would be slow.
  void Step(const engine::State& next, const records::StepInput& work,
            const RecordedResponse& response, Done done);

  // Stores a state that is not the result of a logged step.
  void State(const engine::State& next, const RecordedResponse& response, Done done);

  // Stores a response, or (without a key) nothing. `done` is called when all earlier changes are
  // stored.
  void Response(const RecordedResponse& response, Done done);

  // Add to `batch`, which the caller commits, what the functions above would write.
  void AddState(const engine::State& next, store::WriteBatch* batch);
  void AddResponse(const RecordedResponse& response, store::WriteBatch* batch);
  // Adds the deletion of all records of the model, except its entry in table models and its
  // checkpoints. `responses`: ModelLedger::places(). `run`: the number of a run whose rows are
  // stored, or 0.
  void AddDeletion(size_t responses, int64_t run, store::WriteBatch* batch);
  void Commit(store::WriteBatch batch, Done done);

  // Continues after a load: the log has `logged_steps` steps, up to step `last_step`.
  void Restore(int64_t logged_steps, int64_t logged_bytes, int64_t last_step);

 private:
  store::Store* const store_;
  const records::Uid uid_;
  const store::Durability durability_;
  const std::shared_ptr<store::Chain> chain_;
  // Steps in the log since the last stored state.
  int64_t logged_steps_ = 0;
  int64_t logged_bytes_ = 0;
  int64_t last_logged_ = 0;  // step count of the newest one
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_JOURNAL_H_
