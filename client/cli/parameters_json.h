// Tensors as readable JSON, without loss.
#ifndef BACKPROP_CLIENT_CLI_PARAMETERS_JSON_H_
#define BACKPROP_CLIENT_CLI_PARAMETERS_JSON_H_

#include <string>
#include <vector>

#include "backprop/model.h"
#include "client/backprop/convert.h"
#include "client/cli/command.h"

namespace backprop::cli {

// Converts tensors to messages with typed values instead of raw bytes.
void WithValues(const std::vector<NamedTensor>& tensors,
                google::protobuf::RepeatedPtrField<v1::NamedTensor>* out);

// Writes a message as one line to a file, or to standard output for "-". Returns kOk. Throws
// DataError.
int WriteJson(const Globals& globals, const google::protobuf::Message& message,
              const std::string& file);
// Reads a message from a JSON file. Throws DataError.
void ReadJson(const std::string& file, google::protobuf::Message* message);

// Returns Σ weight·gradient / Σ weight over `parts`, read from `files`, which must agree in names
// and sizes. Throws DataError.
std::vector<NamedTensor> WeightedMean(const std::vector<std::string>& files,
                                      const std::vector<v1::ComputeGradientsResponse>& parts);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PARAMETERS_JSON_H_
