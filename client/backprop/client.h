// The client of a backpropd server.
//
//   backprop::Client client("localhost:50051");
//   backprop::ModelSpec spec;
//   spec.input_size = 2;
//   spec.layers = {{8}, {2}};
//   spec.optimizer = backprop::Sgd{.learning_rate = 0.1};
//   auto model = client.CreateModel(spec, {.model_id = "xor"});
//   if (!model.ok()) std::cerr << model.status().ToString() << "\n";
#ifndef BACKPROP_CLIENT_CLIENT_H_
#define BACKPROP_CLIENT_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backprop/call_options.h"
#include "backprop/model.h"
#include "backprop/resources.h"
#include "backprop/status.h"
#include "backprop/tensor.h"
#include "backprop/training.h"

namespace google::protobuf {
class Message;
}

namespace backprop {

// Pings while calls are under way. A server or a network that does not answer is noticed within
// `time` + `timeout`: the connection is closed, and calls that may be retried are.
struct KeepaliveOptions {
  std::chrono::milliseconds time{10'000};  // after so long without a byte; at least a second apart
  std::chrono::milliseconds timeout{10'000};  // for the answer
};

struct ClientOptions {
  RetryOptions retry{};
  // Nothing: no pings.
  std::optional<KeepaliveOptions> keepalive = KeepaliveOptions{};
  // Whether the variables grpc_proxy, https_proxy, http_proxy and no_proxy count. They never do for
  // loopback addresses and Unix sockets.
  bool use_proxy = true;
  // Sees every reply as the message that came, on the calling thread: for tools and logs.
  std::function<void(const google::protobuf::Message&)> on_reply{};
};

struct CreateOptions {
  std::string model_id{};  // empty: the server draws one
  std::map<std::string, std::string> labels{};
  std::optional<std::chrono::nanoseconds> ttl{};
  Durability durability = Durability::kDefault;
  std::optional<Parameters> initial_parameters{};
};

struct ListOptions {
  int32_t page_size = 0;  // 0: the server's default
  std::string page_token{};
  std::map<std::string, std::string> labels{};
};

struct WatchOptions {
  std::string run{};  // empty: the run under way, or else the latest
  int64_t from_sequence = 0;
};

struct StopResult {
  std::string run{};
  TrainingSummary summary{};
};

// Many steps in flight on one model: applied in the order in which they are sent, answered in that
// order. One thread may send while another receives; one thread alone must not let more than 64 be
// unanswered, beyond which the server reads no further. Not retried: after a broken connection send
// what was not answered again, with the same request ids, on another stream. Ends with its client.
class StepStream {
 public:
  ~StepStream();  // cancels what was not finished
  StepStream(StepStream&&) noexcept;
  StepStream& operator=(StepStream&&) noexcept;

  // Sends a step; false when the stream is broken, and Finish says why. `request_id`: empty for a
  // random one.
  bool Send(const Batch& batch, std::optional<int64_t> expected_step = std::nullopt,
            const std::string& request_id = "");
  // The next answer: a result, or why that step was refused. Nothing when there are no more.
  std::optional<Result<StepResult>> Receive();
  // Says that nothing more is sent; the answers that are due still come.
  void DoneSending();
  // How the stream ended. Call it once, after Receive has returned nothing.
  Status Finish();

 private:
  friend class Client;
  struct Impl;
  explicit StepStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Thread-safe. Connects when first used. A model is named "models/{id}" or just "{id}". Errors are
// the server's, with their fields; see the contract for the codes of each call.
class Client {
 public:
  // `address` is "host:port" or "unix:path".
  explicit Client(const std::string& address, ClientOptions options = {});
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  Result<ModelInfo> CreateModel(const ModelSpec& spec, const CreateOptions& create = {},
                                const CallOptions& call = {});
  Result<ModelInfo> GetModel(const std::string& model, const CallOptions& call = {});
  Result<ModelPage> ListModels(const ListOptions& list = {}, const CallOptions& call = {});
  Status DeleteModel(const std::string& model, const CallOptions& call = {});

  // Trains and returns how the run ended. If the connection breaks, a run that was not detached is
  // stopped by the server; kUnavailable then says how far it came.
  Result<TrainingSummary> Train(const std::string& model, const Batch& data,
                                const TrainOptions& train, const EventCallback& on_event = nullptr,
                                const CallOptions& call = {});
  // Follows a run to its end, across broken connections.
  Result<TrainingSummary> WatchTraining(const std::string& model, const WatchOptions& watch = {},
                                        const EventCallback& on_event = nullptr,
                                        const CallOptions& call = {});
  Result<StopResult> StopTraining(const std::string& model, const CallOptions& call = {});

  // One optimiser step. `expected_step`: refuse with kAborted if the model is at another step.
  Result<StepResult> Step(const std::string& model, const Batch& batch,
                          std::optional<int64_t> expected_step = std::nullopt,
                          const CallOptions& call = {});

  // Steps without waiting for each one's answer.
  StepStream OpenStepStream(const std::string& model, const CallOptions& call = {});

  // The two halves of a step; in between gradients of replicas may be averaged, each times its
  // `weight` over the sum of the weights.
  Result<Gradients> ComputeGradients(const std::string& model, const Batch& batch,
                                     const CallOptions& call = {});
  Result<AppliedGradients> ApplyGradients(const std::string& model,
                                          const std::vector<NamedTensor>& gradients,
                                          std::optional<int64_t> expected_step = std::nullopt,
                                          const CallOptions& call = {});

  Result<Prediction> Predict(const std::string& model, const Tensor& inputs,
                             const PredictOutputs& outputs = {}, const CallOptions& call = {});
  Result<Evaluation> Evaluate(const std::string& model, const Batch& data,
                              const EvaluateOptions& options = {}, const CallOptions& call = {});
  Result<GradCheckResult> GradCheck(const std::string& model, const Batch& batch,
                                    const GradCheckOptions& options = {},
                                    const CallOptions& call = {});

  Result<Parameters> GetParameters(const std::string& model, bool with_optimizer_state = true,
                                   const CallOptions& call = {});
  // Returns the model's step count.
  Result<int64_t> SetParameters(const std::string& model, const Parameters& parameters,
                                std::optional<int64_t> expected_step = std::nullopt,
                                const CallOptions& call = {});

  // Keeps the model's parameters, optimiser state and step count under an id; also during a run.
  Result<CheckpointInfo> CreateCheckpoint(const std::string& model, const std::string& id,
                                          const CallOptions& call = {});
  // All of them, by name.
  Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& model,
                                                      const CallOptions& call = {});
  // Makes the model what it was; returns its step count. `id`: of one of the model's checkpoints.
  Result<int64_t> RestoreCheckpoint(const std::string& model, const std::string& id,
                                    std::optional<int64_t> expected_step = std::nullopt,
                                    const CallOptions& call = {});
  Status DeleteCheckpoint(const std::string& model, const std::string& id,
                          const CallOptions& call = {});

  // Sends rows, in chunks with checksums, and goes on where the server is when the connection
  // breaks.
  Result<DatasetInfo> UploadDataset(const std::string& id, const RowSource& rows,
                                    const UploadOptions& upload = {}, const CallOptions& call = {});
  Result<DatasetInfo> UploadDataset(const std::string& id, const Batch& rows,
                                    const UploadOptions& upload = {}, const CallOptions& call = {});
  Result<DatasetInfo> GetDataset(const std::string& id, const CallOptions& call = {});
  // All of them, by name.
  Result<std::vector<DatasetInfo>> ListDatasets(const CallOptions& call = {});
  Status DeleteDataset(const std::string& id, const CallOptions& call = {});

  // A model as a file, and a model from one. Not retried once bytes have moved.
  Status ExportModel(const std::string& model, const ByteSink& sink, const CallOptions& call = {});
  Result<ModelInfo> ImportModel(const ByteSource& source, const ImportOptions& import = {},
                                const CallOptions& call = {});

  // Everything a server stores as a file, and an empty server from one. Not retried.
  Status CreateBackup(const ByteSink& sink, const CallOptions& call = {});
  Result<RestoredBackup> RestoreBackup(const ByteSource& source, const CallOptions& call = {});

  // Whether the server serves `service`; empty: the server as a whole.
  Result<bool> CheckHealth(const std::string& service = "", const CallOptions& call = {});

  // Whether there is a connection, as far as this side knows. Asks nobody.
  bool Connected() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CLIENT_H_
