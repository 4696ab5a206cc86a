package dev.backprop.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.util.JsonFormat;
import dev.backprop.client.BackpropClient;
import dev.backprop.client.BackpropException;
import dev.backprop.client.Batch;
import dev.backprop.client.CreateOptions;
import dev.backprop.client.DatasetRef;
import dev.backprop.client.Gradients;
import dev.backprop.client.ModelParameters;
import dev.backprop.client.Prediction;
import dev.backprop.client.RetryPolicy;
import dev.backprop.client.Rows;
import dev.backprop.client.Specs;
import dev.backprop.client.StepResult;
import dev.backprop.client.StepStream;
import dev.backprop.client.Tensor;
import dev.backprop.client.TlsOptions;
import dev.backprop.client.TrainOptions;
import dev.backprop.client.TrainingRun;
import dev.backprop.client.UploadOptions;
import dev.backprop.client.WatchOptions;
import dev.backprop.v1.DataType;
import dev.backprop.v1.Dataset;
import dev.backprop.v1.DatasetState;
import dev.backprop.v1.EvaluateResponse;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.Model;
import dev.backprop.v1.StopReason;
import dev.backprop.v1.StopTrainingResponse;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingSummary;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.stream.Stream;

/** The operations, with the public API of the client. */
final class Operations {
  private final Map<String, BackpropClient> clients = new ConcurrentHashMap<>();

  JsonObject execute(String op, JsonObject args, Consumer<JsonObject> event) throws IOException {
    if (op.equals("connect")) return connect(args);
    BackpropClient client = client(args);
    return switch (op) {
      case "create_model" -> createModel(client, args);
      case "get_model" -> {
        Model model = client.getModel(text(args, "model"));
        JsonObject result = model(model);
        result.add("spec", JsonParser.parseString(JsonFormat.printer().print(model.getSpec())));
        yield result;
      }
      case "delete_model" -> {
        client.deleteModel(text(args, "model"));
        yield new JsonObject();
      }
      case "list_models" ->
          names(
              client
                  .listModels(labels(args), args.has("page_size") ? number(args, "page_size") : 0)
                  .map(Model::getName));
      case "train" -> train(client, args, event);
      case "watch" -> {
        WatchOptions watch =
            new WatchOptions(
                args.has("run") ? text(args, "run") : "",
                args.has("from_sequence") ? args.get("from_sequence").getAsLong() : 0);
        try (TrainingRun run = client.watchTraining(text(args, "model"), watch)) {
          yield follow(run, args, event);
        }
      }
      case "stop_training" -> {
        StopTrainingResponse response = client.stopTraining(text(args, "model"));
        JsonObject result = new JsonObject();
        result.addProperty("run", response.getRun());
        result.addProperty("iterations", response.getSummary().getIterations());
        yield result;
      }
      case "step" -> {
        Batch batch = batch(args);
        StepResult made =
            args.has("expected_step")
                ? client.step(text(args, "model"), batch, args.get("expected_step").getAsLong())
                : client.step(text(args, "model"), batch);
        JsonObject result = step(made.step());
        result.addProperty("loss", made.loss());
        yield result;
      }
      case "steps" -> steps(client, args);
      case "predict" -> predict(client, args);
      case "evaluate" -> {
        EvaluateResponse response = client.evaluate(text(args, "model"), rows(args));
        JsonObject result = step(response.getStep());
        result.addProperty("loss", response.getMetrics().getLoss());
        if (response.getMetrics().hasAccuracy()) {
          result.addProperty("accuracy", response.getMetrics().getAccuracy());
        }
        yield result;
      }
      case "grad_check" -> {
        GradCheckResult check = client.gradCheck(text(args, "model"), batch(args));
        JsonObject result = new JsonObject();
        result.addProperty(
            "verdict", check.getVerdict().name().substring("GRAD_CHECK_VERDICT_".length()));
        result.addProperty("explanation", check.getExplanation());
        yield result;
      }
      case "compute_gradients" -> {
        Gradients gradients = client.computeGradients(text(args, "model"), batch(args));
        JsonObject result = step(gradients.step());
        result.addProperty("weight", gradients.weight());
        result.add("tensors", tensors(gradients.tensors(), args));
        yield result;
      }
      case "apply_gradients" -> {
        Map<String, Tensor> gradients = namedTensors(args);
        yield step(
            (args.has("expected_step")
                    ? client.applyGradients(
                        text(args, "model"), gradients, args.get("expected_step").getAsLong())
                    : client.applyGradients(text(args, "model"), gradients))
                .getStep());
      }
      case "get_parameters" -> {
        ModelParameters parameters = client.getParameters(text(args, "model"));
        JsonObject result = step(parameters.step().orElseThrow());
        result.add("tensors", tensors(parameters.tensors(), args));
        yield result;
      }
      case "set_parameters" ->
          step(
              client.setParameters(
                  text(args, "model"), ModelParameters.of(namedTensors(args))));
      case "create_checkpoint" -> {
        JsonObject result = new JsonObject();
        result.addProperty(
            "name",
            client.createCheckpoint(text(args, "model"), text(args, "checkpoint")).getName());
        yield result;
      }
      case "restore_checkpoint" ->
          step(client.restoreCheckpoint(text(args, "model"), text(args, "checkpoint")));
      case "delete_checkpoint" -> {
        client.deleteCheckpoint(text(args, "model"), text(args, "checkpoint"));
        yield new JsonObject();
      }
      case "list_checkpoints" ->
          names(client.listCheckpoints(text(args, "model")).map(one -> one.getName()));
      case "upload_dataset" -> upload(client, args, event);
      case "get_dataset" -> dataset(client.getDataset(text(args, "dataset")));
      case "list_datasets" -> names(client.listDatasets().map(Dataset::getName));
      case "delete_dataset" -> {
        client.deleteDataset(text(args, "dataset"));
        yield new JsonObject();
      }
      case "export_model" -> {
        JsonObject result = new JsonObject();
        result.addProperty(
            "bytes", client.exportModel(text(args, "model"), Path.of(text(args, "path"))));
        yield result;
      }
      case "import_model" ->
          model(
              client.importModel(
                  Path.of(text(args, "path")), CreateOptions.named(text(args, "model_id"))));
      case "health" -> {
        JsonObject result = new JsonObject();
        result.addProperty("serving", client.isServing());
        yield result;
      }
      default -> throw new Runner.Unsupported();
    };
  }

