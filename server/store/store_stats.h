// Counts what a store on disk has written.
#ifndef BACKPROP_SERVER_STORE_STORE_STATS_H_
#define BACKPROP_SERVER_STORE_STORE_STATS_H_

#include <cstdint>

#include "server/base/counters.h"

namespace backprop::store {

// Thread-safe.
struct StoreStats {
  base::TimeHistogram commits;  // of a batch, from Store::Commit until it is durable as requested
  base::Counter refused;        // batches that were not stored
  base::SizeHistogram group_sizes;  // batches of each written group
  base::Counter bytes;              // keys and values of stored batches
  base::TimeHistogram syncs;        // fdatasync of the log
};

// How much disk space a store takes, in bytes.
struct DiskUse {
  int64_t tables = 0;  // tables and blob files
  int64_t log = 0;     // write-ahead logs
  int64_t free = 0;    // on the file system; -1: unknown
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_STORE_STATS_H_
