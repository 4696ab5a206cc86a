#include "server/datasets/reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/datasets/contents.h"
#include "server/records/frame.h"
#include "server/records/keys.h"
#include "server/records/row_records.h"
#include "server/records/rules.h"
#include "server/records/tables.h"
#include "server/session/errors.h"

namespace backprop::datasets {
namespace {

void Unmap(std::byte* data, size_t bytes) { munmap(data, bytes); }

absl::Status ScratchError(const std::string& directory, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return base::ReasonError(
      full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      absl::StrCat("cannot create a temporary file for rows in ", directory, ": ",
                   std::strerror(error)),
      {"NO_SCRATCH_FILE", {{"directory", directory}}});
}

// Opens an unnamed file. If the file system does not support these, creates a file and deletes its
// name at once. On errors returns -1 and sets errno.
int OpenNameless(const std::string& directory) {
  const int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  std::string name = directory + "/scratch-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

// Memory of an unnamed file that is deleted with the mapping. Its blocks are allocated at once, so
// that a full disk causes an error here and not a signal later.
absl::StatusOr<engine::Buffer> ScratchBuffer(const std::string& directory, engine::DataType type,
                                             int64_t count) {
  const auto bytes = static_cast<size_t>(count * engine::SizeOf(type));
  const int fd = OpenNameless(directory);
  if (fd < 0) return ScratchError(directory, errno);
  int error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* data = MAP_FAILED;
  if (error == 0) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) error = errno;
  }
  close(fd);
  if (error != 0) return ScratchError(directory, error);
  return engine::Buffer::Adopt(type, count, static_cast<std::byte*>(data), Unmap);
}

class Reader {
 public:
  Reader(const records::DatasetInfo& info, const ReadArgs& args) : info_(info), args_(args) {}

  absl::StatusOr<std::shared_ptr<const engine::Dataset>> Read() {
    absl::Status status = args_.counted ? absl::OkStatus() : CheckStored();
    if (status.ok()) status = MakeRoom();
    while (status.ok() && next_ < info_.rows) status = ReadSome();
    if (status.ok()) status = CheckContents();
    if (!status.ok()) return status;
    struct Counted {
      engine::Dataset rows;
      session::MemoryBudget::Claim memory;
    };
    auto counted = std::make_shared<const Counted>(Counted{std::move(rows_), std::move(memory_)});
    const engine::Dataset* const rows = &counted->rows;
    return std::shared_ptr<const engine::Dataset>(std::move(counted), rows);
  }

 private:
  // Bytes of the numbers of all rows in a precision.
  int64_t BytesIn(engine::DataType type) const {
    const int64_t per_row =
        info_.inputs_per_row + info_.targets_per_row + (info_.sample_weights ? 1 : 0);
    return info_.rows * per_row * engine::SizeOf(type);
  }

  // Visits the records of the dataset from key `first`, at most kChunksAtOnce, so that a scan does
  // not hold the store for long.
  absl::Status ScanSome(const std::string& first, store::Store::Visitor visit) const {
    constexpr int kChunksAtOnce = 16;
    if (args_.stop != nullptr && *args_.stop) return session::ShuttingDown();
    int chunks = 0;
    return args_.store->Scan(records::kDatasetRows, first,
                             store::EndOfPrefix(records::UidKey(info_.uid)),
                             [&](absl::string_view key, absl::string_view value) {
                               return visit(key, value) && ++chunks < kChunksAtOnce;
                             });
  }

  // Before memory is taken for many rows: whether the store has as many bytes as the description
  // claims. Few rows are read at once, and found to be missing then.
  absl::Status CheckStored() const {
    const int64_t expected = BytesIn(info_.data_type);
    if (expected <= kMostHeapBytes && BytesIn(args_.type) <= kMostHeapBytes) {
      return absl::OkStatus();
    }
    int64_t stored = 0;
    std::string next = records::UidKey(info_.uid);
    for (bool found = true; found && stored < expected;) {
      found = false;
      const std::string first = next;
      absl::Status scanned = ScanSome(first, [&](absl::string_view key, absl::string_view value) {
        found = true;
        stored += static_cast<int64_t>(value.size());
        next = absl::StrCat(key, absl::string_view("\0", 1));  // the key after it
        return stored < expected;
      });
      if (!scanned.ok()) return scanned;
    }
    const std::string name = info_.name();
    records::Rules rules(name);
    rules.Require(stored >= expected, "bytes of its rows", absl::StrCat("at least ", expected),
                  stored);
    return rules.status();
  }

