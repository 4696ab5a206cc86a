#include "tests/fuzz/world.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/records/keys.h"
#include "server/records/tables.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/record_kinds.h"

namespace backprop::fuzz {
namespace {

using Stub = v1::TrainingService::Stub;

// Calls a unary RPC, which must succeed.
template <class Request, class Response>
Response Call(Stub* stub,
              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request) {
  grpc::ClientContext call;
  Response response;
  const grpc::Status status = (stub->*method)(&call, request, &response);
  BP_HOLDS(status.ok(), status.error_code(), " ", status.error_message());
  return response;
}

v1::CreateModelRequest Creation(const char* id, const char* spec) {
  v1::CreateModelRequest create;
  create.set_model_id(id);
  *create.mutable_spec() = FromJson<v1::ModelSpec>(spec);
  return create;
}

// The bytes of a file that a call streams.
template <class Response>
std::string ReadFile(grpc::ClientReader<Response>* reader) {
  std::string file;
  Response response;
  while (reader->Read(&response)) file += response.data();
  const grpc::Status status = reader->Finish();
  BP_HOLDS(status.ok(), status.error_message());
  return file;
}

// A server that has stored every kind of record.
class FullWorld : public World {
 public:
  FullWorld() {
    Steps();
    RunToItsEnd();
    Checkpoint();
    RunOnAndOn();
  }

 private:
  void Steps() {
    for (int i = 0; i < 3; ++i) {
      auto step = FromJson<v1::StepRequest>(R"({"model":"models/m","batch":)" +
                                            std::string(kClassRows) + "}");
      step.set_request_id(absl::StrCat("request-", i));
      Call(stub(), &Stub::Step, step);
    }
    v1::ApplyGradientsRequest apply;
    apply.set_model("models/m");
    v1::ComputeGradientsRequest compute;
    compute.set_model("models/m");
    *compute.mutable_batch() = FromJson<v1::Batch>(kClassRows);
    const auto computed = Call(stub(), &Stub::ComputeGradients, compute);
    *apply.mutable_gradients() = computed.gradients();
    Call(stub(), &Stub::ApplyGradients, apply);
  }
  void RunToItsEnd() {
    const auto train = FromJson<v1::TrainRequest>(
        R"({"model":"models/r","requestId":"train-1","config":{"epochs":"4","batchSize":3,
            "validationSplit":0.25,"earlyStopping":{"patience":"2"},
            "checkpoints":{"everyIterations":"2","keepBest":true}},"data":)" +
        std::string(kTargetRows) + "}");
    grpc::ClientContext call;
    const auto reader = stub()->Train(&call, train);
    v1::TrainResponse event;
    while (reader->Read(&event)) {
    }
    const grpc::Status status = reader->Finish();
    BP_HOLDS(status.ok(), status.error_message());
  }
  void Checkpoint() {
    v1::CreateCheckpointRequest create;
    create.set_model("models/m");
    create.set_checkpoint_id("c");
    create.set_request_id("checkpoint-1");
    Call(stub(), &Stub::CreateCheckpoint, create);
  }
  // Trains t until a mark of the run is stored.
  void RunOnAndOn() {
    const auto train = FromJson<v1::TrainRequest>(
        R"({"model":"models/t","detach":true,"requestId":"train-2","dataset":"datasets/d",
            "config":{"iterations":"1000000000","batchSize":2,"shuffle":true,
            "validationSplit":0.25,"earlyStopping":{"patience":"1000000"}}})");
    grpc::ClientContext call;
    const auto reader = stub()->Train(&call, train);
    v1::TrainResponse event;
    BP_HOLDS(reader->Read(&event));
    for (int tries = 0; !HasMark(); ++tries) {
      BP_HOLDS(tries < 1000, "the run is not marked");
      server()->clock.Advance(absl::Seconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    call.TryCancel();
    while (reader->Read(&event)) {
    }
    (void)reader->Finish();
  }
  bool HasMark() {
    const std::string prefix(1, static_cast<char>(records::RunPart::kMark));
    bool found = false;
    const auto status = store()->Scan(records::kRuns, prefix, store::EndOfPrefix(prefix),
                                      [&](absl::string_view, absl::string_view) {
                                        found = true;
                                        return false;
                                      });
    return status.ok() && found;
  }
};

}  // namespace

World::World(const std::string& unix_socket) {
  server_ = std::make_unique<rpc::TestServer>(SmallLimits(), unix_socket, 2, &store_);
  channel_ = server_->server->InProcessChannel();
  stub_ = v1::TrainingService::NewStub(channel_);
  Reset();
}

