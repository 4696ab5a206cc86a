#include "tests/conformance/cpp/operations.h"

#include <algorithm>
#include <fstream>
#include <utility>
#include <vector>

namespace backprop::conformance {
namespace {

std::string UpperName(StopReason reason) {
  static const std::map<StopReason, std::string> kNames = {
      {StopReason::kUnspecified, "UNSPECIFIED"},
      {StopReason::kCompleted, "COMPLETED"},
      {StopReason::kStopped, "STOPPED"},
      {StopReason::kCancelled, "CANCELLED"},
      {StopReason::kDiverged, "DIVERGED"},
      {StopReason::kModelDeleted, "MODEL_DELETED"},
      {StopReason::kServerShutdown, "SERVER_SHUTDOWN"},
      {StopReason::kEarlyStopped, "EARLY_STOPPED"},
      {StopReason::kDataLost, "DATA_LOST"}};
  return kNames.at(reason);
}

Json JsonOf(const TrainingSummary& summary) {
  return {{"stop_reason", UpperName(summary.stop_reason)},
          {"iterations", summary.iterations},
          {"step", summary.step},
          {"loss", summary.metrics.has_value() ? summary.metrics->loss : 0.0},
          {"message", summary.message}};
}

Json JsonOf(const TrainingEvent& event) {
  Json json;
  if (const auto* progress = std::get_if<Progress>(&event.body)) {
    json = {{"kind", "progress"},
            {"iteration", progress->iteration},
            {"step", progress->step},
            {"loss", progress->metrics.loss}};
  } else if (const auto* summary = std::get_if<TrainingSummary>(&event.body)) {
    json = JsonOf(*summary);
    json["kind"] = "summary";
  } else {
    json["kind"] = "started";
  }
  json["run"] = event.run;
  json["sequence"] = event.sequence;
  json["dropped"] = event.dropped;
  return json;
}

// Writes the events of a call, and leaves it after `cancel_after_events`.
class Events {
 public:
  explicit Events(const Request& request)
      : request_(request), last_(request.args.value("cancel_after_events", int64_t{-1})) {}
  bool Take(const TrainingEvent& event) {
    request_.emit(JsonOf(event));
    sequences_.push_back(event.sequence);
    left_ = static_cast<int64_t>(sequences_.size()) == last_;
    return !left_;
  }
  Json Result(const backprop::Result<TrainingSummary>& summary) const {
    if (left_) return {{"sequences", sequences_}};
    Json json = JsonOf(Value(summary));
    json["sequences"] = sequences_;
    return json;
  }

