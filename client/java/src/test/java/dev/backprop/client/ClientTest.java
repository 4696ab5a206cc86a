package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.backprop.v1.DataType;
import dev.backprop.v1.GradCheckVerdict;
import dev.backprop.v1.Model;
import dev.backprop.v1.PredictOutput;
import dev.backprop.v1.ServerStatusView;
import dev.backprop.v1.StopReason;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingSummary;
import io.grpc.Context;
import io.grpc.Status;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Every call, against a server. */
@Timeout(120)
class ClientTest {
  private static TestServer server;
  private static BackpropClient client;

  @TempDir Path folder;

  @BeforeAll
  static void start() throws Exception {
    server = TestServer.start();
    client = server.connect();
  }

  @AfterAll
  static void stop() throws Exception {
    client.close();
    server.close();
  }

  private static String create(String id) {
    return client.createModel(Data.spec(), CreateOptions.named(id)).getName();
  }

  private static BackpropException fails(org.junit.jupiter.api.function.Executable action) {
    return assertThrows(BackpropException.class, action);
  }

  @Test
  void modelsAreCreatedListedAndDeleted() {
    for (int i = 0; i < 5; ++i) {
      client.createModel(
          Data.spec(),
          CreateOptions.named("list-" + i)
              .withLabels(Map.of("parity", "" + i % 2))
              .withTtl(Duration.ofHours(1)));
    }
    Map<String, String> odd = Map.of("parity", "1");
    assertEquals(
        List.of("models/list-1", "models/list-3"),
        client.listModels(odd, 1).map(Model::getName).toList());
    assertEquals(42, client.getModel("models/list-1").getParameterCount());
    client.deleteModel("list-1");
    assertEquals("MODEL_NOT_FOUND", fails(() -> client.getModel("list-1")).reason());
    assertTrue(client.createModel(Data.spec()).getName().startsWith("models/"));
  }

  @Test
  void errorsNameFieldsAndReasons() {
    BackpropException e =
        fails(() -> client.createModel(Specs.mlp(2, 0, 2).build(), CreateOptions.named("bad")));
    assertEquals(Status.Code.INVALID_ARGUMENT, e.code());
    assertEquals(
        List.of(new FieldViolation("spec.layers[0].units", "must be at least 1, got 0")),
        e.violations());
    create("step-count");
    e = fails(() -> client.step("step-count", Data.xor(), 7));
    assertEquals(Status.Code.ABORTED, e.code());
    assertEquals("STEP_MISMATCH", e.reason());
    assertEquals(0, e.currentStep().getAsLong());
    assertEquals("0", e.metadata().get("current_step"));
    assertEquals(1, client.step("step-count", Data.xor(), 0).step());
  }

  @Test
  void whatIsWrongInEveryCaseIsNotSent() {
    for (String name : new String[] {"", null, "models/"}) {
      assertEquals("model", fails(() -> client.getModel(name)).violations().get(0).field());
    }
    assertEquals("dataset", fails(() -> client.getDataset("")).violations().get(0).field());
    BackpropException e =
        fails(() -> Specs.fromJson("{\"layers\": [{\"units\": 2, \"activation\": \"RELUU\"}]}"));
    assertTrue(e.description().contains("RELUU"), e.description());
    assertEquals(3, Specs.fromJson("{\"inputSize\": 3}").getInputSize());
  }

  @Test
  void aRunReportsItsProgress() {
    create("run");
    List<TrainingEvent> events = new ArrayList<>();
    TrainingSummary summary =
        client.train(
            "run", Data.xor(), TrainOptions.iterations(300).reportEvery(100), events::add);
    assertEquals(StopReason.STOP_REASON_COMPLETED, summary.getStopReason());
    assertEquals(300, summary.getStep());
    assertTrue(events.get(0).hasStarted());
    assertTrue(events.stream().anyMatch(e -> e.getProgress().getIteration() == 100));
    assertEquals(summary, events.get(events.size() - 1).getSummary());
    assertTrue(summary.getMetrics().getLoss() < 0.69);
    // A watcher sees the same events after the end.
    try (TrainingRun run = client.watchTraining("run")) {
      assertEquals(
          events.stream().map(TrainingEvent::getSequence).toList(),
          run.stream().map(TrainingEvent::getSequence).toList());
      assertEquals(summary, run.await());
    }
    try (TrainingRun run =
        client.watchTraining("run", new WatchOptions("", events.get(2).getSequence()))) {
      assertEquals(events.get(2).getSequence(), run.iterator().next().getSequence());
    }
  }

