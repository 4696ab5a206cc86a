// Checkpoints, and datasets except uploads.
#include <utility>

#include "backprop/client.h"
#include "client/backprop/calls.h"

namespace backprop {
namespace {

using Stub = v1::TrainingService::Stub;

std::string CheckpointName(const std::string& model, const std::string& id) {
  if (id.rfind("models/", 0) == 0) return id;
  return ResourceName(model) + "/checkpoints/" + id;
}

}  // namespace

Result<CheckpointInfo> Client::CreateCheckpoint(const std::string& model, const std::string& id,
                                                const CallOptions& call) {
  v1::CreateCheckpointRequest request;
  request.set_model(ResourceName(model));
  request.set_checkpoint_id(id);
  request.set_request_id(RequestId(call));
  v1::CreateCheckpointResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::CreateCheckpoint, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response.checkpoint());
}

Result<std::vector<CheckpointInfo>> Client::ListCheckpoints(const std::string& model,
                                                            const CallOptions& call) {
  v1::ListCheckpointsRequest request;
  request.set_model(ResourceName(model));
  std::vector<CheckpointInfo> all;
  for (;;) {
    v1::ListCheckpointsResponse response;
    Status status =
        impl_->Call(impl_->stub.get(), &Stub::ListCheckpoints, request, call, &response);
    if (!status.ok()) return status;
    for (const auto& checkpoint : response.checkpoints()) all.push_back(FromMessage(checkpoint));
    if (response.next_page_token().empty()) return all;
    request.set_page_token(response.next_page_token());
  }
}

Result<int64_t> Client::RestoreCheckpoint(const std::string& model, const std::string& id,
                                          std::optional<int64_t> expected_step,
                                          const CallOptions& call) {
  v1::RestoreCheckpointRequest request;
  request.set_name(CheckpointName(model, id));
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(RequestId(call));
  v1::RestoreCheckpointResponse response;
  Status status =
      impl_->Call(impl_->stub.get(), &Stub::RestoreCheckpoint, request, call, &response);
  if (!status.ok()) return status;
  return response.step();
}

Status Client::DeleteCheckpoint(const std::string& model, const std::string& id,
                                const CallOptions& call) {
  v1::DeleteCheckpointRequest request;
  request.set_name(CheckpointName(model, id));
  request.set_request_id(RequestId(call));
  v1::DeleteCheckpointResponse response;
  return impl_->Call(impl_->stub.get(), &Stub::DeleteCheckpoint, request, call, &response);
}

Result<DatasetInfo> Client::GetDataset(const std::string& id, const CallOptions& call) {
  v1::GetDatasetRequest request;
  request.set_name(DatasetName(id));
  v1::GetDatasetResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::GetDataset, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response.dataset());
}

Result<std::vector<DatasetInfo>> Client::ListDatasets(const CallOptions& call) {
  v1::ListDatasetsRequest request;
  std::vector<DatasetInfo> all;
  for (;;) {
    v1::ListDatasetsResponse response;
    Status status = impl_->Call(impl_->stub.get(), &Stub::ListDatasets, request, call, &response);
    if (!status.ok()) return status;
    for (const auto& dataset : response.datasets()) all.push_back(FromMessage(dataset));
    if (response.next_page_token().empty()) return all;
    request.set_page_token(response.next_page_token());
  }
}

Status Client::DeleteDataset(const std::string& id, const CallOptions& call) {
  v1::DeleteDatasetRequest request;
  request.set_name(DatasetName(id));
  request.set_request_id(RequestId(call));
  v1::DeleteDatasetResponse response;
  return impl_->Call(impl_->stub.get(), &Stub::DeleteDataset, request, call, &response);
}

namespace {

ProjectInfo FromProject(const v1::Project& message) {
  ProjectInfo project;
  project.name = message.name();
  project.weight = message.weight();
  for (const v1::QuotaUse& quota : message.quotas()) {
    QuotaUse& use = project.quotas.emplace_back();
    use.quota = quota.quota();
    if (quota.has_used()) use.used = quota.used();
    if (quota.has_limit()) use.limit = quota.limit();
  }
  return project;
}

}  // namespace

Result<ProjectInfo> Client::GetProject(const std::string& id, const CallOptions& call) {
  v1::GetProjectRequest request;
  request.set_name(ProjectName(id));
  v1::GetProjectResponse response;
  Status status = impl_->Call(impl_->admin.get(), &v1::AdminService::Stub::GetProject, request,
                              call, &response);
  if (!status.ok()) return status;
  return FromProject(response.project());
}

Result<std::vector<ProjectInfo>> Client::ListProjects(const CallOptions& call) {
  v1::ListProjectsRequest request;
  std::vector<ProjectInfo> all;
  for (;;) {
    v1::ListProjectsResponse response;
    Status status = impl_->Call(impl_->admin.get(), &v1::AdminService::Stub::ListProjects, request,
                                call, &response);
    if (!status.ok()) return status;
    for (const auto& project : response.projects()) all.push_back(FromProject(project));
    if (response.next_page_token().empty()) return all;
    request.set_page_token(response.next_page_token());
  }
}

}  // namespace backprop
