// GetProject, ListProjects.
#include "server/rpc/handlers_projects.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/auth/role.h"
#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/codec/names.h"
#include "server/codec/paging.h"
#include "server/rpc/call/caller.h"
#include "server/session/projects.h"

namespace backprop::rpc {
namespace {

using session::Resource;

// Operators see all projects, administrators only theirs.
bool MaySee(const Caller& caller, absl::string_view project) {
  return caller.role >= auth::Role::kOperator || caller.project == project;
}

void EncodeProject(const session::Project& project, v1::Project* message) {
  message->set_name(absl::StrCat("projects/", project.name()));
  message->set_weight(project.weight());
  for (const Resource resource : session::kResources) {
    v1::QuotaUse* const quota = message->add_quotas();
    quota->set_quota(session::NameOf(resource));
    quota->set_used(project.used(resource));
    if (const auto limit = project.limit(resource)) quota->set_limit(static_cast<double>(*limit));
  }
  for (const session::Rate rate : session::kRates) {
    v1::QuotaUse* const quota = message->add_quotas();
    quota->set_quota(session::NameOf(rate));
    if (const auto limit = project.limit(rate)) quota->set_limit(*limit);
  }
}

}  // namespace

absl::StatusOr<session::Project*> FindProject(Context* context, const Caller& caller,
                                              absl::string_view field, const std::string& name) {
  const auto id = codec::ParseProjectName(field, name);
  if (!id.ok()) return id.status();
  session::Project* const project =
      MaySee(caller, *id) ? context->environment->projects.Find(*id) : nullptr;
  if (project != nullptr) return project;
  return base::ReasonError(absl::StatusCode::kNotFound, absl::StrCat(name, ": no such project"),
                           {"PROJECT_NOT_FOUND", {{"project", name}}});
}

void HandleGetProject(Context* context, UnaryCall* call, const v1::GetProjectRequest& request,
                      v1::GetProjectResponse* response) {
  const auto project = FindProject(context, call->caller(), "name", request.name());
  if (!project.ok()) return call->Done(project.status());
  EncodeProject(**project, response->mutable_project());
  call->Done(absl::OkStatus());
}

void HandleListProjects(Context* context, UnaryCall* call, const v1::ListProjectsRequest& request,
                        v1::ListProjectsResponse* response) {
  base::Fields fields;
  const size_t page_size = codec::DecodePage(request, "ListProjects", &fields);
  if (!fields.ok()) return call->Done(fields.status());
  std::vector<session::Project*> projects = context->environment->projects.All();
  std::erase_if(projects, [&](const session::Project* project) {
    return project->name() <= request.page_token() || !MaySee(call->caller(), project->name());
  });
  if (projects.size() > page_size + 1) projects.resize(page_size + 1);
  call->Done(codec::EncodePage(
      page_size, projects, context->limits(), [](const auto* project) { return project->name(); },
      [](const auto* project, v1::Project* message) { EncodeProject(*project, message); },
      response->mutable_projects(), response->mutable_next_page_token()));
}

}  // namespace backprop::rpc
