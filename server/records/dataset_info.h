// Metadata of datasets.
#ifndef BACKPROP_SERVER_RECORDS_DATASET_INFO_H_
#define BACKPROP_SERVER_RECORDS_DATASET_INFO_H_

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/engine/spec.h"
#include "server/records/keys.h"
#include "server/records/project.h"

namespace backprop::records {

// What the uploader of a dataset specifies.
struct NewDataset {
  std::string id;  // ScopedId
  std::string request_id;
  engine::DataType data_type = engine::DataType::kFloat32;
  std::map<std::string, std::string> labels;
  std::vector<std::string> feature_names = {};
};

struct DatasetInfo {
  std::string id;  // ScopedId
  Uid uid = 0;
  std::string request_id;  // of the upload
  std::map<std::string, std::string> labels;
  absl::Time create_time;
  engine::DataType data_type = engine::DataType::kFloat32;
  bool ready = false;
  int64_t rows = 0;
  int64_t size_bytes = 0;
  // The shape of all rows, set by the first ones.
  int64_t inputs_per_row = 0;
  int64_t targets_per_row = 0;  // 0: rows have classes
  bool sample_weights = false;
  std::vector<std::string> class_names;
  std::vector<std::string> feature_names;  // one for each input of a row, or none
  int32_t largest_class = 0;
  double least_target = std::numeric_limits<double>::infinity();
  double largest_target = -std::numeric_limits<double>::infinity();
  double row_sum_error = 0;  // the largest |sum of a row's targets - 1|
  double weight_sum = 0;     // of all rows

  std::string name() const { return DatasetName(id); }
};

std::string EncodeDataset(const DatasetInfo& info);
absl::StatusOr<DatasetInfo> DecodeDataset(absl::string_view value, absl::string_view id);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_DATASET_INFO_H_
