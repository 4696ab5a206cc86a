// Checkpoints, datasets and files.
#ifndef BACKPROP_CLIENT_RESOURCES_H_
#define BACKPROP_CLIENT_RESOURCES_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backprop/model.h"
#include "backprop/tensor.h"
#include "backprop/training.h"

namespace backprop {

// A stored state of a model.
struct CheckpointInfo {
  std::string name{};  // models/{id}/checkpoints/{id}
  int64_t step = 0;
  std::chrono::system_clock::time_point create_time{};
  int64_t size_bytes = 0;
  std::string run{};  // the run that made it automatically; empty: none
  int64_t iteration = 0;
  bool best = false;
  std::optional<Metrics> metrics{};
  std::optional<Metrics> validation{};
};

// Rows stored on the server.
struct DatasetInfo {
  std::string name{};  // datasets/{id}
  bool ready = false;  // false: the upload is not complete
  int64_t rows = 0;
  int32_t input_size = 0;
  int32_t target_size = 0;  // 0: rows have classes
  bool has_sample_weights = false;
  DataType data_type = DataType::kFloat32;
  std::vector<std::string> class_names{};
  std::map<std::string, std::string> labels{};
  std::chrono::system_clock::time_point create_time{};
  int64_t size_bytes = 0;
  std::vector<std::string> feature_names{};  // one for each input of a row, or none
};

struct UploadOptions {
  DataType data_type = DataType::kFloat32;  // precision of the stored rows
  std::map<std::string, std::string> labels{};
  std::function<void(int64_t rows)> on_progress{};  // rows sent so far
  // Names of the inputs, in their order: a model that names its features takes no others. Optional.
  std::vector<std::string> feature_names{};
};

// Returns rows from index `first_row` on, at most as many as fit in a message; nothing after the
// last row. After a broken connection it is called again from the first row that the server does
// not have.
using RowSource = std::function<std::optional<Batch>(int64_t first_row)>;

// Receives the next bytes of a file. Returning false cancels the call.
using ByteSink = std::function<bool(std::string_view bytes)>;
// Returns the next bytes of a file; nothing at the end.
using ByteSource = std::function<std::optional<std::string>()>;

// A source that can be read more than once: returns one that starts at the first byte; an empty
// function if it cannot be opened.
struct RepeatableSource {
  std::function<ByteSource()> open{};
};
// The bytes of a file.
RepeatableSource FileSource(const std::string& path);

// The format of the file of a model.
enum class ModelFileFormat {
  kDefault,   // export: kBackprop; import: detected from the first bytes
  kBackprop,  // the server's own: the whole model, with its optimiser state
  kOnnx,      // the graph from an input row to its predictions
};

// An optimiser with what ModelSpec has beside it.
struct OptimizerSettings {
  Optimizer optimizer{};
  Schedule schedule{};
  double l1 = 0;
  Clipping clipping{};
};

struct ImportOptions {
  std::string model_id{};  // empty: the server draws one
  Durability durability = Durability::kDefault;
  ModelFileFormat format = ModelFileFormat::kDefault;
  // Only with an ONNX file. Unset: those of the model that the server exported to it. In a file of
  // another program they are unknown: the server chooses the loss by the end of the graph, and SGD.
  std::optional<Loss> loss{};
  std::optional<OptimizerSettings> optimizer{};
};

struct RestoredBackup {
  int64_t models = 0;
  int64_t runs = 0;  // runs that resume
};

// One quota of a project.
struct QuotaUse {
  std::string quota{};            // models, parameters, … (docs/security.md)
  std::optional<int64_t> used{};  // unset for rates
  std::optional<double> limit{};  // unset: limited by the limits of the server only
};

// What a project uses of a server, and what it may use.
struct ProjectInfo {
  std::string name{};  // projects/{id}
  std::vector<QuotaUse> quotas{};
  double weight = 1;  // in the compute pool
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_RESOURCES_H_
