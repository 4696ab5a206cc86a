// Writes the contents of a store to a backup file, and restores a store from one.
// docs/durability.md describes the file.
#ifndef BACKPROP_SERVER_TRANSFER_BACKUP_H_
#define BACKPROP_SERVER_TRANSFER_BACKUP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/store.h"
#include "server/transfer/framed.h"

namespace backprop::transfer {

// Produces a backup file from a snapshot, chunk by chunk. Thread-compatible.
class BackupReader {
 public:
  // Takes a snapshot of `store`, which must outlive the reader. Errors: those of
  // Store::TakeSnapshot.
  static absl::StatusOr<std::unique_ptr<BackupReader>> Of(store::Store* store);
  explicit BackupReader(std::unique_ptr<store::Snapshot> snapshot)
      : snapshot_(std::move(snapshot)) {}

  // Returns the next bytes of the file, at most 1 MiB; nothing at the end of the file.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  absl::Status ReadRecords();

  const std::unique_ptr<store::Snapshot> snapshot_;
  FrameWriter frames_;
  size_t table_ = 0;       // index in records::kTables; to be read next
  std::string next_key_;   // to be read next in that table
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

  store::Store* const store_;
  FrameReader frames_;
  std::string rest_;     // beginning of an incomplete record
  uint32_t format_ = 0;  // of the records; 0: not read yet
  bool marked_ = false;
  store::WriteBatch batch_;
};

// Deletes the records of an unfinished restore, if there was one. Returns whether there was.
// Blocks.
absl::StatusOr<bool> DropUnfinishedRestore(store::Store* store);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_BACKUP_H_
