// What a client sees of a server in another process. bp_bench_rpc [--quick] [name…]
#include "tests/bench/rpc_bench.h"

int main(int argc, char** argv) {
  using namespace backprop::bench;
  if (argc == 2 && std::strcmp(argv[1], kServe) == 0) return Serve();
  const Options options = ParseOptions(argc, argv);
  StepRows(options);
  TrainingRows(options);
  PredictRows(options);
  ModelRows(options);
  return 0;
}
