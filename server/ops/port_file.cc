#include "server/ops/port_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace backprop::ops {

absl::Status WritePortFile(const std::string& flag, const std::string& path,
                           const std::string& address) {
  // Renamed when it is complete.
  const std::string temporary = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(temporary);
    file << address << "\n";
    file.close();
    if (!file) {
      const int error = errno;
      unlink(temporary.c_str());
      return absl::UnavailableError(
          absl::StrCat(flag, " ", path, ": cannot write: ", std::strerror(error)));
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const int error = errno;
  unlink(temporary.c_str());
  return absl::UnavailableError(absl::StrCat(flag, " ", path, ": ", std::strerror(error)));
}

}  // namespace backprop::ops
