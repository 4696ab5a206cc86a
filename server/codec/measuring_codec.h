// Converts between the messages about gradient checks and metrics and the engine's types.
#ifndef BACKPROP_SERVER_CODEC_MEASURING_CODEC_H_
#define BACKPROP_SERVER_CODEC_MEASURING_CODEC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backprop/v1/grad_check.pb.h"
#include "backprop/v1/training.pb.h"
#include "server/engine/grad_check.h"
#include "server/engine/metrics.h"

namespace backprop::codec {

// Fills in the defaults for a model of precision `type`. INVALID_ARGUMENT with every violation
// found, with field paths from "config.".
absl::StatusOr<engine::GradCheckOptions> DecodeGradCheckConfig(const v1::GradCheckConfig& message,
                                                               engine::DataType type);
void EncodeGradCheck(const engine::GradCheckReport& report, const engine::GradCheckOptions& options,
                     v1::GradCheckResult* message);

void EncodeClassification(const engine::ClassificationMetrics& metrics, int64_t top_k,
                          const std::vector<std::string>& class_names,
                          v1::ClassificationMetrics* message);
void EncodeRegression(const engine::RegressionMetrics& metrics, v1::RegressionMetrics* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_MEASURING_CODEC_H_