  absl::Status MakeRoom() {
    rows_.rows = info_.rows;
    rows_.inputs_per_row = info_.inputs_per_row;
    rows_.targets_per_row = info_.targets_per_row;
    const int64_t bytes = BytesIn(args_.type);
    const bool mapped = !args_.scratch_dir.empty() && bytes > kMostHeapBytes;
    if (mapped) {
      const absl::Status room = args_.store->CheckRoom(bytes);
      if (!room.ok()) {
        return session::NoRoom(absl::StrCat(info_.name(), ": a temporary file for its rows"), room);
      }
    }
    if (args_.memory != nullptr) {
      auto memory = args_.memory->AskForWork(
          (mapped ? 0 : bytes) +
              (info_.targets_per_row == 0 ? info_.rows * int64_t{sizeof(int32_t)} : 0),
          info_.name());
      if (!memory.ok()) return memory.status();
      memory_ = *std::move(memory);
    }
    const auto make = [&](int64_t per_row, engine::Buffer* buffer) -> absl::Status {
      if (per_row == 0) return absl::OkStatus();
      if (!mapped) {
        *buffer = engine::Buffer(args_.type, info_.rows * per_row);
        return absl::OkStatus();
      }
      auto scratch = ScratchBuffer(args_.scratch_dir, args_.type, info_.rows * per_row);
      if (!scratch.ok()) return scratch.status();
      *buffer = *std::move(scratch);
      return absl::OkStatus();
    };
    absl::Status status = make(info_.inputs_per_row, &rows_.inputs);
    if (status.ok()) status = make(info_.targets_per_row, &rows_.targets);
    if (status.ok()) status = make(info_.sample_weights ? 1 : 0, &rows_.sample_weights);
    if (info_.targets_per_row == 0) rows_.classes.resize(static_cast<size_t>(info_.rows));
    return status;
  }

  absl::Status ReadSome() {
    absl::Status status;
    const int64_t before = next_;
    const std::string first = records::DatasetRowsKey(info_.uid, next_);
    absl::Status scanned = ScanSome(first, [&](absl::string_view key, absl::string_view value) {
      status = AddChunk(key, value);
      return status.ok() && next_ < info_.rows;
    });
    if (!scanned.ok()) return scanned;
    if (status.ok() && next_ == before) return records::Damaged(info_.name(), MissingRow());
    return status;
  }

  std::string MissingRow() const { return absl::StrCat("row ", next_, " is missing"); }

  absl::Status AddChunk(absl::string_view key, absl::string_view value) {
    if (key != records::DatasetRowsKey(info_.uid, next_))
      return records::Damaged(info_.name(), MissingRow());
    const auto chunk = records::DecodeChunk(value, info_.data_type, info_.name());
    if (!chunk.ok()) return chunk.status();
    if (chunk->rows > info_.rows - next_ || chunk->inputs_per_row != info_.inputs_per_row ||
        chunk->targets_per_row != info_.targets_per_row ||
        chunk->classes.empty() != (info_.targets_per_row > 0) ||
        (chunk->sample_weights.count() > 0) != info_.sample_weights) {
      return records::Damaged(info_.name(), "its rows do not match its description");
    }
    Copy(chunk->inputs, info_.inputs_per_row, &rows_.inputs);
    Copy(chunk->targets, info_.targets_per_row, &rows_.targets);
    Copy(chunk->sample_weights, 1, &rows_.sample_weights);
    for (size_t i = 0; i < chunk->classes.size(); ++i) {
      int32_t c = chunk->classes[i];
      if (!args_.classes.empty()) {
        if (c < 0 || static_cast<size_t>(c) >= args_.classes.size()) {
          return records::Damaged(info_.name(), "a row has a class without a name");
        }
        c = args_.classes[static_cast<size_t>(c)];
      }
      rows_.classes[static_cast<size_t>(next_) + i] = c;
    }
    next_ += chunk->rows;
    AddRows(*chunk, &found_);
    return absl::OkStatus();
  }

  // Whether the ranges in the description, by which it was decided that a model can use the rows,
  // are those of the rows.
  absl::Status CheckContents() const {
    const std::string name = info_.name();
    records::Rules rules(name);
    rules.Between("largest class of its rows", found_.largest_class, 0, info_.largest_class);
    if (info_.targets_per_row > 0) {
      rules.Require(found_.least_target >= info_.least_target, "least target of its rows",
                    absl::StrCat("at least ", info_.least_target), found_.least_target);
      rules.Require(found_.largest_target <= info_.largest_target, "largest target of its rows",
                    absl::StrCat("at most ", info_.largest_target), found_.largest_target);
      rules.Require(found_.row_sum_error <= info_.row_sum_error,
                    "difference of the sum of a row's targets from 1",
                    absl::StrCat("at most ", info_.row_sum_error), found_.row_sum_error);
    }
    return rules.status();
  }

  void Copy(const engine::Buffer& from, int64_t per_row, engine::Buffer* to) const {
    if (from.count() == 0) return;
    const int64_t at = next_ * per_row;
    if (from.type() == to->type()) {
      std::memcpy(to->bytes() + at * engine::SizeOf(to->type()), from.bytes(), from.size_bytes());
      return;
    }
    for (int64_t i = 0; i < from.count(); ++i) to->Set(at + i, from.Get(i));
  }

  const records::DatasetInfo& info_;
  const ReadArgs& args_;
  engine::Dataset rows_;
  session::MemoryBudget::Claim memory_;
  int64_t next_ = 0;            // the row to read next
  records::DatasetInfo found_;  // counts and ranges of the rows that were read
};

}  // namespace

absl::StatusOr<std::shared_ptr<const engine::Dataset>> ReadDataset(const records::DatasetInfo& info,
                                                                   const ReadArgs& args) {
  return Reader(info, args).Read();
}

}  // namespace backprop::datasets