  @Test
  void optionsOfARunReachTheServer() {
    create("options");
    TrainingSummary summary =
        client.train(
            "options",
            Data.xor(),
            TrainOptions.epochs(3)
                .batchSize(50)
                .shuffle(false)
                .validationSplit(0.25)
                .earlyStopping(2)
                .reportInterval(Duration.ofMillis(5)));
    assertEquals(9, summary.getIterations());
    assertEquals(50, summary.getValidation().getRows());
    summary =
        client.train(
            "options", Data.xor(), TrainOptions.iterations(2).validation(Data.xor(60)));
    assertEquals(60, summary.getValidation().getRows());
    BackpropException e =
        fails(
            () ->
                client.train(
                    "options",
                    Data.xor(),
                    TrainOptions.iterations(2).with(config -> config.setBatchSize(-1))));
    assertEquals("config.batch_size", e.violations().get(0).field());
  }

  /** Waits for the end of the latest run and returns why it ended. */
  private static StopReason ended(String model) {
    try (TrainingRun run = client.watchTraining(model)) {
      return run.await().getStopReason();
    }
  }

  private static final TrainOptions ENDLESS = TrainOptions.iterations(10_000_000).reportEvery(5);

  private static void createSlow(String id) {
    client.createModel(Data.slowSpec(), CreateOptions.named(id));
  }

