#include "server/stores.h"

#include <spdlog/spdlog.h>

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ops/logging.h"
#include "server/records/tables.h"
#include "server/records/upgrade.h"
#include "server/store/memory_store.h"
#include "server/store/rocks_store.h"
#include "server/transfer/backup.h"

namespace backprop {

void WritableServer::Set(rpc::Server* server) {
  const base::MutexLock lock(&mu_);
  server_ = server;
  Tell();
}

bool WritableServer::serving() {
  const base::MutexLock lock(&mu_);
  return server_ != nullptr && serving_;
}

void WritableServer::OnHealth(const absl::Status& health) {
  if (health.ok()) {
    spdlog::info("changes are stored again");
  } else {
    spdlog::error("changes cannot be stored and are rejected: {}", std::string(health.message()));
  }
  const base::MutexLock lock(&mu_);
  writable_ = health.ok();
  serving_ = !store::HasReason(health, store::kDirectoryGone);
  Tell();
}

void WritableServer::Tell() {
  if (server_ == nullptr) return;
  server_->SetWritable(writable_);
  // Models in memory can still be read, but are lost after a restart.
  server_->SetServing(serving_);
}

namespace {

// Opens the store in the data directory and deletes what an interrupted restore left in it.
absl::StatusOr<std::unique_ptr<store::Store>> OpenStore(const ops::Config& config,
                                                        WritableServer* writable) {
  store::RocksOptions options;
  options.directory = config.data_dir;
  options.schema = records::kSchema;
  options.memory_bytes = config.store_memory_bytes;
  options.reserve_bytes = store::kBySize;
  options.min_free_bytes = config.min_free_bytes.value_or(store::kBySize);
  options.on_warning = [](const std::string& line) {
    ops::LogLine("rocksdb", spdlog::level::debug, line);
  };
  options.on_health = [writable](const absl::Status& health) { writable->OnHealth(health); };
  auto store = store::OpenRocksStore(options);
  if (!store.ok()) return store.status();
  const auto dropped = transfer::DropUnfinishedRestore(store->get());
  if (!dropped.ok()) return dropped.status();
  if (*dropped) spdlog::warn("a restore was interrupted; its data was deleted");
  const auto upgraded = records::UpgradeStore(store->get());
  if (!upgraded.ok()) {
    return absl::Status(upgraded.status().code(),
                        absl::StrCat("the upgrade of the data directory to format ",
                                     records::kFormatVersion, " did not finish; the next start ",
                                     "continues it: ", upgraded.status().message()));
  }
  if (*upgraded > 0) {
    spdlog::info("{} was upgraded to format {}: {} records", config.data_dir,
                 records::kFormatVersion, *upgraded);
  }
  return store;
}

}  // namespace

absl::StatusOr<Stores> OpenStores(const ops::Config& config, WritableServer* writable) {
  Stores stores;
  if (config.data_dir.empty()) {
    stores.memory = std::make_unique<store::MemoryStore>(static_cast<size_t>(config.archive_bytes));
    return stores;
  }
  auto opened = OpenStore(config, writable);
  if (!opened.ok()) return opened.status();
  stores.models = *std::move(opened);
  return stores;
}

}  // namespace backprop
