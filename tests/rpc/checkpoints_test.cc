// Checkpoints through the API: rules, pages, and the checkpoints of a run.
#include "tests/rpc/validation_fixture.h"

namespace backprop::rpc {
namespace {

class CheckpointsTest : public ValidationTest {
 protected:
  grpc::Status Keep(const std::string& id, v1::CreateCheckpointResponse* response) {
    v1::CreateCheckpointRequest request;
    request.set_model("models/xor");
    request.set_checkpoint_id(id);
    return Call(&Stub::CreateCheckpoint, request, response);
  }
};

TEST_F(CheckpointsTest, Rules) {
  changes_ = true;
  const auto bad = StatusCode::INVALID_ARGUMENT;
  const std::string id =
      "checkpoint_id: expected 1 to 63 characters of [a-z0-9_-], starting with a letter or digit "
      "but not with "
      "run-, got ";
  const std::string long_id(64, 'a');
  Check(&Stub::CreateCheckpoint,
        std::vector<Rule>{
            {R"({"model":"models/xor","checkpointId":"a"})", StatusCode::OK, ""},
            {R"({"model":"models/xor","checkpointId":")" + long_id.substr(1) + R"("})",
             StatusCode::OK, ""},
            {R"({"model":"models/xor"})", bad, id + R"("")"},
            {R"({"model":"models/xor","checkpointId":"run-1"})", bad, id + R"("run-1")"},
            {R"({"model":"models/xor","checkpointId":")" + long_id + R"("})", bad,
             id + "\"" + long_id + "\""},
            {R"({"model":"xor","checkpointId":"b"})", bad,
             R"(model: expected models/{id}, got "xor")"},
            {R"({"model":"models/xor","checkpointId":"a"})", StatusCode::ALREADY_EXISTS,
             "models/xor/checkpoints/a: already exists"},
            {R"({"model":"models/none","checkpointId":"a"})", StatusCode::NOT_FOUND,
             "models/none: no such model"},
        });
  const std::string name = "name: expected models/{id}/checkpoints/{id}, got ";
  const std::vector<Rule> names{
      {R"({"name":"models/xor"})", bad, name + R"("models/xor")"},
      {R"({"name":"models/xor/checkpoints/"})", bad, name + R"("models/xor/checkpoints/")"},
      {R"({"name":"models/xor/checkpoints/a/b"})", bad, name + R"("models/xor/checkpoints/a/b")"},
      {R"({"name":"models/xor/checkpoints/none"})", StatusCode::NOT_FOUND,
       "models/xor/checkpoints/none: no such checkpoint"},
      {R"({"name":"models/none/checkpoints/a"})", StatusCode::NOT_FOUND,
       "models/none: no such model"},
      {R"({"name":"models/xor/checkpoints/a"})", StatusCode::OK, ""},
  };
  Check(&Stub::RestoreCheckpoint, names);
  Check(&Stub::RestoreCheckpoint,
        std::vector<Rule>{{R"({"name":"models/xor/checkpoints/a","expectedStep":1})",
                           StatusCode::ABORTED,
                           "expected_step: expected 1, but the model is at step 0"}});
  Check(&Stub::DeleteCheckpoint, names);
  Check(&Stub::ListCheckpoints,
        std::vector<Rule>{
            {R"({"model":"models/xor","pageSize":1000})", StatusCode::OK, ""},
            {R"({"model":"models/xor","pageSize":1001})", bad,
             "page_size: must be in [0, 1000], got 1001"},
            {R"({"model":"models/xor","pageToken":"!"})", bad,
             "page_token: must be a next_page_token of ListCheckpoints, got \"!\""},
        });
}

TEST_F(CheckpointsTest, RulesOfARunsOwn) {
  const std::string begin = R"({"model":"models/xor","data":)" + std::string(kXorBatch) +
                            R"(,"config":{"iterations":2,"checkpoints":)";
  const auto refused = [&](const std::string& checkpoints) {
    std::vector<v1::TrainingEvent> events;
    return Train(Json<v1::TrainRequest>(begin + checkpoints + "}}"), &events).error_message();
  };
  EXPECT_EQ(refused("{}"),
            "config.checkpoints: expected every_iterations or keep_best, got neither");
  EXPECT_EQ(refused(R"({"everyIterations":0})"),
            "config.checkpoints.every_iterations: must be at least 1, got 0");
  EXPECT_EQ(refused(R"({"everyIterations":1,"keepLast":51})"),
            "config.checkpoints.keep_last: must be in [1, 50], got 51");
  EXPECT_EQ(refused(R"({"everyIterations":1,"keepLast":0})"),
            "config.checkpoints.keep_last: must be in [1, 50], got 0");
  EXPECT_EQ(refused(R"({"keepBest":true,"keepLast":1})"),
            "config.checkpoints.keep_last: requires every_iterations");
  EXPECT_EQ(refused(R"({"everyIterations":1,"keepLast":50,"keepBest":true})"), "");
  v1::ListCheckpointsResponse list;
  ASSERT_TRUE(Call(&Stub::ListCheckpoints,
                   Json<v1::ListCheckpointsRequest>(R"({"model":"models/xor","pageSize":2})"),
                   &list)
                  .ok());
  ASSERT_EQ(list.checkpoints_size(), 2);
  EXPECT_EQ(list.checkpoints(0).name(), "models/xor/checkpoints/run-1-best");
  EXPECT_TRUE(list.checkpoints(0).best());
  EXPECT_EQ(list.checkpoints(1).name(), "models/xor/checkpoints/run-1-iteration-1");
  EXPECT_EQ(list.checkpoints(1).run(), "models/xor/runs/1");
  EXPECT_EQ(list.checkpoints(1).iteration(), 1);
  EXPECT_EQ(list.checkpoints(1).metrics().rows(), 4);
  v1::ListCheckpointsRequest next;
  next.set_model("models/xor");
  next.set_page_token(list.next_page_token());
  ASSERT_TRUE(Call(&Stub::ListCheckpoints, next, &list).ok());
  ASSERT_EQ(list.checkpoints_size(), 1);
  EXPECT_EQ(list.checkpoints(0).name(), "models/xor/checkpoints/run-1-iteration-2");
  EXPECT_EQ(list.next_page_token(), "");
}

TEST_F(CheckpointsTest, ARestoredModelIsTheSameToTheLastByte) {
  v1::CreateCheckpointResponse kept;
  ASSERT_TRUE(Keep("a", &kept).ok());
  EXPECT_EQ(kept.checkpoint().name(), "models/xor/checkpoints/a");
  EXPECT_GT(kept.checkpoint().size_bytes(), 42 * 4);
  EXPECT_TRUE(kept.checkpoint().has_create_time());
  const std::string before = ParametersOf("xor");
  v1::StepResponse step;
  ASSERT_TRUE(Call(&Stub::Step, Json<v1::StepRequest>(StepOn("xor", kXorBatch)), &step).ok());
  EXPECT_NE(ParametersOf("xor"), before);
  v1::RestoreCheckpointRequest restore;
  restore.set_name("models/xor/checkpoints/a");
  restore.set_expected_step(1);
  v1::RestoreCheckpointResponse restored;
  ASSERT_TRUE(Call(&Stub::RestoreCheckpoint, restore, &restored).ok());
  EXPECT_EQ(restored.step(), 0);
  EXPECT_EQ(ParametersOf("xor"), before);
}

}  // namespace
}  // namespace backprop::rpc
