// Measuring and reporting of all benchmarks: one line of JSON per figure, {"name", "by", "value",
// "unit"}. `by` is empty for backpropd itself.
#ifndef BACKPROP_TESTS_BENCH_FIGURES_H_
#define BACKPROP_TESTS_BENCH_FIGURES_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace backprop::bench {

struct Options {
  bool quick = false;              // only checks that the benchmarks run; figures are meaningless
  std::vector<std::string> names;  // substrings of the names to run; empty: all
};

inline Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else {
      options.names.emplace_back(argv[i]);
    }
  }
  return options;
}

inline bool Wanted(const Options& options, const std::string& name) {
  return options.names.empty() ||
         std::any_of(options.names.begin(), options.names.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

inline void Print(const std::string& name, const std::string& by, double value, const char* unit) {
  std::printf("{\"name\": \"%s\", \"by\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n",
              name.c_str(), by.c_str(), value, unit);
  std::fflush(stdout);
}

inline double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

template <class Work>
double Seconds(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Returns the seconds of one call of `work`: the median of several rounds of about 0.1 s.
inline double SecondsPerCall(const Options& options, const std::function<void()>& work) {
  const double round = options.quick ? 0.002 : 0.1;
  const int rounds = options.quick ? 1 : 11;
  int64_t calls = 1;
  const auto time = [&] {
    return Seconds([&] {
      for (int64_t i = 0; i < calls; ++i) work();
    });
  };
  work();
  while (time() < round / 2) calls *= 2;
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) seconds.push_back(time() / static_cast<double>(calls));
  return Quantile(seconds, 0.5);
}

}  // namespace backprop::bench

#endif  // BACKPROP_TESTS_BENCH_FIGURES_H_
