#include "client/cli/parameters_json.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <fstream>

#include "client/cli/command.h"
#include "client/cli/table.h"

namespace backprop::cli {

void WithValues(const std::vector<NamedTensor>& tensors,
                google::protobuf::RepeatedPtrField<v1::NamedTensor>* out) {
  for (const NamedTensor& named : tensors) {
    v1::NamedTensor* message = out->Add();
    message->set_name(named.name);
    v1::Tensor* tensor = message->mutable_tensor();
    if (!named.is_vector) tensor->add_shape(static_cast<int32_t>(named.tensor.rows()));
    tensor->add_shape(static_cast<int32_t>(named.tensor.cols()));
    for (double value : named.tensor.ToDoubles()) tensor->add_values(value);
  }
}

int WriteJson(const Globals& globals, const google::protobuf::Message& message,
              const std::string& file) {
  const std::string json = JsonLine(message);
  if (file == "-") {
    std::printf("%s\n", json.c_str());
    return kOk;
  }
  std::ofstream out(file);
  out << json << "\n";
  out.close();
  if (!out) throw DataError{file + ": cannot write"};
  globals.SetDocument(R"({"file":)" + JsonString(file) + "}");
  return kOk;
}

void ReadJson(const std::string& file, google::protobuf::Message* message) {
  const auto parsed = google::protobuf::util::JsonStringToMessage(ReadFile(file), message);
  if (!parsed.ok()) throw DataError{file + ": " + std::string(parsed.message())};
}

std::vector<NamedTensor> WeightedMean(const std::vector<std::string>& files,
                                      const std::vector<v1::ComputeGradientsResponse>& parts) {
  double weight = 0;
  for (const auto& part : parts) weight += part.weight();
  if (!(weight > 0)) throw DataError{"the gradients have no weight above 0"};
  v1::ComputeGradientsResponse mean = parts[0];
  for (int t = 0; t < mean.gradients_size(); ++t) {
    v1::NamedTensor* sum = mean.mutable_gradients(t);
    auto* values = sum->mutable_tensor()->mutable_values();
    for (double& value : *values) value = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      const bool there = t < parts[p].gradients_size() &&
                         parts[p].gradients(t).name() == sum->name() &&
                         parts[p].gradients(t).tensor().values_size() == values->size();
      if (!there) {
        throw DataError{files[p] + ": has no " + sum->name() + " of the size that " + files[0] +
                        " has"};
      }
      for (int i = 0; i < values->size(); ++i) {
        (*values)[i] += parts[p].weight() / weight * parts[p].gradients(t).tensor().values(i);
      }
    }
  }
  return FromMessage(mean.gradients());
}

}  // namespace backprop::cli
