// A server with models, a dataset, checkpoints and runs, for harnesses that need one.
#ifndef BACKPROP_TESTS_FUZZ_WORLD_H_
#define BACKPROP_TESTS_FUZZ_WORLD_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "backprop/v1/training_service.grpc.pb.h"
#include "server/store/memory_store.h"
#include "tests/fuzz/program.h"
#include "tests/rpc/test_server.h"

namespace backprop::fuzz {

// Holds models m (a classifier), r (a regression) and t (like m), and dataset d with rows for m and
// t, with small limits (networks.h). Its store is in memory.
class World {
 public:
  explicit World(const std::string& unix_socket = "");
  ~World();

  // Lets expire what earlier requests left to be remembered.
  void ForgetRequests();
  // Whether the store has other records than after the last Reset().
  bool Changed();
  // Deletes everything and creates the models and the dataset again. Forgets requests.
  void Reset();

  rpc::TestServer* server() { return server_.get(); }
  store::MemoryStore* store() { return &store_; }
  // In the same process.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  v1::TrainingService::Stub* stub() { return stub_.get(); }
  // Names of all models.
  std::vector<std::string> Models();
  // Ends the process unless the call succeeds.
  v1::Model GetModel(const std::string& name);

 private:
  void DeleteModel(const std::string& name);
  void DeleteDatasets();
  void Create(const char* id, const char* spec);
  void Upload();
  std::string Records();

  store::MemoryStore store_;
  std::unique_ptr<rpc::TestServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::TrainingService::Stub> stub_;
  std::string untouched_;  // all records after the last Reset()
};

// Four rows for m and t, and for r, as JSON of a Batch.
inline constexpr char kClassRows[] =
    R"({"inputs":{"values":[0,0,0,1,1,0,1,1]},"labels":{"values":[0,1,1,0]}})";
inline constexpr char kTargetRows[] =
    R"({"inputs":{"shape":[4,3],"values":[0,0,1,0,1,2,1,0,3,1,1,4]},)"
    R"("targets":{"shape":[4,2],"values":[0,1,1,0,1,2,0,3]}})";

// The records that a server has stored after every kind of change, with a run under way
// (record_kinds.h).
Program RecordsOfAServer();
// The file of ExportModel, and that of CreateBackup, of such a server.
std::string ExportedModel(const std::string& name);
std::string BackupOfAServer();

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_WORLD_H_
