// What else a server keeps: checkpoints and datasets.
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

// A point to return to.
struct CheckpointInfo {
  std::string name{};  // models/{id}/checkpoints/{id}
  int64_t step = 0;
  std::chrono::system_clock::time_point create_time{};
  int64_t size_bytes = 0;
  std::string run{};  // that made it by itself
  int64_t iteration = 0;
  bool best = false;
  std::optional<Metrics> metrics{};
  std::optional<Metrics> validation{};
};

// Rows that were sent once.
struct DatasetInfo {
  std::string name{};  // datasets/{id}
  bool ready = false;  // else its upload is not complete
  int64_t rows = 0;
  int32_t input_size = 0;
  int32_t target_size = 0;  // 0: rows carry classes
  bool has_sample_weights = false;
  DataType data_type = DataType::kFloat32;
  std::vector<std::string> class_names{};
  std::map<std::string, std::string> labels{};
  std::chrono::system_clock::time_point create_time{};
  int64_t size_bytes = 0;
};

struct UploadOptions {
  DataType data_type = DataType::kFloat32;  // in which rows are kept
  std::map<std::string, std::string> labels{};
  std::function<void(int64_t rows)> on_progress{};  // rows sent so far
};

// Rows from number `first_row` on, as many as fit a message; nothing at the end. Asked again from
// where the server is after a broken connection.
using RowSource = std::function<std::optional<Batch>(int64_t first_row)>;

// Takes the next bytes of a file; false ends the call.
using ByteSink = std::function<bool(std::string_view bytes)>;
// The next bytes of a file; nothing at the end.
using ByteSource = std::function<std::optional<std::string>()>;

struct ImportOptions {
  std::string model_id{};  // empty: the server draws one
  Durability durability = Durability::kDefault;
};

struct RestoredBackup {
  int64_t models = 0;
  int64_t runs = 0;  // that go on
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_RESOURCES_H_