  @Test
  void leavingTheLoopStopsTheRun() {
    createSlow("leave");
    try (TrainingRun run = client.startTraining("leave", Data.wide(), ENDLESS)) {
      for (TrainingEvent event : run) {
        if (event.hasProgress()) break;
      }
    }
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("leave"));
  }

  @Test
  void anExceptionInTheCallbackStopsTheRun() {
    createSlow("throw");
    RuntimeException thrown =
        assertThrows(
            IllegalStateException.class,
            () ->
                client.train(
                    "throw",
                    Data.wide(),
                    ENDLESS,
                    event -> {
                      if (event.hasProgress()) throw new IllegalStateException("enough");
                    }));
    assertEquals("enough", thrown.getMessage());
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("throw"));
  }

  @Test
  void anInterruptCancelsTheRun() throws Exception {
    createSlow("interrupt");
    Thread thread = Thread.currentThread();
    BackpropException e =
        fails(
            () ->
                client.train(
                    "interrupt",
                    Data.wide(),
                    ENDLESS,
                    event -> {
                      if (event.hasProgress()) thread.interrupt();
                    }));
    assertEquals(Status.Code.CANCELLED, e.code());
    assertTrue(Thread.interrupted(), "the interrupt is kept");
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("interrupt"));
  }

  @Test
  void closingFromAnotherThreadEndsTheWait() {
    createSlow("close");
    TrainOptions silent = TrainOptions.iterations(10_000_000).reportEvery(10_000_000);
    try (TrainingRun run =
        client.startTraining("close", Data.wide(), silent.reportInterval(Duration.ofHours(1)))) {
      CompletableFuture.delayedExecutor(300, TimeUnit.MILLISECONDS).execute(run::close);
      BackpropException e = fails(run::await);
      assertEquals(Status.Code.CANCELLED, e.code());
      assertEquals(e, fails(() -> run.iterator().hasNext()));
    }
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("close"));
  }

  @Test
  void aCancelledContextCancelsTheCall() {
    createSlow("context");
    Context.CancellableContext context = Context.current().withCancellation();
    context.run(
        () -> {
          BackpropException e =
              fails(
                  () ->
                      client.train(
                          "context",
                          Data.wide(),
                          ENDLESS,
                          event -> {
                            if (event.hasProgress()) context.cancel(null);
                          }));
          assertEquals(Status.Code.CANCELLED, e.code());
        });
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("context"));
  }

  @Test
  void aDetachedRunContinuesAndCanBeStopped() {
    createSlow("detached");
    try (TrainingRun run = client.startTraining("detached", Data.wide(), ENDLESS.detach())) {
      assertTrue(run.iterator().next().hasStarted());
    }
    BackpropException e =
        fails(() -> client.train("detached", Data.wide(), TrainOptions.iterations(1)));
    assertEquals("RUN_UNDER_WAY", e.reason());
    assertEquals("models/detached/runs/1", client.stopTraining("detached").getRun());
    assertEquals(StopReason.STOP_REASON_STOPPED, ended("detached"));
  }

  @Test
  void aDeadlineEndsARun() {
    createSlow("deadline");
    BackpropException e =
        fails(
            () ->
                client
                    .withTimeout(Duration.ofMillis(400))
                    .train("deadline", Data.wide(), ENDLESS));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, e.code());
    assertEquals(StopReason.STOP_REASON_CANCELLED, ended("deadline"));
  }

  @Test
  void aRequestIdMakesAStepOnce() {
    create("once");
    BackpropClient once = client.withRequestId("id-1");
    StepResult first = once.step("once", Data.xor());
    assertEquals(first, once.step("once", Data.xor()));
    assertEquals(1, client.getModel("once").getStep());
    assertEquals(2, client.step("once", Data.xor()).step());
  }

  @Test
  void pipelinedStepsAreThoseOfSingleCalls() {
    create("single");
    create("pipelined");
    List<Batch> batches = new ArrayList<>();
    for (int i = 0; i < 100; ++i) batches.add(Data.xor().slice(i % 10 * 20, 20));
    List<StepResult> single = batches.stream().map(b -> client.step("single", b)).toList();
    assertEquals(single, client.steps("pipelined", batches));
    assertEquals(
        client.getParameters("single").tensors(), client.getParameters("pipelined").tensors());
  }

  @Test
  void aRefusedStepDoesNotEndTheStream() throws Exception {
    create("refused");
    try (StepStream steps = client.openSteps("refused", 4)) {
      CompletableFuture<StepResult> one = steps.send(Data.xor(), 0);
      CompletableFuture<StepResult> two = steps.send(Data.xor(), 0);
      CompletableFuture<StepResult> three = steps.send(Data.xor(), 1);
      assertEquals(1, one.get().step());
      ExecutionException e = assertThrows(ExecutionException.class, two::get);
      assertEquals(1, ((BackpropException) e.getCause()).currentStep().getAsLong());
      assertEquals(2, three.get().step());
    }
    BackpropException e =
        fails(() -> client.steps("nothing", Collections.nCopies(100, Data.xor())));
    assertEquals("MODEL_NOT_FOUND", e.reason());
  }

  @Test
  void sendFromAnActionOfAFutureDoesNotHang() throws Exception {
    create("action");
    CompletableFuture<Void> action;
    try (StepStream steps = client.openSteps("action", 1)) {
      action = steps.send(Data.xor()).thenAccept(result -> {
        steps.send(Data.xor()); // there is room
        steps.send(Data.xor()); // this one would wait for this thread
      });
    }
    ExecutionException e = assertThrows(ExecutionException.class, action::get);
    assertEquals(IllegalStateException.class, e.getCause().getClass());
  }

  @Test
  void gradientsAndParametersTravelExactly() {
    create("a");
    create("b");
    Gradients gradients = client.computeGradients("a", Data.xor());
    assertEquals(200, gradients.weight());
    assertEquals(
        List.of("layers[0].weights", "layers[0].bias", "layers[1].weights", "layers[1].bias"),
        List.copyOf(gradients.tensors().keySet()));
    assertEquals(1, client.applyGradients("a", gradients.tensors(), 0).getStep());
    client.step("b", Data.xor());
    ModelParameters a = client.getParameters("a");
    assertEquals(a.tensors(), client.getParameters("b").tensors());
    assertEquals(1, a.step().getAsLong());
    assertTrue(a.optimizerState().isEmpty());
    Tensor bias = Tensor.of(new float[] {0.5f, -0.25f});
    client.setParameters("b", ModelParameters.of(Map.of("layers[1].bias", bias)), 1);
    assertEquals(bias, client.getParameters("b").tensors().get("layers[1].bias"));
    Model copy =
        client.createModel(
            Data.spec(), CreateOptions.named("copy").withInitialParameters(a));
    assertEquals(a.tensors(), client.getParameters(copy.getName()).tensors());
  }

  @Test
  void predictionsAndMetricsArrive() {
    create("predict");
    client.train("predict", Data.xor(), TrainOptions.iterations(2000));
    Prediction prediction = client.predict("predict", Data.xor().inputs());
    Tensor probabilities = prediction.probabilities().orElseThrow();
    assertArrayEquals(new int[] {200, 2}, probabilities.shape());
    assertEquals(DataType.DATA_TYPE_FLOAT32, probabilities.type());
    float[] numbers = probabilities.floats();
    for (int row = 0; row < 200; ++row) {
      int larger = numbers[2 * row + 1] > numbers[2 * row] ? 1 : 0;
      assertEquals(larger, prediction.classes().get(row));
    }
    assertTrue(prediction.logits().isEmpty());
    assertTrue(
        client
            .predict("predict", Data.xor().inputs(), PredictOutput.PREDICT_OUTPUT_LOGITS)
            .logits()
            .isPresent());
    double accuracy = client.evaluate("predict", Data.xor()).getMetrics().getAccuracy();
    assertTrue(accuracy > 0.9, "accuracy " + accuracy);
    assertEquals(
        GradCheckVerdict.GRAD_CHECK_VERDICT_PASSED,
        client.gradCheck("predict", Data.xor()).getVerdict());
  }

  @Test
  void largeTensorsTravelBothWays() {
    client.createModel(Specs.mlp(1250, 4000, 2).build(), CreateOptions.named("large"));
    float[] weights = new float[1250 * 4000];
    for (int i = 0; i < weights.length; ++i) weights[i] = (i % 8191) / 8192f;
    Tensor sent = Tensor.of(weights, 1250, 4000);
    client.setParameters("large", ModelParameters.of(Map.of("layers[0].weights", sent)));
    Tensor back = client.getParameters("large").tensors().get("layers[0].weights");
    assertArrayEquals(weights, back.floats());
  }

  @Test
  void checkpointsAreRestored() {
    create("saved");
    client.step("saved", Data.xor());
    ModelParameters then = client.getParameters("saved");
    assertEquals(
        "models/saved/checkpoints/one", client.createCheckpoint("saved", "one").getName());
    client.step("saved", Data.xor());
    assertNotEquals(then.tensors(), client.getParameters("saved").tensors());
    assertEquals(1, client.restoreCheckpoint("saved", "one"));
    assertEquals(then.tensors(), client.getParameters("saved").tensors());
    assertEquals(
        "STEP_MISMATCH", fails(() -> client.restoreCheckpoint("saved", "one", 5)).reason());
    client.deleteCheckpoint("saved", "models/saved/checkpoints/one");
    assertEquals(0, client.listCheckpoints("saved").count());
  }

  @Test
  void datasetsAreUploadedAndUsed() {
    List<Long> progress = new ArrayList<>();
    var dataset =
        client.uploadDataset(
            "points",
            Data.xor(1000),
            UploadOptions.defaults()
                .withChunkRows(300)
                .withFeatureNames(List.of("x", "y"))
                .withLabels(Map.of("kind", "xor"))
                .withProgress(progress::add));
    assertEquals(1000, dataset.getRows());
    assertEquals(List.of("x", "y"), dataset.getFeatureNamesList());
    assertEquals(List.of(300L, 600L, 900L, 1000L), progress);
    create("on-rows");
    create("on-dataset");
    TrainOptions options = TrainOptions.iterations(20).batchSize(64);
    client.train("on-rows", Data.xor(1000), options);
    client.train("on-dataset", new DatasetRef("points"), options);
    assertEquals(
        client.getParameters("on-rows").tensors(), client.getParameters("on-dataset").tensors());
    assertEquals(
        1000, client.evaluate("on-rows", new DatasetRef("points")).getMetrics().getRows());
    assertEquals("DATASET_EXISTS", fails(() -> client.uploadDataset("points", Data.xor())).reason());
    assertEquals(1, client.listDatasets().filter(d -> d.getRows() == 1000).count());
    client.deleteDataset("points");
    assertEquals("DATASET_NOT_FOUND", fails(() -> client.getDataset("points")).reason());
  }

  @Test
  void everyKindOfRowsPassesTheChecksum() {
    Tensor inputs = Tensor.of(new double[] {0.1, 0.2, 0.3, 0.4}, 2, 2);
    List<Batch> kinds =
        List.of(
            Batch.of(inputs, 0, 1),
            Batch.withLabels(inputs, Tensor.of(new long[] {0, 1})),
            Batch.withNames(inputs, List.of("no", "yes")),
            Batch.withTargets(inputs, Tensor.of(new float[] {0.5f, 1}, 2, 1)),
            Batch.of(inputs, 0, 1).withSampleWeights(0.5, 2));
    for (DataType type : List.of(DataType.DATA_TYPE_FLOAT32, DataType.DATA_TYPE_FLOAT64)) {
      for (int i = 0; i < kinds.size(); ++i) {
        String id = "kind-" + i + "-" + type.getNumber();
        var stored =
            client.uploadDataset(
                id, kinds.get(i), UploadOptions.defaults().withDataType(type));
        assertEquals(type, stored.getDataType());
      }
    }
    assertEquals(
        DataType.DATA_TYPE_FLOAT64, client.uploadDataset("own", kinds.get(0)).getDataType());
  }

  @Test
  void anExceptionInTheProgressOfAnUploadEndsIt() {
    assertThrows(
        IllegalStateException.class,
        () ->
            client.uploadDataset(
                "thrown",
                Data.xor(),
                UploadOptions.defaults()
                    .withProgress(
                        rows -> {
                          throw new IllegalStateException();
                        })));
  }

  @Test
  void modelsTravelThroughFiles() throws Exception {
    create("travel");
    client.step("travel", Data.xor());
    Path file = folder.resolve("model");
    long bytes = client.exportModel("travel", file);
    assertEquals(bytes, Files.size(file));
    assertEquals(1, client.importModel(file, CreateOptions.named("arrived")).getStep());
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    assertEquals(bytes, client.exportModel("travel", out));
    client.importModel(
        new ByteArrayInputStream(out.toByteArray()), CreateOptions.named("streamed"));
    for (String id : List.of("arrived", "streamed")) {
      assertEquals(
          client.getParameters("travel").tensors(), client.getParameters(id).tensors());
    }
    byte[] damaged = out.toByteArray();
    damaged[damaged.length / 2] ^= 1;
    Files.write(file, damaged);
    BackpropException e = fails(() -> client.importModel(file, CreateOptions.named("damaged")));
    assertEquals(Status.Code.INVALID_ARGUMENT, e.code());
    Files.write(file, new byte[0]);
    e = fails(() -> client.importModel(file, CreateOptions.named("empty")));
    assertEquals(Status.Code.INVALID_ARGUMENT, e.code());
    Path missing = folder.resolve("missing");
    assertEquals("MODEL_NOT_FOUND", fails(() -> client.exportModel("nothing", missing)).reason());
    assertFalse(Files.exists(missing));
    try (var left = Files.list(folder)) {
      assertEquals(List.of(file), left.toList(), "no partial file is left");
    }
  }

  @Test
  void theServerTellsItsStatus() throws Exception {
    assertTrue(client.isServing());
    assertTrue(client.isServing("backprop.v1.TrainingService"));
    assertEquals(
        Status.Code.NOT_FOUND, fails(() -> client.isServing("nothing")).code());
    assertFalse(
        client.getServerStatus(ServerStatusView.SERVER_STATUS_VIEW_BASIC).getVersion().isEmpty());
    create("counted");
    assertEquals("projects/default", client.getProject("default").getName());
    assertEquals(1, client.listProjects().count());
    assertTrue(client.isConnected());
    Path file = folder.resolve("backup");
    assertTrue(client.createBackup("", file) > 0);
    try (TestServer empty = TestServer.start();
        BackpropClient other = empty.connect()) {
      long models = other.restoreBackup(file).getModels();
      assertEquals(models, other.listModels().count());
      assertTrue(models > 0);
    }
  }

  @Test
  void futuresHoldResultsAndErrors() throws Exception {
    AsyncBackpropClient async = client.async();
    assertEquals(
        "models/future",
        async.createModel(Data.spec(), CreateOptions.named("future")).get().getName());
    List<CompletableFuture<StepResult>> steps = new ArrayList<>();
    for (int i = 0; i < 10; ++i) steps.add(async.step("future", Data.xor()));
    for (var step : steps) step.get();
    assertEquals(10, async.getModel("future").get().getStep());
    async.deleteModel("future").get();
    ExecutionException e =
        assertThrows(ExecutionException.class, () -> async.getModel("future").get());
    assertEquals("MODEL_NOT_FOUND", ((BackpropException) e.getCause()).reason());
  }

  @Test
  void callsOfAClosedClientFailAtOnce() {
    BackpropClient other = server.connect();
    assertTrue(other.isServing());
    other.withTimeout(Duration.ofSeconds(1)).close(); // a view
    assertTrue(other.isServing());
    other.close();
    long start = System.nanoTime();
    assertEquals(Status.Code.CANCELLED, fails(other::isServing).code());
    assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(5));
  }
}
