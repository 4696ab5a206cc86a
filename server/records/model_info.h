// What the creator of a model specified in addition to its network.
#ifndef BACKPROP_SERVER_RECORDS_MODEL_INFO_H_
#define BACKPROP_SERVER_RECORDS_MODEL_INFO_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/records/project.h"
#include "server/store/store.h"

namespace backprop::records {

// When a change of the model counts as stored.
using Durability = store::Durability;

struct ModelInfo {
  std::string id;  // ScopedId
  std::map<std::string, std::string> labels;
  std::vector<std::string> class_names;
  std::vector<std::string> feature_names;
  std::optional<absl::Duration> ttl;
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_MODEL_INFO_H_
