#include <atomic>
#include <thread>

#include "tests/bench/rpc_bench.h"

namespace backprop::bench {
namespace {

constexpr char kLimit[] = "the limit";

v1::PredictRequest RowsFor(const std::string& model, int rows, int inputs) {
  v1::PredictRequest request;
  request.set_model("models/" + model);
  *request.mutable_inputs() = BatchOf(rows, inputs, 2).inputs();
  return request;
}

double PredictMicroseconds(const Connection& connection, const v1::PredictRequest& request) {
  grpc::ClientContext context;
  v1::PredictResponse response;
  return 1e6 * Seconds([&] {
           Check(connection.training->Predict(&context, request, &response), "Predict");
         });
}

// Runs that continue until this object is destroyed.
class Runs {
 public:
  Runs(const Connection* connection, const std::vector<std::string>& models, int rows, int inputs)
      : connection_(connection), models_(models) {
    for (const std::string& model : models) {
      threads_.emplace_back([this, model, rows, inputs] {
        v1::TrainRequest request;
        request.set_model("models/" + model);
        *request.mutable_data() = BatchOf(rows, inputs, 2);
        request.mutable_config()->set_iterations(1'000'000'000);
        request.mutable_config()->set_report_every(1'000'000'000);
        grpc::ClientContext context;
        const auto stream = connection_->training->Train(&context, request);
        v1::TrainResponse response;
        while (stream->Read(&response)) {
          if (response.event().has_progress()) ++under_way_;
        }
        Check(stream->Finish(), "Train");
      });
    }
    while (under_way_ < static_cast<int>(models.size())) std::this_thread::yield();
  }
  ~Runs() {
    for (const std::string& model : models_) {
      v1::StopTrainingRequest request;
      request.set_model("models/" + model);
      v1::StopTrainingResponse response;
      grpc::ClientContext context;
      Check(connection_->training->StopTraining(&context, request, &response), "StopTraining");
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  const Connection* const connection_;
  const std::vector<std::string> models_;
  std::atomic<int> under_way_{0};
  std::vector<std::thread> threads_;
};

void Latency(const Options& options, const Connection& connection, const std::string& name,
             const v1::PredictRequest& request, double limit_us) {
  const int calls = options.quick ? 20 : 5'000;
  std::vector<double> us;
  for (int i = 0; i < calls; ++i) us.push_back(PredictMicroseconds(connection, request));
  Print(name + "_p50", "", Quantile(us, 0.5), "us");
  Print(name + "_p99", "", Quantile(us, 0.99), "us");
  if (limit_us > 0) Print(name + "_p99", kLimit, limit_us, "us");
}

void Busy(const Options& options, const Connection& connection) {
  struct Case {
    std::string trained;  // the network that the runs train
    int rows;
    int inputs;
  };
  for (const Case& c : {Case{"xor", 200, 2}, Case{"mlp", 1024, 784}}) {
    const std::string other = "predict_1_beside_" + c.trained + "_runs";
    const std::string own = "predict_1_of_" + c.trained + "_under_training";
    if (!Wanted(options, other) && !Wanted(options, own)) continue;
    // As many runs as cores; the model that predicts is one of them, or none.
    std::vector<std::string> models;
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      models.push_back(c.trained + std::to_string(i));
    }
    const Runs runs(&connection, models, c.rows, c.inputs);
    constexpr double kLimitUs = 500;
    if (Wanted(options, other)) {
      Latency(options, connection, other, RowsFor(c.trained, 1, c.inputs), kLimitUs);
    }
    if (Wanted(options, own)) {
      Latency(options, connection, own, RowsFor(models.front(), 1, c.inputs), kLimitUs);
    }
  }
}

}  // namespace

void PredictRows(const Options& options) {
  bool any = false;
  for (const char* name :
       {"predict_1_idle", "predict_1_beside_xor_runs", "predict_1_of_xor_under_training",
        "predict_1_beside_mlp_runs", "predict_1_of_mlp_under_training", "predict_10000_rpc"}) {
    any = any || Wanted(options, name);
  }
  if (!any) return;
  const BenchServer server;
  const Connection connection(server.tcp());
  const v1::ModelSpec xor_spec = SpecOf(2, {8, 2}), mlp_spec = SpecOf(784, {256, 128, 10});
  CreateModel(connection, "xor", xor_spec);
  CreateModel(connection, "mlp", mlp_spec);
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
    CreateModel(connection, "xor" + std::to_string(i), xor_spec);
    CreateModel(connection, "mlp" + std::to_string(i), mlp_spec);
  }
  if (Wanted(options, "predict_1_idle")) {
    Latency(options, connection, "predict_1_idle", RowsFor("xor", 1, 2), 0);
  }
  Busy(options, connection);
  if (Wanted(options, "predict_10000_rpc")) {
    const v1::PredictRequest request = RowsFor("mlp", options.quick ? 100 : 10'000, 784);
    std::vector<double> us;
    for (int i = 0; i < (options.quick ? 1 : 21); ++i) {
      us.push_back(PredictMicroseconds(connection, request));
    }
    Print("predict_10000_rpc", "", Quantile(us, 0.5), "us");
  }
}

}  // namespace backprop::bench
