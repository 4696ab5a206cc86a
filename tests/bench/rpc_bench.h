// The parts of bp_bench_rpc, each with the rows that it reports.
#ifndef BACKPROP_TESTS_BENCH_RPC_BENCH_H_
#define BACKPROP_TESTS_BENCH_RPC_BENCH_H_

#include "tests/bench/bench_server.h"
#include "tests/bench/figures.h"

namespace backprop::bench {

// Step beside an echo of the same payload: step_rpc_*_{p50,p99,rate}; step_stream_*.
void StepRows(const Options& options);
// Runs: train_xor_3000, two_models, models_64.
void TrainingRows(const Options& options);
// predict_*: one row, idle and beside runs; 10,000 rows.
void PredictRows(const Options& options);
// get_parameters_10mb, models_100k_*.
void ModelRows(const Options& options);

}  // namespace backprop::bench

#endif  // BACKPROP_TESTS_BENCH_RPC_BENCH_H_
