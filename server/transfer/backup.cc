#include "server/transfer/backup.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/text.h"
#include "server/records/dataset_info.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/tables.h"
#include "server/records/upgrade.h"
#include "server/store/store.h"

namespace backprop::transfer {
namespace {

constexpr absl::string_view kMagic("BPBACKU\x01", kMagicBytes);  // the last byte is the version
constexpr absl::string_view kFormatPrefix = "format ";
constexpr char kRestoringKey[] = "restoring";
constexpr size_t kReadAtOnce = size_t{512} << 10;
constexpr size_t kChunkBytes = kMaxFrameBytes - 64;  // with the frame header below 1 MiB
constexpr size_t kMaxRecordBytes = size_t{1} << 30;
constexpr size_t kMaxKeyBytes = 1024;  // several times those of the longest key

// Header of a record: its table (1 byte), the lengths of key (4) and value (8), little-endian.
constexpr size_t kRecordHeaderBytes = 13;

void AppendRecord(const store::Table& table, absl::string_view key, absl::string_view value,
                  std::string* out) {
  const auto key_bytes = static_cast<uint32_t>(key.size());
  const auto value_bytes = static_cast<uint64_t>(value.size());
  char header[kRecordHeaderBytes];
  header[0] = static_cast<char>(table.number);
  std::memcpy(header + 1, &key_bytes, sizeof key_bytes);
  std::memcpy(header + 5, &value_bytes, sizeof value_bytes);
  out->append(header, sizeof header);
  out->append(key.data(), key.size());
  out->append(value.data(), value.size());
}

store::WriteBatch Wipe() {
  store::WriteBatch batch;
  for (const store::Table* table : records::kTables) batch.DeletePrefix(*table, "");
  return batch;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BackupReader>> BackupReader::Of(store::Store* store,
                                                               std::string project) {
  auto snapshot = store->TakeSnapshot();
  if (!snapshot.ok()) return snapshot.status();
  return std::make_unique<BackupReader>(*std::move(snapshot), std::move(project));
}

absl::Status BackupReader::ReadUids() {
  if (project_.empty()) return absl::OkStatus();
  absl::Status status;
  const auto add = [&](const auto& record, std::vector<records::Uid>* uids) {
    if (!record.ok()) {
      status = record.status();
    } else {
      uids->push_back(record->uid);
    }
    return status.ok();
  };
  const std::string prefix = records::ScopedId(project_, "");
  const std::string end = store::EndOfPrefix(prefix);
  absl::Status scanned = snapshot_->Scan(records::kModels, prefix, end,
                                         [&](absl::string_view id, absl::string_view value) {
                                           return add(records::DecodeModel(value, id), &models_);
                                         });
  if (!scanned.ok() || !status.ok()) return scanned.ok() ? status : scanned;
  scanned = snapshot_->Scan(records::kDatasets, prefix, end,
                            [&](absl::string_view id, absl::string_view value) {
                              return add(records::DecodeDataset(value, id), &datasets_);
                            });
  if (!scanned.ok() || !status.ok()) return scanned.ok() ? status : scanned;
  std::sort(models_.begin(), models_.end());
  std::sort(datasets_.begin(), datasets_.end());
  return absl::OkStatus();
}

size_t BackupReader::RangesOf(const store::Table& table) const {
  if (project_.empty()) return 1;
  switch (table.number) {
    case records::kModels.number:
    case records::kDatasets.number:
      return 1;
    case records::kRequests.number:
      return 1 + models_.size();
    case records::kRuns.number:
      return std::size(records::kRunParts) * models_.size();
    case records::kDatasetRows.number:
      return datasets_.size();
    default:
      return models_.size();
  }
}

std::string BackupReader::PrefixOf(const store::Table& table, size_t range) const {
  if (project_.empty()) return "";
  switch (table.number) {
    case records::kModels.number:
    case records::kDatasets.number:
      return records::ScopedId(project_, "");
    case records::kRequests.number:  // those of the server first
      return records::UidKey(range == 0 ? records::Uid{0} : models_[range - 1]);
    case records::kRuns.number:
      return records::RunKey(models_[range % models_.size()],
                             records::kRunParts[range / models_.size()]);
    case records::kDatasetRows.number:
      return records::UidKey(datasets_[range]);
    default:
      return records::UidKey(models_[range]);
  }
}

// Creations and deletions of all projects are adjacent. A damaged one is left out.
bool BackupReader::Belongs(const store::Table& table, absl::string_view key,
                           absl::string_view value) const {
  if (project_.empty() || table.number != records::kRequests.number ||
      !absl::StartsWith(key, records::UidKey(records::Uid{0}))) {
    return true;
  }
  const auto response = records::DecodeRegistryResponse(value);
  return response.ok() && records::ProjectOfRequestId(response->key.id) == project_;
}

// Reads records until there are kReadAtOnce bytes, or no more records.
absl::Status BackupReader::ReadRecords() {
  records_.erase(0, handed_out_);
  handed_out_ = 0;
  while (records_.size() < kReadAtOnce && table_ < std::size(records::kTables)) {
    const store::Table& table = *records::kTables[table_];
    if (range_ == RangesOf(table)) {
      ++table_;
      range_ = 0;
      continue;
    }
    const std::string prefix = PrefixOf(table, range_);
    bool more = false;
    absl::Status scanned =
        snapshot_->Scan(table, next_key_.empty() ? prefix : next_key_, store::EndOfPrefix(prefix),
                        [&](absl::string_view key, absl::string_view value) {
                          if (records_.size() >= kReadAtOnce) {
                            more = true;
                            next_key_ = std::string(key);
                            return false;
                          }
                          if (Belongs(table, key, value))
                            AppendRecord(table, key, value, &records_);
                          return true;
                        });
    if (!scanned.ok()) return scanned;
    if (more) break;
    ++range_;
    next_key_.clear();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> BackupReader::Next() {
  if (!std::exchange(begun_, true)) {
    absl::Status found = ReadUids();
    if (!found.ok()) return found;
    return absl::StrCat(FrameWriter::Begin(kMagic),
                        frames_.Frame(absl::StrCat(kFormatPrefix, records::kFormatVersion)));
  }
  if (handed_out_ == records_.size()) {
    absl::Status read = ReadRecords();
    if (!read.ok()) return read;
  }
  const auto chunk = absl::string_view(records_).substr(handed_out_, kChunkBytes);
  handed_out_ += chunk.size();
  if (!chunk.empty()) return frames_.Frame(chunk);
  if (std::exchange(ended_, true)) return std::nullopt;
  return frames_.End();
}

BackupWriter::BackupWriter(store::Store* store) : store_(store), frames_(std::string(kMagic)) {}

absl::Status BackupWriter::TakeRecords(absl::string_view payload) {
  if (format_ == 0) {
    if (!absl::ConsumePrefix(&payload, kFormatPrefix) || !absl::SimpleAtoi(payload, &format_) ||
        format_ == 0) {
      return absl::InvalidArgumentError("does not contain the format of the backup");
    }
    if (format_ <= records::kFormatVersion) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the backup is in format ", format_, ", but this server supports formats up to ",
        records::kFormatVersion, "; use the version that created it or a later one"));
  }
  rest_.append(payload.data(), payload.size());
  absl::string_view left = rest_;
  while (left.size() >= kRecordHeaderBytes) {
    const auto number = static_cast<unsigned char>(left[0]);  // of its table
    uint32_t key_bytes = 0;
    uint64_t value_bytes = 0;
    std::memcpy(&key_bytes, left.data() + 1, sizeof key_bytes);
    std::memcpy(&value_bytes, left.data() + 5, sizeof value_bytes);
    if (number < 1 || number > std::size(records::kTables) || value_bytes > kMaxRecordBytes ||
        key_bytes > kMaxKeyBytes) {
      return absl::InvalidArgumentError("contains a record of an unknown kind");
    }
    if (left.size() - kRecordHeaderBytes < key_bytes + value_bytes) break;
    left.remove_prefix(kRecordHeaderBytes);
    const store::Table& table = *records::kTables[number - 1];
    std::string key(left.substr(0, key_bytes)), value(left.substr(key_bytes, value_bytes));
    if (format_ < records::kFormatVersion) records::UpgradeRecord(table, &key, &value);
    absl::Status described = CheckDescription(table, key, value);
    if (!described.ok()) return described;
    batch_.Put(table, std::move(key), std::move(value));
    left.remove_prefix(key_bytes + value_bytes);
  }
  rest_.erase(0, rest_.size() - left.size());  // erases nothing while a large record is incomplete
  return absl::OkStatus();
}

// A damaged record is restored: a call that uses it returns DATA_LOSS. But a key without an id
// would make all lists of it unreadable, and two models with one uid would share their records.
absl::Status BackupWriter::CheckDescription(const store::Table& table, absl::string_view key,
                                            absl::string_view value) {
  const bool model = table.number == records::kModels.number;
  if (!model && table.number != records::kDatasets.number) return absl::OkStatus();
  const char* const kind = model ? "model" : "dataset";
  if (!records::IsScopedId(key)) {
    return absl::InvalidArgumentError(absl::StrCat("contains a ", kind, " with the key ",
                                                   base::Quote(key), ", expected {project}/{id}"));
  }
  std::optional<records::Uid> uid;
  if (model) {
    const auto description = records::DecodeModel(value, key);
    if (description.ok()) uid = description->uid;
  } else {
    const auto description = records::DecodeDataset(value, key);
    if (description.ok()) uid = description->uid;
  }
  if (!uid.has_value() || (model ? models_ : datasets_).insert(*uid).second) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("contains a ", kind, " ", base::Quote(key),
                                                 " with the uid of an earlier ", kind,
                                                 ", expected a uid of its own"));
}

void BackupWriter::Add(absl::string_view bytes, Done done) {
  absl::Status taken =
      frames_.Add(bytes, [&](absl::string_view payload) { return TakeRecords(payload); });
  if (!taken.ok()) return done(std::move(taken));
  if (batch_.ops().empty()) return done(absl::OkStatus());
  if (!std::exchange(marked_, true)) {
    store::WriteBatch first = Wipe();  // the store may hold remembered responses
    first.Put(store::kMeta, kRestoringKey, "1");
    store_->Commit(std::move(first), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  }
  store_->Commit(std::exchange(batch_, {}), store::Durability::kNone, nullptr,
                 [done = std::move(done)](const absl::Status& status) mutable { done(status); });
}

void BackupWriter::Finish(Done done) {
  absl::Status complete = frames_.CheckComplete();
  if (complete.ok() && !rest_.empty()) {
    complete = absl::InvalidArgumentError("ends inside a record");
  }
  if (!complete.ok()) return done(std::move(complete));
  store::WriteBatch batch;
  batch.Delete(store::kMeta, kRestoringKey);
  store_->Commit(std::move(batch), store::Durability::kSync, nullptr,
                 [done = std::move(done)](const absl::Status& status) mutable { done(status); });
}

absl::StatusOr<bool> DropUnfinishedRestore(store::Store* store) {
  const auto mark = store->Get(store::kMeta, kRestoringKey);
  if (!mark.ok()) return mark.status();
  if (!mark->has_value()) return false;
  store::WriteBatch batch = Wipe();
  batch.Delete(store::kMeta, kRestoringKey);
  std::promise<absl::Status> wiped;
  store->Commit(std::move(batch), store::Durability::kSync, nullptr,
                [&](const absl::Status& status) { wiped.set_value(status); });
  absl::Status status = wiped.get_future().get();
  if (!status.ok()) return status;
  return true;
}

}  // namespace backprop::transfer
