// Converts between the messages about training and the values of records.
#ifndef BACKPROP_SERVER_CODEC_TRAINING_CODEC_H_
#define BACKPROP_SERVER_CODEC_TRAINING_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "backprop/v1/training.pb.h"
#include "backprop/v1/training_service.pb.h"
#include "server/engine/network.h"
#include "server/records/metrics.h"
#include "server/records/response_records.h"
#include "server/records/run_config.h"
#include "server/records/run_events.h"

namespace backprop::codec {

// Fills in the defaults for training data of `rows` rows. `has_validation`: whether the request
// provides validation data. INVALID_ARGUMENT with every violation found, with field paths from
// "config.".
absl::StatusOr<records::RunConfig> DecodeTrainingConfig(const v1::TrainingConfig& message,
                                                        int64_t rows, bool has_validation);

void EncodeStep(const records::StepOutcome& outcome, const engine::Network& network,
                v1::StepResponse* message);
void EncodeMetrics(const records::Metrics& metrics, v1::Metrics* message);
void EncodeSummary(const records::RunSummary& summary, v1::TrainingSummary* message);
// `run`: the name of the run.
void EncodeEvent(const std::string& run, const records::RunConfig& config,
                 const records::RunEvent& event, v1::TrainingEvent* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_TRAINING_CODEC_H_
