// RestoreBackup on a server that is not empty.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/store/memory_store.h"
#include "server/transfer/backup.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

grpc::Status CreateModel(TestServer* server) {
  v1::CreateModelRequest create;
  create.set_model_id("m");
  create.mutable_spec()->set_input_size(1);
  create.mutable_spec()->add_layers()->set_units(2);
  v1::CreateModelResponse model;
  grpc::ClientContext call;
  return server->stub->CreateModel(&call, create, &model);
}

// While `restoring` is set, all other calls are UNAVAILABLE.
TEST(RestoreTest, ARefusedRestoreDisturbsNoOtherCall) {
  store::MemoryStore store;
  TestServer server({}, "", 2, &store);
  const grpc::Status created = CreateModel(&server);
  ASSERT_TRUE(created.ok()) << created.error_message();
  std::atomic<bool> ended{false};
  std::atomic<int> seen{0};
  std::thread watch([&] {
    while (!ended) seen += server.environment.restoring ? 1 : 0;
  });
  const auto admin = v1::AdminService::NewStub(server.channel);
  for (int i = 0; i < 1000; ++i) {
    v1::RestoreBackupResponse response;
    grpc::ClientContext call;
    const auto writer = admin->RestoreBackup(&call, &response);
    v1::RestoreBackupRequest request;
    request.set_data("BPBACKU");
    writer->Write(request);
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << status.error_message();
  }
  ended = true;
  watch.join();
  EXPECT_EQ(seen, 0);
}

// Keeps what a `done` refers to until a function has returned that is called after it.
class LateStore final : public store::Store {
 public:
  explicit LateStore(std::function<void()> after) : after_(std::move(after)) {}
  void Commit(store::WriteBatch batch, store::Durability durability,
              std::shared_ptr<store::Chain> chain, Done done) override {
    kept_.Commit(std::move(batch), durability, std::move(chain),
                 [this, done = std::move(done)](const absl::Status& status) mutable {
                   done(status);
                   after_();
                 });
  }
  absl::StatusOr<std::optional<std::string>> Get(const store::Table& table,
                                                 absl::string_view key) override {
    return kept_.Get(table, key);
  }
  absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    return kept_.Scan(table, first, end, visit);
  }
  absl::StatusOr<std::unique_ptr<store::Snapshot>> TakeSnapshot() override {
    return kept_.TakeSnapshot();
  }
  absl::Status health() const override { return kept_.health(); }

 private:
  store::MemoryStore kept_;
  const std::function<void()> after_;
};

std::string BackupOfOneModel() {
  store::MemoryStore store;
  {
    TestServer server({}, "", 2, &store);
    EXPECT_TRUE(CreateModel(&server).ok());
  }
  auto reader = *transfer::BackupReader::Of(&store);
  std::string file;
  for (auto piece = *reader->Next(); piece.has_value(); piece = *reader->Next()) file += *piece;
  return file;
}

// The thread of the store that answers a commit may release the last reference to the call. It
// must not wait for a commit itself.
TEST(RestoreTest, AnAbandonedRestoreIsUndoneAlsoIfTheStoreReleasesItsCall) {
  std::function<void()> after;
  LateStore store([&after] {
    if (after) after();
  });
  TestServer server({}, "", 2, &store);
  after = [&server] { server.context.calls.WaitForNone(absl::Seconds(10)); };
  const std::string file = BackupOfOneModel();
  {
    v1::RestoreBackupResponse response;
    grpc::ClientContext call;
    const auto admin = v1::AdminService::NewStub(server.channel);
    const auto writer = admin->RestoreBackup(&call, &response);
    v1::RestoreBackupRequest request;
    request.set_data(file);
    ASSERT_TRUE(writer->Write(request));
    while (!server.environment.restoring) std::this_thread::yield();
    call.TryCancel();
    writer->Finish();
  }
  for (int tries = 0; server.environment.restoring; ++tries) {
    if (tries == 3000) {
      std::fprintf(stderr, "the thread of the store waits for itself, which cannot be ended\n");
      std::_Exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(CreateModel(&server).ok());
}

}  // namespace
}  // namespace backprop::rpc
