// The stores of a server, and whether changes can be stored.
#ifndef BACKPROP_SERVER_STORES_H_
#define BACKPROP_SERVER_STORES_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/ops/config.h"
#include "server/rpc/server.h"
#include "server/store/store.h"

namespace backprop {

// Reports in the server's health whether changes can be stored. Thread-safe. The store may outlive
// the server.
class WritableServer {
 public:
  // Null: there is none any more.
  void Set(rpc::Server* server);
  // Whether the server accepts calls.
  bool serving();
  // Called by the store when its health changes.
  void OnHealth(const absl::Status& health);

 private:
  void Tell() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  base::Mutex mu_;
  rpc::Server* server_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool writable_ ABSL_GUARDED_BY(mu_) = true;
  bool serving_ ABSL_GUARDED_BY(mu_) = true;
};

// The store of models, if there is one; and one of bulk data, in memory, if not.
struct Stores {
  std::unique_ptr<store::Store> models;
  std::unique_ptr<store::Store> memory;
  store::Store* archive() const { return models != nullptr ? models.get() : memory.get(); }
};

// Opens the store in the data directory, if there is one: deletes what an interrupted restore left
// in it, and upgrades its format. `writable` must outlive the result. Errors say what to do.
absl::StatusOr<Stores> OpenStores(const ops::Config& config, WritableServer* writable);

}  // namespace backprop

#endif  // BACKPROP_SERVER_STORES_H_
