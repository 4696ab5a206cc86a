// The tables of the store, and the version of the format. docs/durability.md describes the records
// of each table.
#ifndef BACKPROP_SERVER_RECORDS_TABLES_H_
#define BACKPROP_SERVER_RECORDS_TABLES_H_

#include <cstdint>

#include "server/store/store.h"

namespace backprop::records {

// Version of the format of keys and records, of data directories and backups. A server refuses a
// later version, and changes the records of an earlier one (upgrade.h).
inline constexpr uint32_t kFormatVersion = 2;

// Numbers and names are part of the format. Parameters and rows do not compress.

// Descriptions of models, by id.
inline constexpr store::Table kModels{.number = 1, .name = "models"};
// Parameters and optimiser states of models.
inline constexpr store::Table kStates{.number = 2, .name = "states", .compresses = false};
// Recorded responses for retries.
inline constexpr store::Table kRequests{
    .number = 3, .name = "requests", .accompanies_deletions = true};
// Steps to replay.
inline constexpr store::Table kLog{.number = 4, .name = "log"};
// Active runs, and the latest run of each model.
inline constexpr store::Table kRuns{.number = 5, .name = "runs"};
// Rows of runs, in chunks.
inline constexpr store::Table kChunks{.number = 6, .name = "chunks", .compresses = false};
inline constexpr store::Table kCheckpoints{
    .number = 7, .name = "checkpoints", .compresses = false, .large_values = true};
// Descriptions of datasets, by id.
inline constexpr store::Table kDatasets{.number = 8, .name = "datasets"};
// Rows of datasets, in chunks.
inline constexpr store::Table kDatasetRows{.number = 9,
                                           .name = "dataset_rows",
                                           .compresses = false,
                                           .large_values = true,
                                           .reclaims_prefixes = true};

// All tables, by number.
inline constexpr const store::Table* kTables[] = {&kModels,      &kStates,   &kRequests,
                                                  &kLog,         &kRuns,     &kChunks,
                                                  &kCheckpoints, &kDatasets, &kDatasetRows};

// What a store of this server holds.
inline constexpr store::Schema kSchema{kFormatVersion, kTables};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_TABLES_H_