  // --- Arguments ---

  private static String text(JsonObject args, String key) {
    return args.has(key) ? args.get(key).getAsString() : "";
  }

  private static int number(JsonObject args, String key) {
    return args.get(key).getAsInt();
  }

  private BackpropClient client(JsonObject args) {
    String name = args.has("client") ? text(args, "client") : "c";
    BackpropClient client = clients.get(name);
    if (client == null) throw new IllegalStateException("no client " + name + " is connected");
    if (args.has("request_id")) client = client.withRequestId(text(args, "request_id"));
    if (args.has("timeout_ms")) {
      client = client.withTimeout(Duration.ofMillis(args.get("timeout_ms").getAsLong()));
    }
    return client;
  }

  private static Map<String, String> labels(JsonObject args) {
    Map<String, String> labels = new HashMap<>();
    if (args.has("labels")) {
      args.getAsJsonObject("labels")
          .entrySet()
          .forEach(entry -> labels.put(entry.getKey(), entry.getValue().getAsString()));
    }
    return labels;
  }

  private static Tensor tensor(JsonElement element) throws IOException {
    JsonObject array = element.getAsJsonObject();
    JsonArray sizes = array.getAsJsonArray("shape");
    int[] shape = new int[sizes.size()];
    for (int i = 0; i < shape.length; ++i) shape[i] = sizes.get(i).getAsInt();
    DataType type =
        array.get("dtype").getAsString().equals("float64")
            ? DataType.DATA_TYPE_FLOAT64
            : DataType.DATA_TYPE_FLOAT32;
    if (array.has("file")) {
      try (FileChannel file =
          FileChannel.open(Path.of(text(array, "file")), StandardOpenOption.READ)) {
        ByteBuffer bytes = file.map(FileChannel.MapMode.READ_ONLY, 0, file.size());
        return Tensor.ofLittleEndian(type, bytes, shape);
      }
    }
    byte[] bytes = Base64.getDecoder().decode(text(array, "base64"));
    return Tensor.ofLittleEndian(type, ByteBuffer.wrap(bytes), shape);
  }

  private static Batch batch(JsonObject args) throws IOException {
    Tensor inputs = tensor(args.get("inputs"));
    if (args.has("targets")) return Batch.withTargets(inputs, tensor(args.get("targets")));
    JsonArray labels = args.getAsJsonArray("labels");
    int[] classes = new int[labels.size()];
    for (int i = 0; i < classes.length; ++i) classes[i] = labels.get(i).getAsInt();
    return Batch.of(inputs, classes);
  }

  private static Rows rows(JsonObject args) throws IOException {
    return args.has("dataset") ? new DatasetRef(text(args, "dataset")) : batch(args);
  }

