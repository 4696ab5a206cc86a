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

}  // namespace backprop::records
