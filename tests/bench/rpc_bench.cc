// Benchmarks of a server in another process, seen from a client. bp_bench_rpc [--quick] [name…]
#include "tests/bench/rpc_bench.h"

int main(int argc, char** argv) {
  using namespace backprop::bench;
  if (argc == 2 + kServeArguments && std::strcmp(argv[1], kServe) == 0) return Serve(argv + 2);
  const Options options = ParseOptions(argc, argv);
  StepRows(options);
  CostRows(options);
  TrainingRows(options);
  PredictRows(options);
  ModelRows(options);
  DurableRows(options);
  return 0;
}
