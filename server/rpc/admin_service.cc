#include "server/rpc/admin_service.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "server/auth/role.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/call/download_stream.h"
#include "server/rpc/call/upload_stream.h"
#include "server/rpc/handlers_projects.h"
#include "server/rpc/handlers_server.h"
#include "server/rpc/permissions.h"
#include "server/session/errors.h"
#include "server/transfer/backup.h"

namespace backprop::rpc {
namespace {

// What a backup of all projects needs.
constexpr Permission kBackupOfAll{"backprop.v1.AdminService", "CreateBackup",
                                  auth::Role::kOperator};

absl::Status CheckStores(const Context& context) {
  if (context.environment->store != nullptr) return absl::OkStatus();
  return base::ReasonError(absl::StatusCode::kFailedPrecondition,
                           "backup and restore require a server with --data-dir",
                           {"NO_DATA_DIR", {}});
}

class BackupSource final : public ChunkSource {
 public:
  explicit BackupSource(std::unique_ptr<transfer::BackupReader> reader)
      : reader_(std::move(reader)) {}
  absl::StatusOr<std::optional<std::string>> Next() override { return reader_->Next(); }

 private:
  const std::unique_ptr<transfer::BackupReader> reader_;
};

// All that is in the backup belongs to the caller's project, or the caller is an operator.
absl::StatusOr<std::unique_ptr<ChunkSource>> BackupOf(Context* context, const Caller& caller,
                                                      const v1::CreateBackupRequest& request) {
  std::string project;
  if (request.project().empty()) {
    absl::Status allowed = CheckRole(kBackupOfAll, caller);
    if (!allowed.ok()) return allowed;
  } else {
    const auto found = FindProject(context, caller, "project", request.project());
    if (!found.ok()) return found.status();
    project = (*found)->name();
  }
  absl::Status stores = CheckStores(*context);
  if (!stores.ok()) return stores;
  auto reader = transfer::BackupReader::Of(context->environment->store, std::move(project));
  if (!reader.ok()) return reader.status();
  return std::make_unique<BackupSource>(*std::move(reader));
}

// From the first message until it has succeeded or was undone, other calls are rejected
// (Environment::restoring). A restore that does not succeed leaves nothing in the store: it is
// undone after the receiver was destroyed. That takes a commit, and the last reference to a call
// may be released on the thread of the store that answers commits, so the pool undoes it.
class RestoreReceiver final : public Receiver<v1::RestoreBackupRequest> {
 public:
  RestoreReceiver(Context* context, v1::RestoreBackupResponse* response)
      : context_(context), response_(response), writer_(context->environment->store) {}
  ~RestoreReceiver() override {
    if (!begun_ || restored_) return;
    environment()->pool->Post(exec::Priority::kInteractive, [environment = environment()] {
      transfer::DropUnfinishedRestore(environment->store).status().IgnoreError();
      environment->restoring = false;
    });
  }

  void Take(const v1::RestoreBackupRequest& message, Next next) override {
    if (!begun_) {
      const absl::Status status = Begin();
      if (!status.ok()) return next(status);
    }
    environment()->pool->Post(exec::Priority::kInteractive,
                              [this, &message, next = std::move(next)]() mutable {
                                const absl::Status room = CheckRoom(message.data().size());
                                if (!room.ok()) return next(room);
                                writer_.Add(message.data(), Answer(std::move(next)));
                              });
  }

  void End(Next done) override {
    if (!begun_) return done(base::FieldError("data", "is required"));
    writer_.Finish([this, done = std::move(done)](const absl::Status& status) mutable {
      if (!status.ok()) return Answer(std::move(done))(status);
      environment()->pool->Post(exec::Priority::kInteractive,
                                [this, done = std::move(done)]() mutable { done(Open()); });
    });
  }

 private:
  session::Environment* environment() const { return context_->environment; }

  absl::Status CheckRoom(size_t bytes) const {
    return session::CheckRoom(environment()->store, static_cast<int64_t>(bytes), "the backup");
  }

  absl::Status Begin() {
    absl::Status stores = CheckStores(*context_);
    if (stores.ok()) stores = CheckRoom(0);
    if (stores.ok()) stores = CheckEmpty();  // before other calls are rejected
    if (!stores.ok()) return stores;
    if (environment()->restoring.exchange(true)) return session::Restoring();
    // Again: what was created before `restoring` was set is counted now, and nothing is created
    // later.
    stores = CheckEmpty();
    begun_ = stores.ok();
    if (!begun_) environment()->restoring = false;
    return stores;
  }

  absl::Status CheckEmpty() const {
    if (context_->registry->size() == 0 && context_->datasets->empty()) return absl::OkStatus();
    return base::ReasonError(absl::StatusCode::kFailedPrecondition,
                             "the server already holds models or datasets; restore to an empty "
                             "data directory",
                             {"NOT_EMPTY", {}});
  }

  absl::Status Open() {
    const auto datasets = context_->datasets->Open();
    if (!datasets.ok()) return datasets.status();
    environment()->restoring = false;  // runs that resume must be able to find their models
    const auto found = context_->registry->Open();
    if (!found.ok()) return found.status();
    restored_ = true;
    response_->set_models(found->models);
    response_->set_runs(found->runs);
    return absl::OkStatus();
  }

  // Converts errors of the writer to errors for the caller. Errors of the file are about `data`.
  static transfer::BackupWriter::Done Answer(Next next) {
    return [next = std::move(next)](const absl::Status& status) mutable {
      if (absl::IsInvalidArgument(status)) {
        return next(base::FieldError("data", status.message()));
      }
      if (absl::IsFailedPrecondition(status)) {
        return next(base::ReasonError(status.code(), status.message(), {"NEWER_FORMAT", {}}));
      }
      if (!status.ok()) return next(session::NotStored("the backup", status));
      next(status);
    };
  }

  Context* const context_;
  v1::RestoreBackupResponse* const response_;
  transfer::BackupWriter writer_;
  bool begun_ = false;
  bool restored_ = false;
};

grpc::ServerWriteReactor<v1::CreateBackupResponse>* StartBackup(
    Context* context, const CallInfo& info, const v1::CreateBackupRequest& request,
    const absl::Status& parsed) {
  return DownloadStream<v1::CreateBackupResponse>::Start(
      info, "", context->environment->pool,
      CountedSource::Of(parsed.ok() ? BackupOf(context, *info.caller, request) : parsed, 0,
                        &context->sending));
}

grpc::ServerReadReactor<Incoming<v1::RestoreBackupRequest>>* StartRestore(
    Context* context, const CallInfo& info, v1::RestoreBackupResponse* response) {
  return UploadStream<v1::RestoreBackupRequest>::Start(
      info, std::make_unique<RestoreReceiver>(context, response));
}

}  // namespace

AdminService::AdminService(Context* context) : ServiceBase(context) {
  ServerStreaming("CreateBackup", StartBackup);
  ClientStreaming("RestoreBackup", StartRestore);
  Unary("GetProject", HandleGetProject, &v1::GetProjectRequest::name);
  Unary("ListProjects", HandleListProjects, &v1::ListProjectsRequest::page_token);
  Unary("GetServerStatus", HandleGetServerStatus);
}

}  // namespace backprop::rpc
