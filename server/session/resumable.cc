#include "server/session/resumable.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/workspace.h"
#include "server/records/rules.h"
#include "server/session/trainer.h"
#include "server/session/workspace_limit.h"

namespace backprop::session {

absl::Status CheckResumable(const engine::Network& network, const Run& run, const RunData& data,
                            const base::Limits& limits) {
  const records::RunConfig& config = run.config();
  const int64_t rows = CountRows(data, config).training;
  records::Rules rules(run.name());
  rules.Require(rows > 0, "config.validation_split", "one that leaves rows for training",
                config.validation_split);
  rules.Between("config.batch_size", config.batch_size, 1, rows);
  if (!rules.ok()) return rules.status();
  if (config.resumed != nullptr) {
    rules.Between("config.resumed.batches", config.resumed_batches(), 1,
                  engine::BatchesPerEpoch(rows, config.batch_size) - 1);
    if (!rules.ok()) return rules.status();
  }
  return CheckWorkspace(network, config.batch_size, engine::PassKind::kForwardBackward,
                        absl::StrCat(run.name(), ": config.batch_size"), limits);
}

}  // namespace backprop::session
