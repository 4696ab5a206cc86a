// RestoreBackup on a server that is not empty.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/store/memory_store.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

// While `restoring` is set, all other calls are UNAVAILABLE.
TEST(RestoreTest, ARefusedRestoreDisturbsNoOtherCall) {
  store::MemoryStore store;
  TestServer server({}, "", 2, &store);
  v1::CreateModelRequest create;
  create.set_model_id("m");
  create.mutable_spec()->set_input_size(1);
  create.mutable_spec()->add_layers()->set_units(2);
  {
    v1::CreateModelResponse model;
    grpc::ClientContext call;
    const grpc::Status created = server.stub->CreateModel(&call, create, &model);
    ASSERT_TRUE(created.ok()) << created.error_message();
  }
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

}  // namespace
}  // namespace backprop::rpc
