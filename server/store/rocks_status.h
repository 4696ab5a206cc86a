// Conversion of RocksDB's errors to absl::Status.
#ifndef BACKPROP_SERVER_STORE_ROCKS_STATUS_H_
#define BACKPROP_SERVER_STORE_ROCKS_STATUS_H_

#include <rocksdb/status.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace backprop::store {

inline absl::Status FromRocks(const rocksdb::Status& status, const std::string& directory) {
  if (status.ok()) return absl::OkStatus();
  // RocksDB only recognizes ENOSPC; other errors are recognized by their text.
  const bool quota = absl::StrContains(status.ToString(), std::strerror(EDQUOT));
  if (status.IsNoSpace() || quota) {
    return absl::ResourceExhaustedError(
        absl::StrCat(directory, ": the disk is full (", status.ToString(),
                     "); changes are rejected until there is room"));
  }
  if (status.IsCorruption()) {
    return absl::DataLossError(absl::StrCat(directory, ": ", status.ToString()));
  }
  return absl::UnavailableError(absl::StrCat(directory, ": ", status.ToString()));
}

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_STATUS_H_
