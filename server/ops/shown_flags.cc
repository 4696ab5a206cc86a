#include "server/ops/shown_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/text.h"

namespace backprop::ops {
namespace {

constexpr absl::string_view kSecretNames[] = {"token", "password", "passphrase", "secret",
                                              "credential"};
constexpr absl::string_view kTokenPrefix = "bpt_";
constexpr absl::string_view kExiting[] = {"--help", "--version", "--print-permissions",
                                          "--health-check"};

bool HasUserInUrl(absl::string_view value) {
  for (size_t at = value.find("://"); at != absl::string_view::npos; at = value.find("://", at)) {
    at += 3;
    const absl::string_view authority = value.substr(at, value.substr(at).find('/'));
    if (absl::StrContains(authority, '@')) return true;
  }
  return false;
}

std::string ValueOf(const CLI::Option& option) {
  if (option.count() > 0) return absl::StrJoin(option.results(), ",");
  if (option.get_items_expected_max() == 0) return "false";  // a flag without a value
  return option.get_default_str();
}

}  // namespace

std::string ShownValue(absl::string_view flag, absl::string_view value) {
  const bool named =
      std::any_of(std::begin(kSecretNames), std::end(kSecretNames),
                  [&](absl::string_view name) { return absl::StrContains(flag, name); });
  if (named || absl::StrContains(value, kTokenPrefix) || HasUserInUrl(value)) return kHiddenValue;
  return base::ValidUtf8(value);
}

std::vector<rpc::ShownFlag> ShownFlags(const CLI::App& app) {
  std::vector<rpc::ShownFlag> flags;
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();  // the long one
    if (std::count(std::begin(kExiting), std::end(kExiting), name) > 0) continue;
    flags.push_back({name, ShownValue(name, ValueOf(*option)), option->count() > 0});
  }
  std::sort(flags.begin(), flags.end(),
            [](const rpc::ShownFlag& a, const rpc::ShownFlag& b) { return a.name < b.name; });
  return flags;
}

}  // namespace backprop::ops
