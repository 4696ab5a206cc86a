// Files that tell other programs on which address the server listens.
#ifndef BACKPROP_SERVER_OPS_PORT_FILE_H_
#define BACKPROP_SERVER_OPS_PORT_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace backprop::ops {

// Writes `address` and a line feed into the file `path`, which is complete or absent at any time.
// `flag` is where the path is from. UNAVAILABLE names both.
absl::Status WritePortFile(const std::string& flag, const std::string& path,
                           const std::string& address);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_PORT_FILE_H_
