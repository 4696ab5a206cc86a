#include <cstdio>

#include "client/cli/command.h"
#include "client/cli/format.h"

namespace backprop::cli {
namespace {

std::string Dimensions(const std::vector<int32_t>& numbers) {
  std::string text;
  for (int32_t n : numbers) text += (text.empty() ? "" : ",") + std::to_string(n);
  return "[" + text + "]";
}

}  // namespace

std::string GradCheckTable(const GradCheckResult& result) {
  std::string table =
      FormatText("%-20s %-10s %8s %9s %10s %12s %12s %12s  %s\n", "tensor", "shape", "checked",
                 "set aside", "unresolved", "max abs err", "max rel err", "kernel/bound", "");
  for (const TensorGradCheck& tensor : result.tensors) {
    const char* verdict = tensor.verdict == GradCheckVerdict::kPassed         ? "ok"
                          : tensor.verdict == GradCheckVerdict::kInconclusive ? "INCONCLUSIVE"
                                                                              : "FAILED";
    std::string place;
    if (tensor.verdict == GradCheckVerdict::kFailed && !tensor.worst_index.empty()) {
      place = " at " + Dimensions(tensor.worst_index);
    }
    table += FormatText(
        "%-20s %-10s %8lld %9lld %10lld %12.2e %12.2e %12.2e  %s%s\n", tensor.name.c_str(),
        Dimensions(tensor.shape).c_str(), static_cast<long long>(tensor.checked),
        static_cast<long long>(tensor.set_aside), static_cast<long long>(tensor.unresolved),
        tensor.max_absolute_error, tensor.max_relative_error, tensor.kernel_max_bound_ratio,
        verdict, place.c_str());
  }
  if (result.verdict != GradCheckVerdict::kPassed) {
    return table + (result.verdict == GradCheckVerdict::kFailed ? "FAILED: " : "INCONCLUSIVE: ") +
           result.explanation + "\n";
  }
  return table + FormatText("PASSED: largest relative error %.2e, tolerance %.0e%s\n",
                            result.max_relative_error, result.tolerance,
                            result.sampled ? " (large tensors were sampled)" : "");
}

}  // namespace backprop::cli
