// Writes the contents of a store to a backup file, and restores a store from one.
// docs/durability.md describes the file.
#ifndef BACKPROP_SERVER_TRANSFER_BACKUP_H_
#define BACKPROP_SERVER_TRANSFER_BACKUP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/records/keys.h"
#include "server/store/store.h"
#include "server/transfer/framed.h"

namespace backprop::transfer {

// Produces a backup file from a snapshot, chunk by chunk: of everything, or of what belongs to one
// project, including its remembered creations and deletions. Thread-compatible.
class BackupReader {
 public:
  // Takes a snapshot of `store`, which must outlive the reader. An empty `project`: everything.
  // Errors: those of Store::TakeSnapshot.
  static absl::StatusOr<std::unique_ptr<BackupReader>> Of(store::Store* store,
                                                          std::string project = "");
  explicit BackupReader(std::unique_ptr<store::Snapshot> snapshot, std::string project = "")
      : snapshot_(std::move(snapshot)), project_(std::move(project)) {}

  // Returns the next bytes of the file, at most 1 MiB; nothing at the end of the file. The first
  // call for a project reads the descriptions of its models and datasets; DATA_LOSS if one of them
  // is damaged.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  // Finds the uids of the project.
  absl::Status ReadUids();
  // How many ranges of keys the file contains of a table, and the prefix of one of them.
  size_t RangesOf(const store::Table& table) const;
  std::string PrefixOf(const store::Table& table, size_t range) const;
  bool Belongs(const store::Table& table, absl::string_view key, absl::string_view value) const;
  absl::Status ReadRecords();

  const std::unique_ptr<store::Snapshot> snapshot_;
  const std::string project_;           // empty: all
  std::vector<records::Uid> models_;    // of the project
  std::vector<records::Uid> datasets_;  // the same
  FrameWriter frames_;
  size_t table_ = 0;       // index in records::kTables; to be read next
  size_t range_ = 0;       // of that table
  std::string next_key_;   // to be read next in that range; empty: its first
  std::string records_;    // encoded records
  size_t handed_out_ = 0;  // bytes of records_ that were returned
  bool begun_ = false;
  bool ended_ = false;
};

// Restores a backup file into an empty store. A marker in the store is deleted only by Finish(), so
// that DropUnfinishedRestore() can discard an incomplete restore at the next start. Call one method
// at a time, and wait for its `done`. Errors: INVALID_ARGUMENT about the file, FAILED_PRECONDITION
// if it has a later format than this server knows, and those of the store.
class BackupWriter {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit BackupWriter(store::Store* store);

  // Takes the next bytes of the file, any number of them. `done` is called when the next call may
  // be made.
  void Add(absl::string_view bytes, Done done);
  // Checks that the file is complete, and makes the restored records permanent.
  void Finish(Done done);

 private:
  absl::Status TakeRecords(absl::string_view payload);
  absl::Status CheckDescription(const store::Table& table, absl::string_view key,
                                absl::string_view value);

  store::Store* const store_;
  FrameReader frames_;
  std::string rest_;     // beginning of an incomplete record
  uint32_t format_ = 0;  // of the records; 0: not read yet
  bool marked_ = false;
  absl::flat_hash_set<records::Uid> models_;  // uids of those that were taken
  absl::flat_hash_set<records::Uid> datasets_;
  store::WriteBatch batch_;
};

// Deletes the records of an unfinished restore, if there was one. Returns whether there was.
// Blocks until the store has answered, so it must not be called by a thread of the store.
absl::StatusOr<bool> DropUnfinishedRestore(store::Store* store);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_BACKUP_H_
