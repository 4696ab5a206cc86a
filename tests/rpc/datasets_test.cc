// Uploads as callers make them, and runs on datasets.
#include <gmock/gmock.h>
#include <zlib.h>

#include "tests/rpc/validation_fixture.h"

namespace backprop::rpc {
namespace {

class DatasetsTest : public ValidationTest {
 protected:
  // Sends messages written in JSON.
  grpc::Status Upload(const std::vector<std::string>& messages,
                      v1::UploadDatasetResponse* response = nullptr) {
    grpc::ClientContext call;
    v1::UploadDatasetResponse ignored;
    const auto writer = server->stub->UploadDataset(&call, response ? response : &ignored);
    for (const std::string& message : messages) {
      if (!writer->Write(Json<v1::UploadDatasetRequest>(message))) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }
  v1::Dataset GetDataset(const std::string& id) {
    v1::GetDatasetRequest request;
    request.set_name("datasets/" + id);
    v1::GetDatasetResponse response;
    const auto status = Call(&Stub::GetDataset, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.dataset();
  }
  bool Exists(const std::string& id) {
    v1::GetDatasetRequest request;
    request.set_name("datasets/" + id);
    v1::GetDatasetResponse response;
    return Call(&Stub::GetDataset, request, &response).ok();
  }

  // A run on datasets/d that ends only when it is stopped. It has begun when this returns.
  std::unique_ptr<grpc::ClientReader<v1::TrainResponse>> TrainForever(grpc::ClientContext* call) {
    auto run = server->stub->Train(
        call, Json<v1::TrainRequest>(R"({"model":"models/xor","dataset":"datasets/d",
                                         "config":{"iterations":"1000000000000"}})"));
    v1::TrainResponse response;
    EXPECT_TRUE(run->Read(&response));
    return run;
  }

  static std::string Header(const std::string& id, const std::string& more = "") {
    return R"({"header":{"datasetId":")" + id + R"(","requestId":"r")" + more + "}}";
  }
  static constexpr char kChunk[] =
      R"({"chunk":{"rows":{"inputs":{"shape":[4,2],"values":[0,0,0,1,1,0,1,1]},
                           "labels":{"values":[0,1,1,0]}}}})";
  static constexpr char kCommit[] = R"({"commit":{"rows":4}})";
  static std::string Chunk(const std::string& fields) { return R"({"chunk":{)" + fields + "}}"; }
};

TEST_F(DatasetsTest, IsWhatWasSent) {
  v1::UploadDatasetResponse response;
  const auto status = Upload({Header("d", R"(,"labels":{"k":"v"})"), kChunk, kCommit}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::Dataset& dataset = response.dataset();
  EXPECT_EQ(dataset.name(), "datasets/d");
  EXPECT_EQ(dataset.state(), v1::DATASET_STATE_READY);
  EXPECT_EQ(dataset.rows(), 4);
  EXPECT_EQ(dataset.input_size(), 2);
  EXPECT_EQ(dataset.target_size(), 0);
  EXPECT_EQ(dataset.data_type(), v1::DATA_TYPE_FLOAT32);
  EXPECT_EQ(dataset.labels().at("k"), "v");
  EXPECT_EQ(dataset.size_bytes(), 4 * (2 * 4 + 4));
  EXPECT_EQ(GetDataset("d").SerializeAsString(), dataset.SerializeAsString());
}

// A run on a dataset and a run on the same rows are equal to the last byte, and so are evaluations.
TEST_F(DatasetsTest, ARunByNameIsTheRunByValue) {
  ASSERT_TRUE(Upload({Header("d"), kChunk, kCommit}).ok());
  CreateModel("other", kXorSpec);
  const std::string config = R"(,"config":{"epochs":20,"batchSize":2})";
  std::vector<v1::TrainingEvent> by_name, by_value;
  auto status = Train(Json<v1::TrainRequest>(R"({"model":"models/xor","dataset":"datasets/d",
                                                "validationDataset":"datasets/d")" +
                                             config + "}"),
                      &by_name);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const std::string batch(kXorBatch);
  status = Train(Json<v1::TrainRequest>(R"({"model":"models/other","data":)" + batch +
                                        R"(,"validation":)" + batch + config + "}"),
                 &by_value);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(ParametersOf("xor"), ParametersOf("other"));
  EXPECT_EQ(by_name.back().summary().validation().loss(),
            by_value.back().summary().validation().loss());
  v1::EvaluateResponse a, b;
  ASSERT_TRUE(Call(&Stub::Evaluate,
                   Json<v1::EvaluateRequest>(R"({"model":"models/xor","dataset":"datasets/d"})"),
                   &a)
                  .ok());
  ASSERT_TRUE(Call(&Stub::Evaluate,
                   Json<v1::EvaluateRequest>(R"({"model":"models/other","data":)" + batch + "}"),
                   &b)
                  .ok());
  EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
}

