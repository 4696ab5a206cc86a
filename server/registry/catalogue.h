// What the store knows of all models, and how many there may be.
#ifndef BACKPROP_SERVER_REGISTRY_CATALOGUE_H_
#define BACKPROP_SERVER_REGISTRY_CATALOGUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/records/model_info.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/session/environment.h"
#include "server/session/projects.h"
#include "server/store/store.h"

namespace backprop::registry {

using Labels = std::map<std::string, std::string>;
bool HasLabels(const Labels& all, const Labels& wanted);

// Values that a model stores: its parameters and the optimiser's values for them.
int64_t ValueCount(const engine::Network& network);

// What a model is, and how far it is trained.
struct Description {
  records::ModelInfo info;
  std::shared_ptr<const engine::Network> network;
  absl::Time create_time;
  records::Durability durability = records::Durability::kNone;
  std::optional<absl::Time> expire_time;
  int64_t step = 0;
  std::string active_run;  // empty: none
};

// Reads descriptions of models from the store, and counts models and their values against the
// limits. Thread-safe.
class Catalogue {
 public:
  // `environment` must outlive the catalogue. Without a store there are no models in it.
  explicit Catalogue(session::Environment* environment)
      : environment_(environment), store_(environment->store) {}

  // Reserves room for the model `id`, with `value_count` values, in the server and in the model's
  // project. RESOURCE_EXHAUSTED (LIMIT_EXCEEDED, QUOTA_EXCEEDED).
  absl::Status Reserve(absl::string_view id, int64_t value_count);
  void Release(absl::string_view id, int64_t value_count);
  // Counts a model that exists, whatever the limits are.
  void Count(absl::string_view id, int64_t value_count);
  // Counts as if there were no models.
  void ResetCounts();
  int64_t size() const { return models_.load(); }

  // Whether the store has a record of the model. Reads the disk only if it probably has.
  absl::StatusOr<bool> Contains(absl::string_view id) const;
  // The record of a model; nothing if there is none. DATA_LOSS if it is damaged.
  absl::StatusOr<std::optional<records::StoredModel>> Find(absl::string_view id) const;

  // Calls `visit` with each model whose id begins with `prefix` and is greater than `after`, in the
  // order of the ids, until it returns false. A model whose record is damaged is visited with an
  // error, DATA_LOSS.
  using Visitor = absl::FunctionRef<bool(absl::string_view id,
                                         const absl::StatusOr<records::StoredModel>& model)>;
  absl::Status Scan(absl::string_view prefix, absl::string_view after, Visitor visit) const;

  // Describes a model as of its last stored change. DATA_LOSS if a record that this reads is
  // damaged. Reads the logged steps, or the state if there are none, to find the step count.
  absl::StatusOr<Description> Describe(absl::string_view id,
                                       const records::StoredModel& model) const;

 private:
  const base::Limits& limits() const { return environment_->limits; }
  session::Project* ProjectOf(absl::string_view id) const {
    return environment_->projects.Of(records::ProjectOf(id));
  }

  session::Environment* const environment_;
  store::Store* const store_;
  std::atomic<int64_t> models_{0};
  std::atomic<int64_t> values_{0};
};

}  // namespace backprop::registry

#endif  // BACKPROP_SERVER_REGISTRY_CATALOGUE_H_
