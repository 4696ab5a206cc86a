// Changes stored records of earlier formats into those of the current one.
//
// Format 2 added projects. Models and datasets have ScopedId keys; in format 1 the key was the id
// alone. What format 1 stored belongs to the default project.
#ifndef BACKPROP_SERVER_RECORDS_UPGRADE_H_
#define BACKPROP_SERVER_RECORDS_UPGRADE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/store.h"

namespace backprop::records {

// Changes one record of any format into one of the current format. Returns whether it was changed.
// A record that is in the current format, or is damaged, is left as it is. `key` and `value` are in
// and out.
bool UpgradeRecord(const store::Table& table, std::string* key, std::string* value);

// Upgrades a store to kFormatVersion and returns the number of changed records. If the process ends
// meanwhile, the next call continues. An older server refuses the store as soon as the first record
// is changed. Changes at most `records_at_once` records atomically. Blocks. Errors: those of the
// store.
absl::StatusOr<int64_t> UpgradeStore(store::Store* store, size_t records_at_once = 1000);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_UPGRADE_H_
