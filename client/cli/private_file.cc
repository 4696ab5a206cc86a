#include "client/cli/private_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

// Returns whether all bytes were written; otherwise errno says why not.
bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

void WritePrivateFile(const std::string& path, std::string_view bytes) {
  // An earlier attempt may have left it. A file that another user puts there meanwhile is not
  // opened.
  const std::string partial = path + ".partial";
  unlink(partial.c_str());
  const int fd = open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) {
    if (!WriteAll(fd, bytes)) error = errno;
    if (close(fd) != 0 && error == 0) error = errno;
    if (error == 0 && std::rename(partial.c_str(), path.c_str()) != 0) error = errno;
    if (error != 0) unlink(partial.c_str());
  }
  if (error != 0) throw DataError{path + ": cannot write: " + std::strerror(error)};
}

}  // namespace backprop::cli
