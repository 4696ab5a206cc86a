#include "server/records/project.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace backprop::records {

bool IsId(absl::string_view id) {
  constexpr size_t kMostIdBytes = 63;
  const auto plain = [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); };
  return !id.empty() && id.size() <= kMostIdBytes && plain(id[0]) &&
         std::all_of(id.begin(), id.end(),
                     [&](char c) { return plain(c) || c == '_' || c == '-'; });
}

bool IsScopedId(absl::string_view scoped_id) {
  const size_t slash = scoped_id.find('/');
  return slash != absl::string_view::npos && IsId(scoped_id.substr(0, slash)) &&
         IsId(scoped_id.substr(slash + 1));
}

}  // namespace backprop::records