  private static Map<String, Tensor> namedTensors(JsonObject args) throws IOException {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    for (var entry : args.getAsJsonObject("tensors").entrySet()) {
      tensors.put(entry.getKey(), tensor(entry.getValue()));
    }
    return tensors;
  }

  // --- Results ---

  private static JsonObject step(long step) {
    JsonObject result = new JsonObject();
    result.addProperty("step", step);
    return result;
  }

  private static JsonObject model(Model model) {
    JsonObject result = step(model.getStep());
    result.addProperty("name", model.getName());
    result.addProperty("parameter_count", model.getParameterCount());
    return result;
  }

  private static JsonObject dataset(Dataset dataset) {
    JsonObject result = new JsonObject();
    result.addProperty("name", dataset.getName());
    result.addProperty("rows", dataset.getRows());
    result.addProperty("ready", dataset.getState() == DatasetState.DATASET_STATE_READY);
    return result;
  }

  private static JsonObject names(Stream<String> names) {
    JsonArray array = new JsonArray();
    names.forEach(array::add);
    JsonObject result = new JsonObject();
    result.add("names", array);
    return result;
  }

  /** With `to_file`, the bytes go to a file of this name and a suffix. */
  private static JsonObject array(Tensor tensor, JsonObject args, String suffix)
      throws IOException {
    JsonObject array = new JsonObject();
    JsonArray shape = new JsonArray();
    for (int size : tensor.shape()) shape.add(size);
    array.add("shape", shape);
    array.addProperty(
        "dtype", tensor.type() == DataType.DATA_TYPE_FLOAT64 ? "float64" : "float32");
    if (args.has("to_file")) {
      Path file = Path.of(text(args, "to_file") + suffix);
      try (FileChannel out =
          FileChannel.open(
              file,
              StandardOpenOption.CREATE,
              StandardOpenOption.TRUNCATE_EXISTING,
              StandardOpenOption.WRITE)) {
        ByteBuffer bytes = tensor.bytes();
        while (bytes.hasRemaining()) out.write(bytes);
      }
      array.addProperty("file", file.toString());
    } else {
      byte[] bytes = new byte[tensor.bytes().remaining()];
      tensor.bytes().get(bytes);
      array.addProperty("base64", Base64.getEncoder().encodeToString(bytes));
    }
    return array;
  }

  private static JsonObject tensors(Map<String, Tensor> tensors, JsonObject args)
      throws IOException {
    JsonObject all = new JsonObject();
    for (var entry : tensors.entrySet()) {
      all.add(
          entry.getKey(), array(entry.getValue(), args, "." + entry.getKey().replace('/', '_')));
    }
    return all;
  }

  // --- Operations ---

  private JsonObject connect(JsonObject args) {
    var builder = BackpropClient.builder(text(args, "address"));
    if (args.has("ca") || args.has("cert")) {
      TlsOptions tls =
          args.has("ca") ? TlsOptions.trusting(Path.of(text(args, "ca"))) : TlsOptions.system();
      if (args.has("cert")) {
        tls = tls.withCertificate(Path.of(text(args, "cert")), Path.of(text(args, "key")));
      }
      builder.tls(tls);
    }
    if (args.has("token")) builder.token(text(args, "token"));
    if (args.has("token_file")) builder.tokenFile(Path.of(text(args, "token_file")));
    if (args.has("retry")) {
      JsonObject retry = args.getAsJsonObject("retry");
      RetryPolicy usual = RetryPolicy.DEFAULT;
      builder.retry(
          new RetryPolicy(
              retry.has("max_attempts") ? number(retry, "max_attempts") : usual.maxAttempts(),
              retry.has("first_pause_ms")
                  ? Duration.ofMillis(number(retry, "first_pause_ms"))
                  : usual.firstPause(),
              retry.has("last_pause_ms")
                  ? Duration.ofMillis(number(retry, "last_pause_ms"))
                  : usual.lastPause()));
    }
    String name = args.has("as") ? text(args, "as") : "c";
    BackpropClient before = clients.remove(name);
    if (before != null) before.close();
    clients.put(name, builder.build());
    return new JsonObject();
  }

  private static JsonObject createModel(BackpropClient client, JsonObject args) {
    return model(
        client.createModel(
            Specs.fromJson(args.get("spec").toString()),
            CreateOptions.named(text(args, "model_id")).withLabels(labels(args))));
  }