TEST_F(DatasetsTest, AnUploadThatBrokeGoesOn) {
  grpc::ClientContext cut;
  v1::UploadDatasetResponse never;
  const auto writer = server->stub->UploadDataset(&cut, &never);
  writer->Write(Json<v1::UploadDatasetRequest>(Header("d")));
  writer->Write(Json<v1::UploadDatasetRequest>(kChunk));
  for (int i = 0; i < 1000 && (!Exists("d") || GetDataset("d").rows() < 4); ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  cut.TryCancel();
  EXPECT_EQ(writer->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_EQ(GetDataset("d").state(), v1::DATASET_STATE_UPLOADING);
  const std::string more = Chunk(
      R"("firstRow":4,"rows":{"inputs":{"shape":[1,2],"values":[5,5]},"labels":{"values":[1]}})");
  v1::UploadDatasetResponse response;
  ASSERT_TRUE(Upload({Header("d"), kChunk, more, R"({"commit":{"rows":5}})"}, &response).ok());
  EXPECT_EQ(response.dataset().rows(), 5);
  // A retry of the whole upload gets the same response.
  ASSERT_TRUE(Upload({Header("d"), kChunk, more, R"({"commit":{"rows":5}})"}, &response).ok());
  EXPECT_EQ(response.dataset().rows(), 5);
}

TEST_F(DatasetsTest, NamesOfClassesAreThoseOfTheModel) {
  const std::string chunk = Chunk(
      R"("rows":{"inputs":{"shape":[3,2],"values":[0,0,1,1,2,2]},"labelNames":["owl","cat","owl"]})");
  ASSERT_TRUE(Upload({Header("d"), chunk, R"({"commit":{"rows":3}})"}).ok());
  EXPECT_EQ(GetDataset("d").class_names(0), "owl");
  v1::EvaluateResponse by_name, by_value;
  ASSERT_TRUE(Call(&Stub::Evaluate,
                   Json<v1::EvaluateRequest>(R"({"model":"models/named","dataset":"datasets/d"})"),
                   &by_name)
                  .ok());
  ASSERT_TRUE(Call(&Stub::Evaluate, Json<v1::EvaluateRequest>(R"({"model":"models/named","data":
      {"inputs":{"values":[0,0,1,1,2,2]},"labelNames":["owl","cat","owl"]}})"),
                   &by_value)
                  .ok());
  EXPECT_EQ(by_name.SerializeAsString(), by_value.SerializeAsString());
  const auto refused =
      Call(&Stub::Evaluate,
           Json<v1::EvaluateRequest>(R"({"model":"models/xor","dataset":"datasets/d"})"), &by_name);
  EXPECT_EQ(refused.error_message(),
            "dataset: the model has no class \"owl\", but datasets/d has it");
}

TEST_F(DatasetsTest, AChecksumIsOfTheRowsAsTheyAreKept) {
  const float inputs[] = {0, 0, 0, 1, 1, 0, 1, 1};
  const int32_t classes[] = {0, 1, 1, 0};
  uLong crc = crc32(0, reinterpret_cast<const Bytef*>(inputs), sizeof inputs);
  crc = crc32(crc, reinterpret_cast<const Bytef*>(classes), sizeof classes);
  auto with = [&](uLong sum) {
    auto request = Json<v1::UploadDatasetRequest>(kChunk);
    request.mutable_chunk()->set_crc32(static_cast<uint32_t>(sum));
    std::string json;
    EXPECT_TRUE(google::protobuf::util::MessageToJsonString(request, &json).ok());
    return json;
  };
  const auto refused = Upload({Header("bad"), with(crc ^ 1), kCommit});
  EXPECT_EQ(Violations(refused)[0].field(), "chunk.crc32");
  EXPECT_FALSE(Exists("bad"));
  EXPECT_TRUE(Upload({Header("good"), with(crc), kCommit}).ok());
}

// Each rule; afterwards nothing of the upload is left.
TEST_F(DatasetsTest, ChunksAreChecked) {
  const std::string inputs = R"("inputs":{"shape":[1,2],"values":[1,2]})";
  const std::string labels = R"("labels":{"values":[1]})";
  const auto rows = [](const std::string& fields) { return Chunk(R"("rows":{)" + fields + "}"); };
  const std::string first = rows(inputs + "," + labels);
  const auto next = [](const std::string& fields) {
    return Chunk(R"("firstRow":1,"rows":{)" + fields + "}");
  };
  struct Case {
    std::vector<std::string> chunks;
    std::string message;
  };
  const std::vector<Case> cases{
      {{rows(R"("inputs":{"values":[1,2]},)" + labels)},
       "chunk.rows.inputs.shape: expected 2 dimensions, got 0"},
      {{rows(R"("inputs":{"shape":[1,2],"values":[1]},)" + labels)},
       "chunk.rows.inputs.values: expected 2 values for shape [1, 2], got 1"},
      {{rows(R"("inputs":{"shape":[1,2],"values":[1,"NaN"]},)" + labels)},
       "chunk.rows.inputs[0][1]: must be finite, got nan"},
      {{rows(R"("inputs":{"shape":[1,1001],"values":[1]},)" + labels)},
       "chunk.rows.inputs.shape[1]: must be in [1, 1000], got 1001"},
      {{rows(inputs)}, "chunk.rows: expected one of labels, label_names and targets, got none"},
      {{rows(inputs + "," + labels + R"(,"labelNames":["a"])")},
       "chunk.rows: expected one of labels, label_names and targets, got several"},
      {{rows(inputs + R"(,"labels":{"values":[-1]})")},
       "chunk.rows.labels[0]: must be a class index in [0, 2147483647), got -1"},
      {{rows(inputs + R"(,"labelNames":["a","b"])")},
       "chunk.rows.label_names: expected 1 names, got 2"},
      {{rows(inputs + R"(,"labelNames":[""])")},
       "chunk.rows.label_names[0]: must have 1 to 255 bytes, got 0"},
      {{rows(inputs + "," + labels + R"(,"sampleWeights":{"values":[-1]})")},
       "chunk.rows.sample_weights[0]: must be at least 0, got -1"},
      {{Chunk(R"("firstRow":-1,"rows":{)" + inputs + "," + labels + "}")},
       "chunk.first_row: must be at least 0, got -1"},
      {{first, next(R"("inputs":{"shape":[1,3],"values":[1,2,3]},)" + labels)},
       "chunk.rows.inputs.shape[1]: expected 2 columns as in the first chunk, got 3"},
      {{first, next(inputs + R"(,"targets":{"shape":[1,1],"values":[1]})")},
       "chunk.rows: expected 0 targets per row as in the first chunk, got 1"},
      {{first, next(inputs + R"(,"labelNames":["a"])")},
       "chunk.rows: expected labels as in the first chunk, got label_names"},
      {{first, next(inputs + "," + labels + R"(,"sampleWeights":{"values":[1]})")},
       "chunk.rows.sample_weights: must not be set, because the first chunk has none"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    std::vector<std::string> messages{Header("d")};
    messages.insert(messages.end(), c.chunks.begin(), c.chunks.end());
    const auto status = Upload(messages);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), c.message);
    EXPECT_FALSE(Exists("d"));
  }
  // More rows than a message may contain.
  std::string many =
      R"("inputs":{"shape":[9,1],"values":[1,1,1,1,1,1,1,1,1]},"labels":{"values":[0,0,0,0,0,0,0,0,0]})";
  EXPECT_EQ(Upload({Header("d"), rows(many)}).error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(DatasetsTest, TheOrderOfMessagesIsChecked) {
  const auto message = [&](const std::vector<std::string>& messages) {
    return Upload(messages).error_message();
  };
  EXPECT_EQ(message({kChunk}), "header: is required in the first message");
  EXPECT_EQ(message({}), "header: is required");
  EXPECT_EQ(message({Header("d"), Header("d")}), "header: is allowed only in the first message");
  EXPECT_EQ(message({Header("d"), "{}"}), "part: expected header, chunk or commit, got none");
  EXPECT_EQ(message({Header("d"), kChunk, kCommit, kChunk}), "part: must not follow the commit");
  EXPECT_EQ(message({R"({"header":{"datasetId":"D","dataType":"DATA_TYPE_INT32"}})"}),
            "header.dataset_id: expected 1 to 63 characters of [a-z0-9_-], starting with a letter "
            "or digit, got "
            "\"D\"; header.request_id: is required; header.data_type: expected FLOAT32 or FLOAT64, "
            "got 3");
  EXPECT_EQ(message({Header("e"), kChunk, R"({"commit":{"rows":5}})"}),
            "commit.rows: expected 4, the number of received rows, got 5");
  const auto gap = Upload(
      {Header("f"),
       Chunk(
           R"("firstRow":1,"rows":{"inputs":{"shape":[1,2],"values":[1,2]},"labels":{"values":[1]}})")});
  EXPECT_EQ(gap.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Info(gap).reason(), "ROWS_MISSING");
  EXPECT_EQ(Info(gap).metadata().at("expected_row"), "0");
  const std::string zero = Chunk(
      R"("rows":{"inputs":{"shape":[1,2],"values":[1,2]},"labels":{"values":[1]},"sampleWeights":{"values":[0]}})");
  EXPECT_EQ(message({Header("g"), zero, R"({"commit":{"rows":1}})"}),
            "chunk.rows.sample_weights: must not all be 0");
}

TEST_F(DatasetsTest, WhatDoesNotFitTheModelIsRefused) {
  ASSERT_TRUE(Upload({Header("d"), kChunk, kCommit}).ok());
  const auto train = [&](const std::string& fields) {
    std::vector<v1::TrainingEvent> events;
    return Train(Json<v1::TrainRequest>(R"({"config":{"iterations":1},)" + fields + "}"), &events)
        .error_message();
  };
  EXPECT_EQ(train(R"("model":"models/line","dataset":"datasets/d")"),
            "dataset: expected 1 inputs per row, but datasets/d has 2");
  EXPECT_EQ(train(R"("model":"models/multi","dataset":"datasets/d")"),
            "dataset: the model takes targets, but datasets/d has classes");
  EXPECT_EQ(train(R"("model":"models/xor","dataset":"d")"),
            "dataset: expected datasets/{id}, got \"d\"");
  EXPECT_EQ(train(R"("model":"models/xor","dataset":"datasets/none")"),
            "datasets/none: no such dataset");
  EXPECT_EQ(
      train(R"("model":"models/xor","dataset":"datasets/d","data":)" + std::string(kXorBatch)),
      "dataset: must not be set, because data is given");
  EXPECT_EQ(train(R"("model":"models/xor")"), "data.inputs: expected values or raw, got neither");
  EXPECT_EQ(
      train(R"("model":"models/xor","dataset":"datasets/d","validationDataset":"datasets/none")"),
      "datasets/none: no such dataset");
}

TEST_F(DatasetsTest, NamesOfFeaturesAreThoseOfTheModel) {
  const auto names = [](const std::string& list) { return R"(,"featureNames":[)" + list + "]"; };
  ASSERT_TRUE(Upload({Header("same", names(R"("width","height")")), kChunk, kCommit}).ok());
  ASSERT_TRUE(Upload({Header("swapped", names(R"("height","width")")), kChunk, kCommit}).ok());
  ASSERT_TRUE(Upload({Header("unnamed"), kChunk, kCommit}).ok());
  EXPECT_EQ(GetDataset("swapped").feature_names(0), "height");
  const auto evaluate = [&](const std::string& model, const std::string& id) {
    v1::EvaluateRequest request;
    request.set_model("models/" + model);
    request.set_dataset("datasets/" + id);
    v1::EvaluateResponse response;
    return Call(&Stub::Evaluate, request, &response).error_message();
  };
  const std::string refusal =
      R"(dataset: expected the model's feature "width" in column 0, but datasets/swapped has "height")";
  EXPECT_EQ(evaluate("named", "same"), "");
  EXPECT_EQ(evaluate("named", "unnamed"), "");
  EXPECT_EQ(evaluate("named", "swapped"), refusal);
  EXPECT_EQ(evaluate("xor", "swapped"), "");  // it does not name its features
  std::vector<v1::TrainingEvent> events;
  const auto trained =
      Train(Json<v1::TrainRequest>(R"({"config":{"iterations":1},"model":"models/named",
                                       "dataset":"datasets/swapped"})"),
            &events);
  EXPECT_EQ(trained.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(trained.error_message(), refusal);

  EXPECT_EQ(Upload({Header("x", names(R"("a","a","")")), kChunk, kCommit}).error_message(),
            "header.feature_names[1]: must be unique, got \"a\" twice; header.feature_names[2]: "
            "must not be empty");
  EXPECT_EQ(Upload({Header("x", names(R"("a")")), kChunk, kCommit}).error_message(),
            "chunk.rows.inputs.shape[1]: expected 1 columns, one per name in header.feature_names, "
            "got 2");
  std::string many = R"("0")";
  for (int i = 1; i < 65537; ++i) many += R"(,")" + std::to_string(i) + R"(")";
  EXPECT_EQ(Upload({Header("x", names(many))}).error_message(),
            "header.feature_names: must have at most 65536 names, got 65537");
  std::string large = R"("0")";
  for (int i = 1; i < 4200; ++i) {
    large += R"(,")" + std::string(250, 'x') + std::to_string(i) + R"(")";
  }
  EXPECT_THAT(
      Upload({Header("x", names(large))}).error_message(),
      testing::StartsWith("header.feature_names: must have at most 1048576 bytes in total"));
  EXPECT_FALSE(Exists("x"));
  // Another description is not the same upload.
  EXPECT_EQ(Upload({Header("same"), kChunk, kCommit}).error_code(), StatusCode::ALREADY_EXISTS);
}

// A caller that cancels its run and deletes the dataset at once is a little ahead of both.
TEST_F(DatasetsTest, IsDeletedRightAfterItsRunIsCancelled) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Upload({Header("d"), kChunk, kCommit}).ok());
    grpc::ClientContext call;
    const auto run = TrainForever(&call);
    call.TryCancel();
    v1::DeleteDatasetResponse deleted;
    const auto status = Call(&Stub::DeleteDataset,
                             Json<v1::DeleteDatasetRequest>(R"({"name":"datasets/d"})"), &deleted);
    ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
    run->Finish();
  }
}

