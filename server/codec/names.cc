#include "server/codec/names.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/records/project.h"

namespace backprop::codec {
namespace {

absl::StatusOr<std::string> ParseName(absl::string_view collection, absl::string_view field,
                                      absl::string_view name) {
  absl::string_view id = name;
  if (!absl::ConsumePrefix(&id, collection) || !absl::ConsumePrefix(&id, "/") || !IsModelId(id)) {
    return base::FieldError(
        field, absl::StrCat("expected ", collection, "/{id}, got ", base::Quote(name)));
  }
  return std::string(id);
}

}  // namespace

bool IsModelId(absl::string_view id) { return records::IsId(id); }

absl::StatusOr<std::string> ParseModelName(absl::string_view field, absl::string_view name) {
  return ParseName("models", field, name);
}

absl::StatusOr<std::string> ParseDatasetName(absl::string_view field, absl::string_view name) {
  return ParseName("datasets", field, name);
}

absl::StatusOr<std::string> ParseProjectName(absl::string_view field, absl::string_view name) {
  return ParseName("projects", field, name);
}

absl::StatusOr<CheckpointName> ParseCheckpointName(absl::string_view field,
                                                   absl::string_view name) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name, absl::MaxSplits("/checkpoints/", 1));
  absl::string_view model = parts.first;
  if (!absl::ConsumePrefix(&model, "models/") || !IsModelId(model) || !IsModelId(parts.second)) {
    return base::FieldError(
        field, absl::StrCat("expected models/{id}/checkpoints/{id}, got ", base::Quote(name)));
  }
  return CheckpointName{std::string(model), std::string(parts.second)};
}

absl::StatusOr<int64_t> ParseRunName(absl::string_view model, absl::string_view run) {
  if (run.empty()) return 0;
  absl::string_view rest = run;
  int64_t number = 0;
  if (!absl::ConsumePrefix(&rest, absl::StrCat(model, "/runs/")) ||
      !absl::SimpleAtoi(rest, &number) || number < 1 || absl::StrCat(number) != rest) {
    return base::FieldError("run",
                            absl::StrCat("expected ", model, "/runs/{n}, got ", base::Quote(run)));
  }
  return number;
}

absl::Status CheckRequestId(absl::string_view request_id) {
  if (request_id.size() > base::kMaxRequestIdBytes) {
    return base::FieldError("request_id",
                            absl::StrCat("must have at most ", base::kMaxRequestIdBytes,
                                         " characters, got ", request_id.size()));
  }
  if (!std::all_of(request_id.begin(), request_id.end(), absl::ascii_isgraph)) {
    return base::FieldError("request_id", "must be printable ASCII without spaces");
  }
  return absl::OkStatus();
}

void CheckNames(const google::protobuf::RepeatedPtrField<std::string>& names,
                const std::string& field, int64_t expected, base::Fields* fields) {
  constexpr size_t kMaxNameBytes = 255;
  if (names.empty()) return;
  if (names.size() != expected) {
    fields->Add(field, absl::StrCat("expected ", expected, " names or none, got ", names.size()));
    return;
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (int i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const std::string path = absl::StrCat(field, "[", i, "]");
    if (name.empty()) fields->Add(path, "must not be empty");
    if (name.size() > kMaxNameBytes) {
      fields->Add(path,
                  absl::StrCat("must have at most ", kMaxNameBytes, " bytes, got ", name.size()));
    }
    if (!seen.insert(name).second) {
      fields->Add(path, absl::StrCat("must be unique, got ", base::Quote(name), " twice"));
    }
  }
}

}  // namespace backprop::codec
