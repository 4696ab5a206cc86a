// Between the messages about training and the session's types.
#ifndef BACKPROP_SERVER_RPC_TRAINING_CODEC_H_
#define BACKPROP_SERVER_RPC_TRAINING_CODEC_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "backprop/v1/grad_check.pb.h"
#include "backprop/v1/training.pb.h"
#include "server/engine/grad_check.h"
#include "server/session/run.h"
#include "server/session/run_log.h"

namespace backprop::rpc {

// Defaults filled in for data of `rows` rows. Fields from "config.".
absl::StatusOr<session::RunConfig> DecodeTrainingConfig(const v1::TrainingConfig& message,
                                                        int64_t rows);

void EncodeMetrics(const session::Metrics& metrics, v1::Metrics* message);
void EncodeSummary(const session::RunSummary& summary, v1::TrainingSummary* message);
void EncodeEvent(const session::Run& run, const session::RunEvent& event,
                 v1::TrainingEvent* message);

absl::StatusOr<engine::GradCheckOptions> DecodeGradCheckConfig(const v1::GradCheckConfig& message,
                                                               engine::DataType type);
void EncodeGradCheck(const engine::GradCheckReport& report, const engine::GradCheckOptions& options,
                     v1::GradCheckResult* message);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_TRAINING_CODEC_H_
