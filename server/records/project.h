// Projects: each model and dataset belongs to one. Two projects may use the same id for two things.
#ifndef BACKPROP_SERVER_RECORDS_PROJECT_H_
#define BACKPROP_SERVER_RECORDS_PROJECT_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace backprop::records {

// The project of callers that are not assigned to another one, and of all that was stored before
// there were projects.
inline constexpr char kDefaultProject[] = "default";

// Identifies a model among those of all projects, or a dataset: {project}/{id}. Neither part
// contains a slash. The keys of a project are adjacent and sorted by id.
inline std::string ScopedId(absl::string_view project, absl::string_view id) {
  return absl::StrCat(project, "/", id);
}
inline absl::string_view ProjectOf(absl::string_view scoped_id) {
  return scoped_id.substr(0, scoped_id.find('/'));
}
inline absl::string_view IdOf(absl::string_view scoped_id) {
  return scoped_id.substr(scoped_id.find('/') + 1);
}

// Whether `id` is 1 to 63 of [a-z0-9_-] and starts with a letter or digit. The ids of models,
// datasets, checkpoints and projects have this form.
bool IsId(absl::string_view id);
// Whether `scoped_id` is {project}/{id}, both of that form.
bool IsScopedId(absl::string_view scoped_id);

// Identifies a request of a project among those of all projects. Ids of the default project are
// those that were stored before there were projects. No request id contains a line feed, so no id
// of another project equals one of them.
inline std::string ScopedRequestId(absl::string_view project, absl::string_view request_id) {
  return project == kDefaultProject ? std::string(request_id)
                                    : absl::StrCat(project, "\n", request_id);
}
inline absl::string_view ProjectOfRequestId(absl::string_view scoped_id) {
  const size_t end = scoped_id.find('\n');
  return end == absl::string_view::npos ? absl::string_view(kDefaultProject)
                                        : scoped_id.substr(0, end);
}

// The names for callers, which know no other project than theirs: models/{id}, datasets/{id}.
inline std::string ModelName(absl::string_view scoped_id) {
  return absl::StrCat("models/", IdOf(scoped_id));
}
inline std::string DatasetName(absl::string_view scoped_id) {
  return absl::StrCat("datasets/", IdOf(scoped_id));
}

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_PROJECT_H_
