#include "tests/fuzz/harness.h"

#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {

const std::vector<Harness>& Harnesses() {
  static const std::vector<Harness> all = {
      {"tensor", RunTensor, TensorSeeds, TensorType},
      {"codec", RunCodec, CodecSeeds, CodecType},
      {"csv", RunCsv, CsvSeeds, nullptr},
      {"npy", RunNpy, NpySeeds, nullptr},
      {"auth_file", RunAuthFile, AuthFileSeeds, nullptr},
      {"records", RunRecords, RecordsSeeds, RecordsType},
      {"backup", RunBackup, BackupSeeds, BackupType},
      {"stored", RunStored, StoredSeeds, StoredType},
      {"model_file", RunModelFile, ModelFileSeeds, ModelFileType},
      {"onnx", RunOnnx, OnnxSeeds, OnnxType},
      {"service", RunService, ServiceSeeds, ServiceType},
      {"streams", RunStreams, StreamsSeeds, StreamsType},
      {"http", RunHttp, HttpSeeds, nullptr},
  };
  return all;
}

const Harness* FindHarness(absl::string_view name) {
  for (const Harness& harness : Harnesses()) {
    if (name == harness.name) return &harness;
  }
  return nullptr;
}

void Fail(const char* file, int line, const char* property, const std::string& what) {
  std::fprintf(stderr, "%s:%d: this property does not hold: %s\n%s\n", file, line, property,
               what.c_str());
  std::abort();
}

}  // namespace backprop::fuzz
