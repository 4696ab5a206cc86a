// Everything a store holds as a file, and back. docs/durability.md describes the file.
#ifndef BACKPROP_SERVER_SESSION_BACKUP_H_
#define BACKPROP_SERVER_SESSION_BACKUP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/framed.h"
#include "server/store/store.h"

namespace backprop::session {

// Reads a snapshot from beginning to end. Thread-compatible.
class BackupReader {
 public:
  // Of what `store`, which must outlive it, holds now. Errors: those of Store::TakeSnapshot.
  static absl::StatusOr<std::unique_ptr<BackupReader>> Of(store::Store* store);
  explicit BackupReader(std::unique_ptr<store::Snapshot> snapshot)
      : snapshot_(std::move(snapshot)) {}

  // The next bytes of the file, at most 1 MiB; nothing at the end.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  absl::Status ReadRecords();

  const std::unique_ptr<store::Snapshot> snapshot_;
  FrameWriter frames_;
  int table_ = 1;          // whose records come next; table 0 is about the store itself
  std::string next_key_;   // from where on
  std::string records_;    // that were read and not handed out
  size_t handed_out_ = 0;  // of these
  bool begun_ = false;
  bool ended_ = false;
};

// Fills an empty store. Until Finish it is marked, so that what a crash leaves of it is dropped at
// the next start. One call at a time; errors are INVALID_ARGUMENT about the file, or the store's.
class BackupWriter {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit BackupWriter(store::Store* store);

  // Takes the next bytes of the file, of any number. `done` is called when more can be taken.
  void Add(absl::string_view bytes, Done done);
  // Checks that the file is complete and makes what it brought the store's.
  void Finish(Done done);

 private:
  absl::Status TakeRecords(absl::string_view payload);

  store::Store* const store_;
  FrameReader frames_;
  std::string rest_;  // of a record that is not complete
  bool has_format_ = false;
  bool marked_ = false;
  store::Batch batch_;
};

// Drops what a restore that did not finish has left, if there is any. Blocks. Returns whether there
// was.
absl::StatusOr<bool> DropUnfinishedRestore(store::Store* store);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_BACKUP_H_
