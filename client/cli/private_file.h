// Files that only their owner can read.
#ifndef BACKPROP_CLIENT_CLI_PRIVATE_FILE_H_
#define BACKPROP_CLIENT_CLI_PRIVATE_FILE_H_

#include <string>
#include <string_view>

namespace backprop::cli {

// Writes a file with mode 0600, completely or not at all. Replaces an existing file, whatever its
// mode is. Throws DataError.
void WritePrivateFile(const std::string& path, std::string_view bytes);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_PRIVATE_FILE_H_
