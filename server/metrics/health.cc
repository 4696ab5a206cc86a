#include "server/metrics/health.h"

#include <string>

#include "absl/status/status.h"
#include "server/base/text.h"
#include "server/rpc/server.h"
#include "server/session/environment.h"
#include "server/store/store.h"

namespace backprop::metrics {

std::vector<rpc::Health> HealthOf(const Sources& sources) {
  const session::Environment& environment = *sources.context->environment;
  const store::Store* const store = environment.store;
  const absl::Status stored = store == nullptr ? absl::OkStatus() : store->health();
  const std::string why_not_stored = base::ValidUtf8(stored.message());  // names a path
  std::vector<rpc::Health> all;
  const bool serving = sources.serving();
  const std::string why_not = environment.draining ? "the server stops" : why_not_stored;
  all.push_back({"", serving, serving ? "" : why_not});
  all.push_back({rpc::kWritesHealth, stored.ok(), stored.ok() ? "" : why_not_stored});
  if (sources.context->authenticator != nullptr) {
    const std::string error =
        sources.auth_file_error ? base::ValidUtf8(sources.auth_file_error()) : "";
    all.push_back({rpc::kAuthFileHealth, error.empty(), error});
  }
  return all;
}

}  // namespace backprop::metrics
