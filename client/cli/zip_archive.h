// Zip archives.
#ifndef BACKPROP_CLIENT_CLI_ZIP_ARCHIVE_H_
#define BACKPROP_CLIENT_CLI_ZIP_ARCHIVE_H_

#include <ctime>
#include <string>
#include <vector>

namespace backprop::cli {

struct ArchiveFile {
  std::string name;  // may contain folders: "debug/log.txt"
  std::string contents;
};

// The bytes of a zip archive with these files, deflated, of the given time and, where permissions
// exist, with mode 0600. Throws DataError if libzip fails.
std::string ZipArchive(const std::vector<ArchiveFile>& files, std::time_t time);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_ZIP_ARCHIVE_H_
