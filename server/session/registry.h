// All models of a server, by name.
#ifndef BACKPROP_SERVER_SESSION_REGISTRY_H_
#define BACKPROP_SERVER_SESSION_REGISTRY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/mutex.h"
#include "server/session/session.h"

namespace backprop::session {

// Sharded by id: no lock is shared by all requests. Thread-safe.
class Registry {
 public:
  explicit Registry(Environment* environment) : environment_(environment) {}

  struct CreateArgs {
    ModelInfo info;  // an empty id asks for an unguessable one
    std::shared_ptr<const engine::Network> network;
    // The first state; called once it is sure that there is room for it.
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>()> initial;
    RequestKey key;
  };
  // ALREADY_EXISTS (MODEL_EXISTS), RESOURCE_EXHAUSTED, or what `initial` answers. A retry gets the
  // session that the first call made.
  absl::StatusOr<std::shared_ptr<Session>> Create(CreateArgs args);

  // NOT_FOUND, or UNAVAILABLE while draining. Counts as use of the model.
  absl::StatusOr<std::shared_ptr<Session>> Find(absl::string_view id);

  absl::Status Delete(absl::string_view id, const RequestKey& key);

  // Up to `count` models whose id is greater than `after`, with all of `labels`, by id.
  std::vector<std::shared_ptr<Session>> List(absl::string_view after, size_t count,
                                             const std::map<std::string, std::string>& labels);

  // Deletes the models whose time has come. Returns how many.
  int64_t ExpireIdle();

  // From now on every Find and Create answers UNAVAILABLE, and every run stops.
  void Drain();

  int64_t size() const { return models_.load(); }

 private:
  struct Creation {
    std::string id;
    bool done = false;
  };
  struct Shard {
    Mutex mu;
    std::map<std::string, std::shared_ptr<Session>, std::less<>> models ABSL_GUARDED_BY(mu);
    std::vector<std::weak_ptr<Session>> mortal ABSL_GUARDED_BY(mu);  // those with a ttl
    // Of requests whose id falls into this shard.
    RequestWindow<Creation> creations ABSL_GUARDED_BY(mu){kRegistryRequestWindow};
    RequestWindow<std::monostate> deletions ABSL_GUARDED_BY(mu){kRegistryRequestWindow};
  };

  Shard& ShardOf(absl::string_view key);
  std::shared_ptr<Session> Lookup(absl::string_view id);
  absl::StatusOr<std::shared_ptr<Session>> Reserve(CreateArgs* args);
  absl::StatusOr<std::shared_ptr<Session>> Insert(CreateArgs* args);
  void Remove(const std::shared_ptr<Session>& session);

  Environment* const environment_;
  std::array<Shard, 16> shards_;
  std::atomic<int64_t> models_{0};
  std::atomic<int64_t> parameters_{0};  // numbers held by all models, optimiser state included
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REGISTRY_H_
