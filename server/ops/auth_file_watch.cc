#include "server/ops/auth_file_watch.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "server/ops/logging.h"

namespace backprop::ops {
namespace {

void LogApplied(const std::string& path, const auth::AuthFile& file) {
  spdlog::info("{}: {} principals, {} projects", path, file.principals.size(),
               file.projects.size());
}

}  // namespace

AuthFileWatch::AuthFileWatch(auth::AuthFileReader reader, auth::AuthFile file,
                             const base::Clock* clock)
    : authenticator_(
          std::move(file), clock,
          [](const std::string& line) { LogLine("authentication", spdlog::level::warn, line); }),
      reader_(std::move(reader)) {}

absl::StatusOr<std::unique_ptr<AuthFileWatch>> AuthFileWatch::Open(const std::string& path,
                                                                   const base::Clock* clock) {
  auth::AuthFileReader reader(path);
  auto file = reader.Read();
  if (!file.ok()) return file.status();
  LogApplied(path, *file);
  // Not make_unique: the constructor is private.
  return std::unique_ptr<AuthFileWatch>(
      new AuthFileWatch(std::move(reader), *std::move(file), clock));
}

void AuthFileWatch::SetHealth(std::function<void(bool in_use)> health) {
  const base::MutexLock lock(&mu_);
  health_ = std::move(health);
  if (health_) health_(in_use_);
}

void AuthFileWatch::SetProjects(Projects projects) {
  const base::MutexLock lock(&mu_);
  projects_ = std::move(projects);
  if (projects_) projects_(authenticator_.principals()->file().projects);
}

void AuthFileWatch::Check() {
  const base::MutexLock lock(&mu_);
  if (auto changed = reader_.ReadIfChanged()) Apply(*std::move(changed));
}

void AuthFileWatch::Reload() {
  const base::MutexLock lock(&mu_);
  Apply(reader_.Read());
}

void AuthFileWatch::Apply(auth::AuthFileReader::Result file) {
  const bool was_in_use = std::exchange(in_use_, file.ok());
  error_ = std::string(file.status().message());
  if (file.ok()) {
    LogApplied(reader_.path(), *file);
    authenticator_.Replace(*std::move(file));
    if (projects_) projects_(authenticator_.principals()->file().projects);
  } else {
    spdlog::error(
        "--auth-file: {}; the callers of the last good file are still accepted, and no "
        "others",
        std::string(file.status().message()));
  }
  if (in_use_ != was_in_use && health_) health_(in_use_);
}

}  // namespace backprop::ops
