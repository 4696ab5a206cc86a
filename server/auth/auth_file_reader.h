// Reads the auth file and notices when it has changed.
#ifndef BACKPROP_SERVER_AUTH_AUTH_FILE_READER_H_
#define BACKPROP_SERVER_AUTH_AUTH_FILE_READER_H_

#include <sys/stat.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/auth/auth_file.h"

namespace backprop::auth {

// Thread-compatible.
class AuthFileReader {
 public:
  using Result = absl::StatusOr<AuthFile>;

  explicit AuthFileReader(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  // Reads and parses the file. Errors begin with the path. UNAVAILABLE if it cannot be read, is not
  // a regular file, or every user of the machine may write it; errors of ParseAuthFile.
  Result Read();

  // The same if the contents, or the reason why they cannot be read, differ from those that the
  // last call of one of these methods found; otherwise nothing. Costs a stat(2) while the file does
  // not change. Also notices files that are replaced by a rename or a symbolic link.
  std::optional<Result> ReadIfChanged();

 private:
  absl::StatusOr<std::string> Contents();
  bool Settled() const;

  const std::string path_;
  struct stat file_ = {};  // at the last read; zero: there was none
  absl::Time read_ = absl::InfinitePast();
  std::string found_;  // the hash of the contents, or the reason why there are none
};

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_AUTH_FILE_READER_H_