World::~World() {
  stub_.reset();
  channel_.reset();
  server_.reset();
}

void World::ForgetRequests() {
  server_->clock.Advance(std::max(base::kRequestWindowAge, base::kUploadAge) + absl::Minutes(1));
}

std::string World::Records() {
  std::string all;
  for (const store::Table* table : records::kTables) {
    const auto status =
        store_.Scan(*table, "", "", [&](absl::string_view key, absl::string_view value) {
          absl::StrAppend(&all, table->number, ":", key.size(), ":", key, value.size(), ":", value);
          return true;
        });
    BP_HOLDS(status.ok(), status.ToString());
  }
  return all;
}

bool World::Changed() { return Records() != untouched_; }

void World::Reset() {
  ForgetRequests();
  for (const std::string& name : Models()) DeleteModel(name);
  DeleteDatasets();
  Create("m", kSpecs[0]);
  Create("r", kSpecs[1]);
  Create("t", kSpecs[0]);
  Upload();
  untouched_ = Records();
}

// A restore that failed is undone after its call has ended.
std::vector<std::string> World::Models() {
  grpc::Status status;
  v1::ListModelsResponse response;
  for (int tries = 0; tries < 20'000; ++tries) {  // at least 20 seconds
    grpc::ClientContext call;
    status = stub_->ListModels(&call, v1::ListModelsRequest(), &response);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  BP_HOLDS(status.ok(), status.error_code(), " ", status.error_message());
  std::vector<std::string> names;
  for (const v1::Model& model : response.models()) names.push_back(model.name());
  return names;
}

v1::Model World::GetModel(const std::string& name) {
  v1::GetModelRequest get;
  get.set_name(name);
  return Call(stub_.get(), &Stub::GetModel, get).model();
}

void World::DeleteModel(const std::string& name) {
  v1::DeleteModelRequest request;
  request.set_name(name);
  Call(stub_.get(), &Stub::DeleteModel, request);
}

// A run that was stopped may use a dataset for a moment.
void World::DeleteDatasets() {
  server_->datasets.ExpireUploads();
  const auto datasets = Call(stub_.get(), &Stub::ListDatasets, v1::ListDatasetsRequest());
  for (const v1::Dataset& dataset : datasets.datasets()) {
    v1::DeleteDatasetRequest request;
    request.set_name(dataset.name());
    grpc::Status status;
    for (int tries = 0; tries < 20; ++tries) {
      grpc::ClientContext call;
      v1::DeleteDatasetResponse response;
      status = stub_->DeleteDataset(&call, request, &response);
      if (status.error_code() != grpc::StatusCode::FAILED_PRECONDITION) break;
    }
    // The expiry above may end only now.
    const bool gone = status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND;
    BP_HOLDS(gone, status.error_code(), " ", status.error_message());
  }
}

void World::Create(const char* id, const char* spec) {
  Call(stub_.get(), &Stub::CreateModel, Creation(id, spec));
}

void World::Upload() {
  grpc::ClientContext call;
  v1::UploadDatasetResponse response;
  const auto writer = stub_->UploadDataset(&call, &response);
  v1::UploadDatasetRequest part;
  part.mutable_header()->set_dataset_id("d");
  part.mutable_header()->set_request_id("upload-d");
  bool written = writer->Write(part);
  v1::Batch* const rows = part.mutable_chunk()->mutable_rows();
  *rows = FromJson<v1::Batch>(kClassRows);
  rows->mutable_inputs()->add_shape(4);
  rows->mutable_inputs()->add_shape(2);
  written = written && writer->Write(part);
  part.mutable_commit()->set_rows(4);
  written = written && writer->Write(part);
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  BP_HOLDS(written && status.ok(), status.error_message());
}

Program RecordsOfAServer() { return ProgramOf(FullWorld().store()); }

std::string ExportedModel(const std::string& name) {
  FullWorld world;
  v1::ExportModelRequest request;
  request.set_model(name);
  grpc::ClientContext call;
  return ReadFile(world.stub()->ExportModel(&call, request).get());
}

std::string BackupOfAServer() {
  FullWorld world;
  const auto stub = v1::AdminService::NewStub(world.channel());
  grpc::ClientContext call;
  return ReadFile(stub->CreateBackup(&call, v1::CreateBackupRequest()).get());
}

}  // namespace backprop::fuzz
