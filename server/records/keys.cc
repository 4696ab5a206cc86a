#include "server/records/keys.h"

#include <random>

namespace backprop::records {

// Uids only have to be unique, so one seed from the operating system serves for many: drawing one
// takes longer than the rest of a creation.
Uid DrawUid() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  Uid uid = 0;
  while (uid == 0) uid = generator();
  return uid;
}

int64_t StepOfLoggedStepKey(absl::string_view key) {
  uint64_t step = 0;
  for (const char byte : key.substr(sizeof(Uid))) {
    step = (step << 8) | static_cast<unsigned char>(byte);
  }
  return static_cast<int64_t>(step);
}

}  // namespace backprop::records
