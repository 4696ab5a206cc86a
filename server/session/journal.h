// What one model writes to the store.
#ifndef BACKPROP_SERVER_SESSION_JOURNAL_H_
#define BACKPROP_SERVER_SESSION_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/engine/network.h"
#include "server/session/answer.h"
#include "server/session/keys.h"
#include "server/session/records.h"
#include "server/store/store.h"

namespace backprop::session {

// Every change becomes one batch, and they are committed in the order in which they are handed
// over. Once one was refused so are all later ones: what the store holds is then behind the
// session, which has to be loaded again. Thread-compatible: its session calls it under its lock.
// `done` is called later, from a thread of the store, never from here.
class Journal {
 public:
  using Done = store::Store::Done;

  Journal(store::Store* store, Uid uid, store::Durability durability)
      : store_(store),
        uid_(uid),
        durability_(durability),
        chain_(std::make_shared<store::Chain>()) {}

  Uid uid() const { return uid_; }
  store::Durability durability() const { return durability_; }
  bool broken() const { return chain_->broken(); }
  // The session has to be loaded again.
  void Break() { chain_->Break(); }
  store::Store* store() const { return store_; }

  // A step from its work: the smaller one of the next state and the work is written, unless so many
  // steps have been that a load would take long.
  void Step(const engine::State& next, const StepWork& work, const KeyedAnswer& answer, Done done);

  // A state that follows from nothing else.
  void State(const engine::State& next, const KeyedAnswer& answer, Done done);

  // An answer alone, or (without a key) nothing: `done` says that all before it is stored.
  void Answer(const KeyedAnswer& answer, Done done);

  // Adds to a batch of the caller's what the functions above would write.
  void AddState(const engine::State& next, store::Batch* batch);
  void AddAnswer(const KeyedAnswer& answer, store::Batch* batch);
  // Everything of the model's but its entry in table models. `run`: the number of a run whose rows
  // are stored, or 0.
  void AddDeletion(int64_t run, store::Batch* batch);
  void Commit(store::Batch batch, Done done);

  // After a load: so many steps are logged, up to `last_step`; the next answer's sequence number.
  void Restore(int64_t logged_steps, int64_t logged_bytes, int64_t last_step,
               uint64_t next_sequence);

 private:
  store::Store* const store_;
  const Uid uid_;
  const store::Durability durability_;
  const std::shared_ptr<store::Chain> chain_;
  uint64_t next_sequence_ = 0;
  // Steps in the log since the last state that was written.
  int64_t logged_steps_ = 0;
  int64_t logged_bytes_ = 0;
  int64_t last_logged_ = 0;  // the newest one's key
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_JOURNAL_H_