  private static JsonObject train(
      BackpropClient client, JsonObject args, Consumer<JsonObject> event) throws IOException {
    TrainOptions options =
        args.has("epochs")
            ? TrainOptions.epochs(args.get("epochs").getAsLong())
            : TrainOptions.iterations(args.get("iterations").getAsLong());
    if (args.has("batch_size")) options = options.batchSize(number(args, "batch_size"));
    if (args.has("report_every")) options = options.reportEvery(number(args, "report_every"));
    if (args.has("detach") && args.get("detach").getAsBoolean()) options = options.detach();
    try (TrainingRun run = client.startTraining(text(args, "model"), rows(args), options)) {
      return follow(run, args, event);
    }
  }

  private static JsonObject follow(TrainingRun run, JsonObject args, Consumer<JsonObject> events) {
    int most = args.has("cancel_after_events") ? number(args, "cancel_after_events") : -1;
    JsonArray sequences = new JsonArray();
    JsonObject result = new JsonObject();
    for (TrainingEvent event : run) {
      sequences.add(event.getSequence());
      events.accept(event(event));
      if (event.hasSummary()) summary(event.getSummary(), result);
      if (sequences.size() == most) break;
    }
    result.add("sequences", sequences);
    return result;
  }

  private static JsonObject event(TrainingEvent event) {
    JsonObject body = new JsonObject();
    body.addProperty("run", event.getRun());
    body.addProperty("sequence", event.getSequence());
    body.addProperty("dropped", event.getDropped());
    switch (event.getEventCase()) {
      case STARTED -> body.addProperty("kind", "started");
      case PROGRESS -> {
        body.addProperty("kind", "progress");
        body.addProperty("iteration", event.getProgress().getIteration());
        body.addProperty("step", event.getProgress().getStep());
        body.addProperty("loss", event.getProgress().getMetrics().getLoss());
      }
      default -> {
        body.addProperty("kind", "summary");
        summary(event.getSummary(), body);
      }
    }
    return body;
  }

  private static void summary(TrainingSummary summary, JsonObject to) {
    StopReason reason = summary.getStopReason();
    to.addProperty("stop_reason", reason.name().substring("STOP_REASON_".length()));
    to.addProperty("iterations", summary.getIterations());
    to.addProperty("step", summary.getStep());
    to.addProperty("loss", summary.getMetrics().getLoss());
    to.addProperty("message", summary.getMessage());
  }

  private static JsonObject steps(BackpropClient client, JsonObject args) throws IOException {
    List<CompletableFuture<StepResult>> made = new ArrayList<>();
    int inFlight = args.has("in_flight") ? number(args, "in_flight") : StepStream.MAX_IN_FLIGHT;
    try (StepStream stream = client.openSteps(text(args, "model"), inFlight)) {
      for (JsonElement one : args.getAsJsonArray("batches")) {
        made.add(stream.send(batch(one.getAsJsonObject())));
      }
    }
    JsonArray steps = new JsonArray();
    JsonArray losses = new JsonArray();
    for (CompletableFuture<StepResult> one : made) {
      try {
        StepResult result = one.join();
        steps.add(result.step());
        losses.add(result.loss());
      } catch (CompletionException e) {
        if (e.getCause() instanceof BackpropException failure) throw failure;
        throw e;
      }
    }
    JsonObject result = new JsonObject();
    result.add("steps", steps);
    result.add("losses", losses);
    return result;
  }

  private static JsonObject predict(BackpropClient client, JsonObject args) throws IOException {
    Prediction prediction = client.predict(text(args, "model"), tensor(args.get("inputs")));
    JsonObject result = step(prediction.step());
    if (prediction.probabilities().isPresent()) {
      result.add("probabilities", array(prediction.probabilities().get(), args, ""));
    }
    if (prediction.logits().isPresent()) {
      String suffix = prediction.probabilities().isPresent() ? ".logits" : "";
      result.add("logits", array(prediction.logits().get(), args, suffix));
    }
    if (!prediction.classes().isEmpty()) {
      JsonArray classes = new JsonArray();
      for (int one : prediction.classArray()) classes.add(one);
      result.add("classes", classes);
    }
    return result;
  }

  private static JsonObject upload(
      BackpropClient client, JsonObject args, Consumer<JsonObject> event) throws IOException {
    UploadOptions options =
        UploadOptions.defaults()
            .withProgress(
                rows -> {
                  JsonObject body = new JsonObject();
                  body.addProperty("rows", rows);
                  event.accept(body);
                });
    if (args.has("chunk_rows")) options = options.withChunkRows(number(args, "chunk_rows"));
    return dataset(client.uploadDataset(text(args, "dataset"), batch(args), options));
  }
}