// The deletion waits for a run that ends, but not for one that continues.
TEST_F(DatasetsTest, IsNotDeletedUnderARun) {
  ASSERT_TRUE(Upload({Header("d"), kChunk, kCommit}).ok());
  grpc::ClientContext call;
  const auto run = TrainForever(&call);
  v1::DeleteDatasetResponse deleted;
  const auto status = Call(&Stub::DeleteDataset,
                           Json<v1::DeleteDatasetRequest>(R"({"name":"datasets/d"})"), &deleted);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Info(status).reason(), "DATASET_IN_USE");
  EXPECT_TRUE(Exists("d"));
  call.TryCancel();
  run->Finish();
}

TEST_F(DatasetsTest, ListsPagesAndDeletes) {
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(Upload({Header(id), kChunk, kCommit}).ok());
  v1::ListDatasetsResponse list;
  ASSERT_TRUE(
      Call(&Stub::ListDatasets, Json<v1::ListDatasetsRequest>(R"({"pageSize":2})"), &list).ok());
  ASSERT_EQ(list.datasets_size(), 2);
  EXPECT_EQ(list.next_page_token(), "b");
  ASSERT_TRUE(
      Call(&Stub::ListDatasets, Json<v1::ListDatasetsRequest>(R"({"pageToken":"b"})"), &list).ok());
  ASSERT_EQ(list.datasets_size(), 1);
  EXPECT_EQ(list.datasets(0).name(), "datasets/c");
  Check(&Stub::DeleteDataset,
        std::vector<Rule>{
            {R"({"name":"datasets/a","requestId":"k"})", StatusCode::OK, ""},
            {R"({"name":"datasets/a","requestId":"k"})", StatusCode::OK, ""},
            {R"({"name":"datasets/a"})", StatusCode::NOT_FOUND, "datasets/a: no such dataset"},
            {R"({"name":"a"})", StatusCode::INVALID_ARGUMENT,
             "name: expected datasets/{id}, got \"a\""},
        });
}

}  // namespace
}  // namespace backprop::rpc