 private:
  const Request& request_;
  const int64_t last_;
  std::vector<int64_t> sequences_;
  bool left_ = false;
};

Json Connect(Clients* clients, const Request& request) {
  const Json& args = request.args;
  ClientOptions options;
  if (args.contains("ca")) {
    options.tls = TlsOptions{.ca_file = Text(args, "ca"),
                             .certificate_file = Text(args, "cert"),
                             .key_file = Text(args, "key")};
  }
  options.token.token = Text(args, "token");
  options.token.file = Text(args, "token_file");
  if (args.contains("retry")) {
    const Json& retry = args["retry"];
    options.retry.max_attempts = retry.value("max_attempts", options.retry.max_attempts);
    options.retry.first_pause = std::chrono::milliseconds(
        retry.value("first_pause_ms", int64_t{options.retry.first_pause.count()}));
    options.retry.last_pause = std::chrono::milliseconds(
        retry.value("last_pause_ms", int64_t{options.retry.last_pause.count()}));
  }
  clients->Put(args.value("as", std::string("c")),
               std::make_shared<Client>(args.at("address").get<std::string>(), options));
  return Json::object();
}

Json Health(Client* client, const Request& request) {
  return {{"serving", Value(client->CheckHealth("", request.Call()))}};
}

Json CreateModel(Client* client, const Request& request) {
  CreateOptions create;
  create.model_id = Text(request.args, "model_id");
  if (request.args.contains("labels")) request.args["labels"].get_to(create.labels);
  const ModelInfo model =
      Value(client->CreateModel(SpecOf(request.args.at("spec")), create, request.Call()));
  return {{"name", model.name}, {"step", model.step}, {"parameter_count", model.parameter_count}};
}

Json GetModel(Client* client, const Request& request) {
  const ModelInfo model = Value(client->GetModel(request.Model(), request.Call()));
  return {{"name", model.name}, {"step", model.step}, {"spec", conformance::JsonOf(model.spec)}};
}

Json ListModels(Client* client, const Request& request) {
  ListOptions list;
  list.page_size = request.args.value("page_size", 0);
  if (request.args.contains("labels")) request.args["labels"].get_to(list.labels);
  Json names = Json::array();
  do {
    const ModelPage page = Value(client->ListModels(list, request.Call()));
    for (const ModelInfo& model : page.models) names.push_back(model.name);
    list.page_token = page.next_page_token;
  } while (!list.page_token.empty());
  return {{"names", names}};
}

Json DeleteModel(Client* client, const Request& request) {
  Check(client->DeleteModel(request.Model(), request.Call()));
  return Json::object();
}

Json Train(Client* client, const Request& request) {
  TrainOptions options;
  options.iterations = Optional<int64_t>(request.args, "iterations");
  options.epochs = Optional<int64_t>(request.args, "epochs");
  options.batch_size = Optional<int32_t>(request.args, "batch_size");
  options.report_every = Optional<int64_t>(request.args, "report_every");
  options.detach = request.args.value("detach", false);
  options.dataset = Text(request.args, "dataset");
  Events events(request);
  return events.Result(client->Train(
      request.Model(), BatchOf(request.args), options,
      [&](const TrainingEvent& event) { return events.Take(event); }, request.Call()));
}

Json Watch(Client* client, const Request& request) {
  Events events(request);
  return events.Result(client->WatchTraining(
      request.Model(),
      {.run = Text(request.args, "run"),
       .from_sequence = request.args.value("from_sequence", int64_t{0})},
      [&](const TrainingEvent& event) { return events.Take(event); }, request.Call()));
}

Json StopTraining(Client* client, const Request& request) {
  const StopResult stopped = Value(client->StopTraining(request.Model(), request.Call()));
  return {{"run", stopped.run}, {"iterations", stopped.summary.iterations}};
}

Json Step(Client* client, const Request& request) {
  const StepResult step =
      Value(client->Step(request.Model(), BatchOf(request.args),
                         Optional<int64_t>(request.args, "expected_step"), request.Call()));
  return {{"step", step.step}, {"loss", step.metrics.loss}};
}

Json Steps(Client* client, const Request& request) {
  StepsOptions options;
  options.in_flight = request.args.value("in_flight", options.in_flight);
  std::vector<Batch> batches;
  for (const Json& batch : request.args.at("batches")) batches.push_back(BatchOf(batch));
  Json steps = Json::array();
  Json losses = Json::array();
  for (const StepResult& step :
       Value(client->Steps(request.Model(), batches, options, request.Call()))) {
    steps.push_back(step.step);
    losses.push_back(step.metrics.loss);
  }
  return {{"steps", steps}, {"losses", losses}};
}

Json Predict(Client* client, const Request& request) {
  const Prediction prediction = Value(
      client->Predict(request.Model(), TensorOf(request.args.at("inputs")), {}, request.Call()));
  const std::string file = Text(request.args, "to_file");
  const auto file_of = [&](const char* output) {
    return file.empty() ? std::string() : file + "." + output;
  };
  Json result = {{"step", prediction.step}, {"classes", prediction.classes}};
  if (!prediction.logits.empty()) {
    result["logits"] = ArrayOf(prediction.logits, file_of("logits"));
  }
  if (!prediction.probabilities.empty()) {
    result["probabilities"] = ArrayOf(prediction.probabilities, file_of("probabilities"));
  }
  return result;
}

Json Evaluate(Client* client, const Request& request) {
  const Evaluation evaluation = Value(client->Evaluate(request.Model(), BatchOf(request.args),
                                                       {.summary_only = true}, request.Call()));
  Json result = {{"loss", evaluation.metrics.loss}};
  if (evaluation.metrics.accuracy.has_value()) result["accuracy"] = *evaluation.metrics.accuracy;
  return result;
}

Json GradCheck(Client* client, const Request& request) {
  const GradCheckResult check =
      Value(client->GradCheck(request.Model(), BatchOf(request.args), {}, request.Call()));
  static const std::map<GradCheckVerdict, std::string> kNames = {
      {GradCheckVerdict::kPassed, "PASSED"},
      {GradCheckVerdict::kFailed, "FAILED"},
      {GradCheckVerdict::kInconclusive, "INCONCLUSIVE"}};
  return {{"verdict", kNames.at(check.verdict)}};
}

Json ComputeGradients(Client* client, const Request& request) {
  const Gradients gradients =
      Value(client->ComputeGradients(request.Model(), BatchOf(request.args), request.Call()));
  return {{"tensors", ArraysOf(gradients.tensors, Text(request.args, "to_file"))},
          {"weight", gradients.weight}};
}

Json ApplyGradients(Client* client, const Request& request) {
  return {{"step", Value(client->ApplyGradients(
                             request.Model(), TensorsOf(request.args.at("tensors")),
                             Optional<int64_t>(request.args, "expected_step"), request.Call()))
                       .step}};
}

Json GetParameters(Client* client, const Request& request) {
  const Parameters parameters =
      Value(client->GetParameters(request.Model(), false, request.Call()));
  return {{"tensors", ArraysOf(parameters.tensors, Text(request.args, "to_file"))},
          {"step", parameters.step.value_or(0)}};
}

Json SetParameters(Client* client, const Request& request) {
  Parameters parameters;
  parameters.tensors = TensorsOf(request.args.at("tensors"));
  return {{"step", Value(client->SetParameters(request.Model(), parameters, std::nullopt,
                                               request.Call()))}};
}

Json CreateCheckpoint(Client* client, const Request& request) {
  return {{"name", Value(client->CreateCheckpoint(request.Model(), Text(request.args, "checkpoint"),
                                                  request.Call()))
                       .name}};
}

Json RestoreCheckpoint(Client* client, const Request& request) {
  return {
      {"step", Value(client->RestoreCheckpoint(request.Model(), Text(request.args, "checkpoint"),
                                               std::nullopt, request.Call()))}};
}

Json DeleteCheckpoint(Client* client, const Request& request) {
  Check(
      client->DeleteCheckpoint(request.Model(), Text(request.args, "checkpoint"), request.Call()));
  return Json::object();
}

Json ListCheckpoints(Client* client, const Request& request) {
  Json names = Json::array();
  for (const auto& checkpoint : Value(client->ListCheckpoints(request.Model(), request.Call()))) {
    names.push_back(checkpoint.name);
  }
  return {{"names", names}};
}

Json UploadDataset(Client* client, const Request& request) {
  const Batch batch = BatchOf(request.args);
  UploadOptions options;
  options.data_type = batch.inputs.type();
  options.on_progress = [&](int64_t rows) { request.emit({{"rows", rows}}); };
  const std::string id = Text(request.args, "dataset");
  const int64_t all = batch.inputs.rows();
  const int64_t at_once = request.args.value("chunk_rows", int64_t{0});
  const DatasetInfo dataset =
      Value(at_once == 0 ? client->UploadDataset(id, batch, options, request.Call())
                         : client->UploadDataset(
                               id,
                               [&](int64_t first) -> std::optional<Batch> {
                                 if (first >= all) return std::nullopt;
                                 return Rows(batch, first, std::min(at_once, all - first));
                               },
                               options, request.Call()));
  return {{"name", dataset.name}, {"rows", dataset.rows}};
}

Json GetDataset(Client* client, const Request& request) {
  const DatasetInfo dataset =
      Value(client->GetDataset(Text(request.args, "dataset"), request.Call()));
  return {{"name", dataset.name}, {"rows", dataset.rows}, {"ready", dataset.ready}};
}

Json ListDatasets(Client* client, const Request& request) {
  Json names = Json::array();
  for (const DatasetInfo& dataset : Value(client->ListDatasets(request.Call()))) {
    names.push_back(dataset.name);
  }
  return {{"names", names}};
}

Json DeleteDataset(Client* client, const Request& request) {
  Check(client->DeleteDataset(Text(request.args, "dataset"), request.Call()));
  return Json::object();
}

Json ExportModel(Client* client, const Request& request) {
  std::ofstream file(Text(request.args, "path"), std::ios::binary);
  size_t bytes = 0;
  Check(client->ExportModel(
      request.Model(),
      [&](std::string_view piece) {
        file.write(piece.data(), static_cast<std::streamsize>(piece.size()));
        bytes += piece.size();
        return file.good();
      },
      request.Call()));
  return {{"bytes", bytes}};
}

Json ImportModel(Client* client, const Request& request) {
  const ModelInfo model =
      Value(client->ImportModel(FileSource(Text(request.args, "path")),
                                {.model_id = Text(request.args, "model_id")}, request.Call()));
  return {{"name", model.name}, {"step", model.step}};
}

using Operation = Json (*)(Client*, const Request&);
const std::map<std::string, Operation> kOperations = {{"health", Health},
                                                      {"create_model", CreateModel},
                                                      {"get_model", GetModel},
                                                      {"list_models", ListModels},
                                                      {"delete_model", DeleteModel},
                                                      {"train", Train},
                                                      {"watch", Watch},
                                                      {"stop_training", StopTraining},
                                                      {"step", Step},
                                                      {"steps", Steps},
                                                      {"predict", Predict},
                                                      {"evaluate", Evaluate},
                                                      {"grad_check", GradCheck},
                                                      {"compute_gradients", ComputeGradients},
                                                      {"apply_gradients", ApplyGradients},
                                                      {"get_parameters", GetParameters},
                                                      {"set_parameters", SetParameters},
                                                      {"create_checkpoint", CreateCheckpoint},
                                                      {"restore_checkpoint", RestoreCheckpoint},
                                                      {"delete_checkpoint", DeleteCheckpoint},
                                                      {"list_checkpoints", ListCheckpoints},
                                                      {"upload_dataset", UploadDataset},
                                                      {"get_dataset", GetDataset},
                                                      {"list_datasets", ListDatasets},
                                                      {"delete_dataset", DeleteDataset},
                                                      {"export_model", ExportModel},
                                                      {"import_model", ImportModel}};

}  // namespace

CallOptions Request::Call() const {
  CallOptions call;
  if (const auto timeout = Optional<int64_t>(args, "timeout_ms"); timeout.has_value()) {
    call.timeout = std::chrono::milliseconds(*timeout);
  }
  call.cancellation = cancellation;
  call.request_id = Text(args, "request_id");
  return call;
}

void Clients::Put(const std::string& name, std::shared_ptr<Client> client) {
  const std::lock_guard lock(mu_);
  clients_[name] = std::move(client);
}

std::shared_ptr<Client> Clients::Of(const Request& request) {
  const std::lock_guard lock(mu_);
  const auto found = clients_.find(request.args.value("client", std::string("c")));
  if (found == clients_.end()) FailInvalid("no such client");
  return found->second;
}

std::optional<Json> Execute(const std::string& operation, Clients* clients,
                            const Request& request) {
  if (operation == "connect") return Connect(clients, request);
  const auto found = kOperations.find(operation);
  if (found == kOperations.end()) return std::nullopt;
  return found->second(clients->Of(request).get(), request);
}

}  // namespace backprop::conformance
