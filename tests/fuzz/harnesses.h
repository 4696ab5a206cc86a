// The functions of each harness; harness.h says what they do. The comment above the definition says
// which bytes a harness takes and which properties it checks.
#ifndef BACKPROP_TESTS_FUZZ_HARNESSES_H_
#define BACKPROP_TESTS_FUZZ_HARNESSES_H_

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace backprop::fuzz {

using Type = const google::protobuf::Descriptor*;
using Seeds = std::vector<std::string>;

void RunTensor(absl::string_view input);
Seeds TensorSeeds();
Type TensorType(uint8_t kind);

void RunCodec(absl::string_view input);
Seeds CodecSeeds();
Type CodecType(uint8_t kind);

void RunCsv(absl::string_view input);
Seeds CsvSeeds();

void RunNpy(absl::string_view input);
Seeds NpySeeds();

void RunAuthFile(absl::string_view input);
Seeds AuthFileSeeds();

void RunRecords(absl::string_view input);
Seeds RecordsSeeds();
Type RecordsType(uint8_t kind);

void RunBackup(absl::string_view input);
Seeds BackupSeeds();
Type BackupType(uint8_t kind);

void RunStored(absl::string_view input);
Seeds StoredSeeds();
Type StoredType(uint8_t kind);

void RunModelFile(absl::string_view input);
Seeds ModelFileSeeds();
Type ModelFileType(uint8_t kind);

void RunOnnx(absl::string_view input);
Seeds OnnxSeeds();
Type OnnxType(uint8_t kind);

void RunService(absl::string_view input);
Seeds ServiceSeeds();
Type ServiceType(uint8_t kind);

void RunStreams(absl::string_view input);
Seeds StreamsSeeds();
Type StreamsType(uint8_t kind);

void RunHttp(absl::string_view input);
Seeds HttpSeeds();

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_HARNESSES_H_
