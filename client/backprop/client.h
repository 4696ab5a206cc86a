// A client of a backpropd server. Example:
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
#include "backprop/security.h"
#include "backprop/server_status.h"
#include "backprop/status.h"
#include "backprop/steps.h"
#include "backprop/tensor.h"
#include "backprop/training.h"

namespace google::protobuf {
class Message;
}

namespace backprop {

// HTTP/2 pings during calls. A server or network that does not respond is detected within `time` +
// `timeout`: the connection is closed, and calls that may be retried are retried.
struct KeepaliveOptions {
  std::chrono::milliseconds time{10'000};     // idle time before a ping; at least 1 s
  std::chrono::milliseconds timeout{10'000};  // time to wait for the response
};

struct ClientOptions {
  // Unset: clear text. Unix sockets are always clear text.
  std::optional<TlsOptions> tls{};
  TokenOptions token{};
  RetryOptions retry{};
  // Timeout of calls with one request and one response that have none in their CallOptions. Unset:
  // no limit.
  std::optional<std::chrono::milliseconds> unary_timeout = std::chrono::seconds(60);
  // Unset: no pings.
  std::optional<KeepaliveOptions> keepalive = KeepaliveOptions{};
  // Whether to use the environment variables grpc_proxy, https_proxy, http_proxy and no_proxy. They
  // are never used for loopback addresses and Unix sockets.
  bool use_proxy = true;
  // Called with every response message, on the calling thread. For tools and logs.
  std::function<void(const google::protobuf::Message&)> on_reply{};
};

struct CreateOptions {
  std::string model_id{};  // empty: the server chooses one
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
  std::string run{};  // empty: the active run, otherwise the latest
  int64_t from_sequence = 0;
};

struct StopResult {
  std::string run{};
  TrainingSummary summary{};
};

// A connection to a server. Connects on first use. Thread-safe. A model is named "models/{id}" or
// just "{id}". Errors are the server's, with their fields; the API documentation lists the codes of
// each call. All calls block.
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

  // Trains the model and returns the summary of the run. If the server is stopped or killed and
  // started again, the run resumes, this call attaches to it again, and each event is delivered
  // once. If only the connection breaks, the server stops a run that is not detached; the call then
  // fails with kUnavailable (CONNECTION_BROKE) and says how far the run came. An exception of
  // `on_event` cancels the call.
  Result<TrainingSummary> Train(const std::string& model, const Batch& data,
                                const TrainOptions& train, const EventCallback& on_event = nullptr,
                                const CallOptions& call = {});
  // Follows a run to its end and reconnects if the connection breaks.
  Result<TrainingSummary> WatchTraining(const std::string& model, const WatchOptions& watch = {},
                                        const EventCallback& on_event = nullptr,
                                        const CallOptions& call = {});
  Result<StopResult> StopTraining(const std::string& model, const CallOptions& call = {});

  // Makes one optimiser step. Fails with kAborted if the model's step count is not `expected_step`.
  Result<StepResult> Step(const std::string& model, const Batch& batch,
                          std::optional<int64_t> expected_step = std::nullopt,
                          const CallOptions& call = {});

  // Makes a step on each batch of `batches`, with several in flight. The steps are made and
  // answered in order, each once: if the connection breaks, those without a response are sent again
  // with the same request ids. Returns OK when all are answered. A rejected step is passed to
  // `on_step` and changes nothing; steps that are in flight after it are made. A request_id in
  // `call` is the first part of that of each step.
  Status Steps(const std::string& model, const BatchSource& batches, const StepCallback& on_step,
               const StepsOptions& options = {}, const CallOptions& call = {});
  // The same on a list. Ends with the error of the first step that is rejected.
  Result<std::vector<StepResult>> Steps(const std::string& model, const std::vector<Batch>& batches,
                                        const StepsOptions& options = {},
                                        const CallOptions& call = {});
  // Opens a stream of pipelined steps that the caller drives.
  StepStream OpenStepStream(const std::string& model, const CallOptions& call = {});

  // The two halves of a step. Between them, gradients of replicas may be averaged, weighted by
  // `weight`.
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

  // Stores the model's parameters, optimiser state and step count under an id. Allowed during a
  // run.
  Result<CheckpointInfo> CreateCheckpoint(const std::string& model, const std::string& id,
                                          const CallOptions& call = {});
  // Returns all of them, sorted by name.
  Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& model,
                                                      const CallOptions& call = {});
  // Resets the model to checkpoint `id` of the model. Returns the step count.
  Result<int64_t> RestoreCheckpoint(const std::string& model, const std::string& id,
                                    std::optional<int64_t> expected_step = std::nullopt,
                                    const CallOptions& call = {});
  Status DeleteCheckpoint(const std::string& model, const std::string& id,
                          const CallOptions& call = {});

  // Uploads rows in chunks with checksums. If the connection breaks, resumes after the rows that
  // the server has.
  Result<DatasetInfo> UploadDataset(const std::string& id, const RowSource& rows,
                                    const UploadOptions& upload = {}, const CallOptions& call = {});
  Result<DatasetInfo> UploadDataset(const std::string& id, const Batch& rows,
                                    const UploadOptions& upload = {}, const CallOptions& call = {});
  Result<DatasetInfo> GetDataset(const std::string& id, const CallOptions& call = {});
  // Returns all of them, sorted by name.
  Result<std::vector<DatasetInfo>> ListDatasets(const CallOptions& call = {});
  Status DeleteDataset(const std::string& id, const CallOptions& call = {});

  // Exports a model to a file format, and creates a model from it. An export is retried until its
  // first byte has arrived; an import, if its source can be read again.
  Status ExportModel(const std::string& model, const ByteSink& sink, const CallOptions& call = {});
  Status ExportModel(const std::string& model, ModelFileFormat format, const ByteSink& sink,
                     const CallOptions& call = {});
  Result<ModelInfo> ImportModel(const RepeatableSource& source, const ImportOptions& import = {},
                                const CallOptions& call = {});
  Result<ModelInfo> ImportModel(const ByteSource& source, const ImportOptions& import = {},
                                const CallOptions& call = {});

  // Exports everything that a server stores, and restores it to an empty server. Not retried.
  Status CreateBackup(const ByteSink& sink, const CallOptions& call = {});
  // The same for one project, with or without "projects/".
  Status CreateBackup(const std::string& project, const ByteSink& sink,
                      const CallOptions& call = {});
  Result<RestoredBackup> RestoreBackup(const ByteSource& source, const CallOptions& call = {});

  // What projects use of the server, and what they may use.
  Result<ProjectInfo> GetProject(const std::string& id, const CallOptions& call = {});
  // Returns all of them, sorted by name.
  Result<std::vector<ProjectInfo>> ListProjects(const CallOptions& call = {});

  // The status of the server. On a server with authentication, operators only.
  Result<ServerStatus> GetServerStatus(StatusView view = StatusView::kBasic,
                                       const CallOptions& call = {});

  // Whether `service` is serving; empty: the server as a whole.
  Result<bool> CheckHealth(const std::string& service = "", const CallOptions& call = {});

  // Whether the connection is established, as far as the client knows. Makes no call.
  bool Connected() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CLIENT_H_
