#include "server/store/group_commit.h"

#include <chrono>
#include <iterator>

#include "absl/time/time.h"

namespace backprop::store {
namespace {

// Longest time until a sync of batches written without sync.
constexpr std::chrono::milliseconds kSyncInterval(500);
// Shortest time between two attempts to recover.
constexpr std::chrono::milliseconds kMendInterval(20);
// Limits of a group: it fits in one record of the log, and its callers do not wait for a larger
// one.
constexpr size_t kMaxGroup = 4096;
constexpr size_t kMaxGroupBytes = size_t{16} << 20;

}  // namespace

GroupCommit::GroupCommit(WriteGroup write, SyncAll sync, Admit admit, StoreStats* stats)
    : write_(std::move(write)),
      sync_(std::move(sync)),
      admit_(std::move(admit)),
      stats_(stats),
      writer_([this] { Write(); }),
      answerer_([this] { Answer(); }) {}

GroupCommit::~GroupCommit() {
  {
    const base::MutexLock lock(&mu_);
    stopping_ = true;
  }
  to_write_changed_.NotifyAll();
  writer_.join();
  {
    const base::MutexLock lock(&mu_);
    written_all_ = true;
  }
  to_answer_changed_.NotifyAll();
  answerer_.join();
}

void GroupCommit::Commit(WriteBatch batch, Durability durability, std::shared_ptr<Chain> chain,
                         Store::Done done) {
  Waiting waiting{std::move(batch), durability,       std::move(chain),
                  std::move(done),  absl::OkStatus(), std::chrono::steady_clock::now()};
  {
    const base::MutexLock lock(&mu_);
    to_write_.push_back(std::move(waiting));
  }
  to_write_changed_.NotifyOne();
}

void GroupCommit::Mend() {
  {
    const base::MutexLock lock(&mu_);
    mend_ = true;
  }
  to_write_changed_.NotifyOne();
}

std::chrono::milliseconds GroupCommit::Interval() const {
  return failing_ ? kMendInterval : kSyncInterval;
}

void GroupCommit::Write() {
  auto last_sync = std::chrono::steady_clock::now();
  for (;;) {
    std::vector<Waiting> group;
    {
      const base::MutexLock lock(&mu_);
      const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return !to_write_.empty() || stopping_ || mend_;
      };
      if (unsynced_) {
        const auto rest = last_sync + Interval() - std::chrono::steady_clock::now();
        to_write_changed_.WaitFor(&mu_, absl::FromChrono(rest), ready);
      } else {
        to_write_changed_.Wait(&mu_, ready);
      }
      if (std::exchange(mend_, false)) unsynced_ = failing_ = true;
      if (to_write_.empty() && stopping_) break;
      size_t count = 0;
      for (size_t bytes = 0;
           count < to_write_.size() && count < kMaxGroup && bytes < kMaxGroupBytes; ++count) {
        bytes += to_write_[count].batch.bytes();
      }
      const auto end = to_write_.begin() + static_cast<int64_t>(count);
      group.assign(std::make_move_iterator(to_write_.begin()), std::make_move_iterator(end));
      to_write_.erase(to_write_.begin(), end);
    }
    if (!group.empty()) WriteOne(&group);
    if (stats_ != nullptr) Count(group);
    const auto now = std::chrono::steady_clock::now();
    if (unsynced_ && now >= last_sync + Interval()) {
      failing_ = !sync_().ok();
      unsynced_ = failing_;
      last_sync = now;
    }
    if (!unsynced_) last_sync = now;
    if (group.empty()) continue;
    {
      const base::MutexLock lock(&mu_);
      to_answer_.insert(to_answer_.end(), std::make_move_iterator(group.begin()),
                        std::make_move_iterator(group.end()));
    }
    to_answer_changed_.NotifyOne();
  }
  if (unsynced_) sync_().IgnoreError();
}

// Batches with a broken chain fail without a write. If the write fails, all others fail too.
void GroupCommit::WriteOne(std::vector<Waiting>* group) {
  const absl::Status status = WriteAdmitted(group);
  if (status.ok()) return;
  // sync_ attempts to recover, even if nothing is committed any more.
  unsynced_ = failing_ = true;
  for (Waiting& waiting : *group) {
    if (!waiting.status.ok() && waiting.chain != nullptr) waiting.chain->Break();
  }
}

// Writes the admitted batches and sets the status of the others. Returns an error if the store does
// not accept everything.
absl::Status GroupCommit::WriteAdmitted(std::vector<Waiting>* group) {
  absl::Status refused;
  std::vector<Waiting*> admitted;
  std::vector<const WriteBatch*> batches;
  bool sync = false;
  for (Waiting& waiting : *group) {
    if (waiting.chain != nullptr && waiting.chain->broken()) {
      waiting.status = absl::UnavailableError("an earlier change of this model was not stored");
      continue;
    }
    if (admit_) waiting.status = admit_(waiting.batch);
    if (!waiting.status.ok()) {
      refused = waiting.status;
      // Later batches of the chain in this group must not be written without this one.
      if (waiting.chain != nullptr) waiting.chain->Break();
      continue;
    }
    admitted.push_back(&waiting);
    batches.push_back(&waiting.batch);
    sync = sync || waiting.durability == Durability::kSync;
  }
  absl::Status status = batches.empty() ? absl::OkStatus() : write_(batches, sync);
  // During a failure sync_ is still called, even if deletions were written meanwhile.
  unsynced_ = failing_ || (!sync && (unsynced_ || !batches.empty()));
  if (status.ok()) return refused;
  // Deletions are tried again: on a full disk the store has released its reserve for them by now.
  for (Waiting* waiting : admitted) {
    const bool again = admit_ && waiting->batch.OnlyFrees() && admit_(waiting->batch).ok() &&
                       write_({&waiting->batch}, waiting->durability == Durability::kSync).ok();
    if (!again) waiting->status = status;
  }
  return status;
}

void GroupCommit::Count(const std::vector<Waiting>& group) {
  const auto now = std::chrono::steady_clock::now();
  int64_t stored = 0;
  for (const Waiting& waiting : group) {
    if (!waiting.status.ok()) {
      stats_->refused.Add();
    } else if (!waiting.batch.ops().empty()) {  // an empty one only waits for those before it
      ++stored;
      stats_->bytes.Add(static_cast<int64_t>(waiting.batch.bytes()));
      stats_->commits.Add(now - waiting.begin);
    }
  }
  if (stored > 0) stats_->group_sizes.Add(stored);
}

void GroupCommit::Answer() {
  for (;;) {
    std::vector<Waiting> group;
    {
      const base::MutexLock lock(&mu_);
      to_answer_changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return !to_answer_.empty() || written_all_;
      });
      if (to_answer_.empty()) return;
      group.swap(to_answer_);
    }
    for (Waiting& waiting : group) waiting.done(waiting.status);
  }
}

}  // namespace backprop::store
