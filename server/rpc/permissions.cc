#include "server/rpc/permissions.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::rpc {
namespace {

using auth::Role;

constexpr absl::string_view kTraining = "backprop.v1.TrainingService";
constexpr absl::string_view kAdmin = "backprop.v1.AdminService";
constexpr absl::string_view kChannelz = "grpc.channelz.v1.Channelz";
constexpr absl::string_view kHealth = "grpc.health.v1.Health";

constexpr std::array kRoles = {Role::kReader, Role::kWriter, Role::kAdmin, Role::kOperator};

}  // namespace

const std::vector<Permission>& Permissions() {
  // Readers change nothing that others see. Writers change the contents of their project. Operators
  // see the data of all projects and state of the process.
  static const auto* const permissions = new std::vector<Permission>{
      {kTraining, "CreateModel", Role::kWriter},
      {kTraining, "GetModel", Role::kReader},
      {kTraining, "ListModels", Role::kReader},
      {kTraining, "DeleteModel", Role::kWriter},
      {kTraining, "Train", Role::kWriter},
      {kTraining, "WatchTraining", Role::kReader},
      {kTraining, "StopTraining", Role::kWriter},
      {kTraining, "Step", Role::kWriter},
      {kTraining, "StepStream", Role::kWriter},
      {kTraining, "ComputeGradients", Role::kReader},
      {kTraining, "ApplyGradients", Role::kWriter},
      {kTraining, "Predict", Role::kReader},
      {kTraining, "Evaluate", Role::kReader},
      {kTraining, "GradCheck", Role::kReader},
      {kTraining, "GetParameters", Role::kReader},
      {kTraining, "SetParameters", Role::kWriter},
      {kTraining, "CreateCheckpoint", Role::kWriter},
      {kTraining, "ListCheckpoints", Role::kReader},
      {kTraining, "RestoreCheckpoint", Role::kWriter},
      {kTraining, "DeleteCheckpoint", Role::kWriter},
      {kTraining, "ExportModel", Role::kReader},
      {kTraining, "ImportModel", Role::kWriter},
      {kTraining, "UploadDataset", Role::kWriter},
      {kTraining, "GetDataset", Role::kReader},
      {kTraining, "ListDatasets", Role::kReader},
      {kTraining, "DeleteDataset", Role::kWriter},
      {kAdmin, "CreateBackup", Role::kAdmin},  // administrators: of their own project only
      {kAdmin, "RestoreBackup", Role::kOperator},
      {kAdmin, "GetProject", Role::kAdmin},    // the same
      {kAdmin, "ListProjects", Role::kAdmin},  // the same
      {kAdmin, "GetServerStatus", Role::kOperator},
      {kChannelz, "GetTopChannels", Role::kOperator},
      {kChannelz, "GetServers", Role::kOperator},
      {kChannelz, "GetServer", Role::kOperator},
      {kChannelz, "GetServerSockets", Role::kOperator},
      {kChannelz, "GetChannel", Role::kOperator},
      {kChannelz, "GetSubchannel", Role::kOperator},
      {kChannelz, "GetSocket", Role::kOperator},
      {"grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", Role::kOperator},
      {"grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", Role::kOperator},
  };
  return *permissions;
}

bool IsChange(const Permission& permission) {
  return (permission.service == kTraining || permission.service == kAdmin) &&
         permission.role != Role::kReader && !absl::StartsWith(permission.method, "Get") &&
         !absl::StartsWith(permission.method, "List");
}

const Permission* FindPermission(absl::string_view service, absl::string_view method) {
  const auto& all = Permissions();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Permission& permission) {
    return permission.service == service && permission.method == method;
  });
  return found == all.end() ? nullptr : &*found;
}

absl::Status CheckRole(const Permission& permission, const Caller& caller) {
  if (caller.role >= permission.role) return absl::OkStatus();
  const std::string method = absl::StrCat(permission.service, "/", permission.method);
  const char* const required = NameOf(permission.role);
  const char* const role = NameOf(caller.role);
  return base::ReasonError(
      absl::StatusCode::kPermissionDenied,
      absl::StrCat(method, " needs the role ", required, "; the caller's role is ", role),
      {"ROLE_TOO_LOW", {{"method", method}, {"required_role", required}, {"role", role}}});
}

std::string PermissionsAsMarkdown() {
  std::string out = "| method | no credentials |";
  for (const Role role : kRoles) absl::StrAppend(&out, " ", NameOf(role), " |");
  absl::StrAppend(&out, "\n|---|---|---|---|---|---|\n");
  const auto row = [&out](absl::string_view service, absl::string_view method, bool everyone,
                          Role least) {
    absl::StrAppend(&out, "| `", service, "/", method, "` | ", everyone ? "yes" : "", " |");
    for (const Role role : kRoles) absl::StrAppend(&out, role >= least ? " yes |" : "  |");
    out += "\n";
  };
  for (const Permission& permission : Permissions()) {
    row(permission.service, permission.method, false, permission.role);
  }
  row(kHealth, "Check", true, Role::kReader);
  row(kHealth, "Watch", true, Role::kReader);
  return out;
}

}  // namespace backprop::rpc
