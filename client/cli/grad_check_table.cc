#include <cstdio>

#include "client/cli/command.h"

namespace backprop::cli {
namespace {

std::string Dimensions(const std::vector<int32_t>& numbers) {
  std::string text;
  for (int32_t n : numbers) text += (text.empty() ? "" : ",") + std::to_string(n);
  return "[" + text + "]";
}

template <class... Args>
std::string Format(const char* format, Args... args) {
  char line[256];
  std::snprintf(line, sizeof(line), format, args...);
  return line;
}

}  // namespace

std::string GradCheckTable(const GradCheckResult& result) {
  std::string table =
      Format("%-20s %-10s %8s %9s %12s %12s %12s  %s\n", "tensor", "shape", "checked", "set aside",
             "max abs err", "max rel err", "kernel err", "");
  for (const TensorGradCheck& tensor : result.tensors) {
    table += Format("%-20s %-10s %8lld %9lld %12.2e %12.2e %12.2e  %s\n", tensor.name.c_str(),
                    Dimensions(tensor.shape).c_str(), static_cast<long long>(tensor.checked),
                    static_cast<long long>(tensor.set_aside), tensor.max_absolute_error,
                    tensor.max_relative_error, tensor.kernel_max_relative_error,
                    tensor.passed ? "ok" : ("FAILED at " + Dimensions(tensor.worst_index)).c_str());
  }
  table += Format("%s: largest relative error %.2e, tolerance %.0e%s\n",
                  result.passed ? "PASSED" : "FAILED", result.max_relative_error, result.tolerance,
                  result.sampled ? " (large tensors were sampled)" : "");
  return table;
}

}  // namespace backprop::cli
