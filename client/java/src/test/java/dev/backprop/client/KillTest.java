package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.backprop.v1.Dataset;
import dev.backprop.v1.StopReason;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingSummary;
import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The server is killed with -9, frozen, and its connections are cut. */
@Timeout(180)
class KillTest {
  private TestServer server;
  private BackpropClient client;

  @BeforeEach
  void start() throws Exception {
    server = TestServer.start();
    client = server.connect();
    client.createModel(Data.spec(), CreateOptions.named("a"));
    client.createModel(Data.spec(), CreateOptions.named("b"));
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    server.close();
  }

  private static void check(boolean condition) {
    if (!condition) throw new AssertionError();
  }

  @Test
  void aStepWaitsForTheServerAndIsMadeOnce() throws Exception {
    server.kill();
    CompletableFuture<StepResult> blocking =
        CompletableFuture.supplyAsync(() -> client.step("a", Data.xor()));
    CompletableFuture<StepResult> future = client.async().step("b", Data.xor());
    Thread.sleep(500);
    assertFalse(blocking.isDone());
    assertFalse(future.isDone());
    server.restart();
    assertEquals(1, blocking.get().step());
    assertEquals(1, future.get().step());
    assertEquals(1, client.getModel("a").getStep());
    assertEquals(client.getParameters("a").tensors(), client.getParameters("b").tensors());
  }

  @Test
  void aResponseThatIsLostIsFetchedAgain() throws Exception {
    try (Link link = new Link(server.address());
        BackpropClient linked = BackpropClient.connect(link.address())) {
      check(linked.isServing());
      link.hold();
      CompletableFuture<StepResult> step =
          CompletableFuture.supplyAsync(() -> linked.step("a", Data.xor()));
      while (client.getModel("a").getStep() == 0) Thread.sleep(5);
      server.kill();
      link.cut();
      server.restart();
      assertEquals(1, step.get().step());
      assertEquals(1, client.getModel("a").getStep(), "the step was made twice");
    }
  }

  @Test
  void attemptsEnd() throws Exception {
    try (BackpropClient impatient =
        BackpropClient.builder(server.address())
            .retry(new RetryPolicy(3, Duration.ofMillis(20), Duration.ofMillis(40)))
            .build()) {
      check(impatient.isServing());
      server.kill();
      BackpropException e =
          assertThrows(BackpropException.class, () -> impatient.getModel("a"));
      assertEquals(Status.Code.UNAVAILABLE, e.code());
      ExecutionException f =
          assertThrows(ExecutionException.class, () -> impatient.async().getModel("a").get());
      assertEquals(Status.Code.UNAVAILABLE, ((BackpropException) f.getCause()).code());
    }
  }

  @Test
  void theDeadlineCoversAllAttempts() throws Exception {
    server.kill();
    BackpropClient hasty = client.withTimeout(Duration.ofMillis(700));
    long start = System.nanoTime();
    BackpropException e = assertThrows(BackpropException.class, () -> hasty.getModel("a"));
    long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
    assertTrue(millis < 5000, millis + " ms");
    assertTrue(
        e.code() == Status.Code.UNAVAILABLE || e.code() == Status.Code.DEADLINE_EXCEEDED, "" + e);
  }

  @Test
  void aFrozenServerMeetsTheDeadlineAndACancelledFuture() throws Exception {
    check(client.isServing());
    server.signal("STOP");
    try {
      BackpropClient hasty = client.withTimeout(Duration.ofMillis(400));
      BackpropException e = assertThrows(BackpropException.class, () -> hasty.step("a", Data.xor()));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, e.code());
      CompletableFuture<StepResult> future = client.async().step("a", Data.xor());
      Thread.sleep(100);
      assertTrue(future.cancel(true));
      Context.CancellableContext context = Context.current().withCancellation();
      CompletableFuture<?>[] inContext = new CompletableFuture<?>[1];
      context.run(() -> inContext[0] = client.async().getModel("a"));
      context.cancel(null);
      ExecutionException cancelled =
          assertThrows(ExecutionException.class, () -> inContext[0].get(5, TimeUnit.SECONDS));
      assertEquals(Status.Code.CANCELLED, ((BackpropException) cancelled.getCause()).code());
      Thread caller = Thread.currentThread();
      CompletableFuture.delayedExecutor(200, TimeUnit.MILLISECONDS).execute(caller::interrupt);
      e = assertThrows(BackpropException.class, () -> client.getModel("a"));
      assertEquals(Status.Code.CANCELLED, e.code());
      assertTrue(Thread.interrupted());
    } finally {
      server.signal("CONT");
    }
    check(client.isServing());
  }

  @Test
  void aRunContinuesAfterTwoKills() throws Exception {
    client.createModel(Data.slowSpec(), CreateOptions.named("killed"));
    client.createModel(Data.slowSpec(), CreateOptions.named("undisturbed"));
    TrainOptions options = TrainOptions.iterations(600).batchSize(256).reportEvery(10);
    List<Long> sequences = new ArrayList<>();
    List<Long> kills = new ArrayList<>(List.of(100L, 300L));
    TrainingSummary summary =
        client.train(
            "killed",
            Data.wide(),
            options,
            event -> {
              sequences.add(event.getSequence());
              if (!kills.isEmpty() && event.getProgress().getIteration() >= kills.get(0)) {
                kills.remove(0);
                try {
                  server.kill();
                  server.restart();
                } catch (Exception e) {
                  throw new IllegalStateException(e);
                }
              }
            });
    assertTrue(kills.isEmpty());
    assertEquals(StopReason.STOP_REASON_COMPLETED, summary.getStopReason());
    assertEquals(600, summary.getStep());
    assertEquals(
        sequences.stream().sorted().distinct().toList(), sequences, "an event came twice");
    assertEquals(
        summary.getMetrics(),
        client.train("undisturbed", Data.wide(), options).getMetrics());
    assertEquals(
        client.getParameters("undisturbed").tensors(), client.getParameters("killed").tensors());
  }

  @Test
  void aWatchContinuesBySequence() throws Exception {
    client.createModel(Data.slowSpec(), CreateOptions.named("watched"));
    TrainOptions options = TrainOptions.iterations(600).reportEvery(10).detach();
    try (TrainingRun run = client.startTraining("watched", Data.wide(), options)) {
      check(run.iterator().next().hasStarted());
    }
    List<Long> sequences = new ArrayList<>();
    boolean killed = false;
    try (TrainingRun run = client.watchTraining("watched")) {
      for (TrainingEvent event : run) {
        sequences.add(event.getSequence());
        if (!killed && event.getProgress().getIteration() >= 50) {
          server.kill();
          server.restart();
          killed = true;
        }
      }
      assertEquals(600, run.await().getIterations());
    }
    assertTrue(killed);
    assertEquals(1, sequences.get(0));
    assertEquals(sequences.stream().sorted().distinct().toList(), sequences);
  }

  @Test
  void aBrokenConnectionThatStoppedTheRunIsAnError() throws Exception {
    client.createModel(Data.slowSpec(), CreateOptions.named("broken"));
    try (Link link = new Link(server.address());
        BackpropClient linked = BackpropClient.connect(link.address());
        TrainingRun run =
            linked.startTraining(
                "broken", Data.wide(), TrainOptions.iterations(10_000_000).reportEvery(5))) {
      check(run.iterator().next().hasStarted());
      link.cut();
      BackpropException e = assertThrows(BackpropException.class, run::await);
      assertEquals(Status.Code.UNAVAILABLE, e.code());
      assertEquals("CONNECTION_BROKE", e.reason());
    }
  }

  @Test
  void pipelinedStepsAreSentAgainInOrder() throws Exception {
    List<Batch> batches = new ArrayList<>();
    for (int i = 0; i < 300; ++i) batches.add(Data.xor().slice(i % 10 * 20, 20));
    List<StepResult> wanted = client.steps("b", batches);
    List<CompletableFuture<StepResult>> futures = new ArrayList<>();
    try (StepStream steps = client.openSteps("a")) {
      for (int i = 0; i < batches.size(); ++i) {
        futures.add(steps.send(batches.get(i)));
        if (i == 100 || i == 200) {
          server.kill();
          server.restart();
        }
      }
    }
    List<StepResult> made = new ArrayList<>();
    for (var future : futures) made.add(future.get());
    assertEquals(wanted, made);
    assertEquals(client.getParameters("b").tensors(), client.getParameters("a").tensors());
  }

  @Test
  void pipelinedStepsWithALostResponseAreNotMadeTwice() throws Exception {
    try (Link link = new Link(server.address());
        BackpropClient linked = BackpropClient.connect(link.address());
        StepStream steps = linked.openSteps("a")) {
      assertEquals(1, steps.send(Data.xor()).get().step());
      link.hold();
      List<CompletableFuture<StepResult>> futures = new ArrayList<>();
      for (int i = 0; i < 20; ++i) futures.add(steps.send(Data.xor()));
      while (client.getModel("a").getStep() < 21) Thread.sleep(5);
      link.cut();
      for (int i = 0; i < 20; ++i) assertEquals(i + 2, futures.get(i).get().step());
    }
    assertEquals(21, client.getModel("a").getStep());
  }

  @Test
  void aPeerThatAcceptsAndIsSilentDoesNotHoldACall() throws Exception {
    try (Link link = new Link(server.address());
        BackpropClient linked = BackpropClient.connect(link.address())) {
      link.hold(); // the settings of HTTP/2 do not arrive
      CompletableFuture<StepResult> step = linked.async().step("a", Data.xor());
      Thread.sleep(500);
      link.releaseNewConnections();
      assertEquals(1, step.get(40, TimeUnit.SECONDS).step());
    }
  }

  @Test
  void stepsOfAServerThatIsGoneFail() throws Exception {
    try (BackpropClient impatient =
        BackpropClient.builder(server.address())
            .retry(new RetryPolicy(2, Duration.ofMillis(10), Duration.ofMillis(10)))
            .build()) {
      StepStream steps = impatient.openSteps("a");
      assertEquals(1, steps.send(Data.xor()).get().step());
      server.kill();
      ExecutionException e =
          assertThrows(ExecutionException.class, () -> steps.send(Data.xor()).get());
      assertEquals(Status.Code.UNAVAILABLE, ((BackpropException) e.getCause()).code());
      assertThrows(BackpropException.class, () -> steps.send(Data.xor()));
      steps.close();
    }
  }

  @Test
  void anUploadContinuesWhereTheServerIs() throws Exception {
    Batch rows = Data.xor(20_000);
    List<Long> asked = new ArrayList<>();
    boolean[] killed = {false};
    RowSource source = Transfers.source(rows, 500);
    Dataset dataset =
        client.uploadDataset(
            "rows",
            first -> {
              asked.add(first);
              return source.rows(first);
            },
            UploadOptions.defaults()
                .withProgress(
                    sent -> {
                      if (killed[0] || sent < 10_000) return;
                      killed[0] = true;
                      try {
                        // The server has kept some of the rows.
                        while (client.getDataset("rows").getRows() < 5000) Thread.sleep(5);
                        server.kill();
                        server.restart();
                      } catch (Exception e) {
                        throw new IllegalStateException(e);
                      }
                    }));
    assertTrue(killed[0]);
    assertEquals(20_000, dataset.getRows());
    assertEquals(0, asked.stream().filter(first -> first == 0).count() - 1, "sent from the start");
    client.train("a", rows, TrainOptions.iterations(20).batchSize(100));
    client.train("b", new DatasetRef("rows"), TrainOptions.iterations(20).batchSize(100));
    assertEquals(client.getParameters("a").tensors(), client.getParameters("b").tensors());
  }

  @Test
  void anImportWithALostResponseMakesOneModel() throws Exception {
    java.nio.file.Path file = server.folder().resolve("a.model");
    client.exportModel("a", file);
    try (Link link = new Link(server.address());
        BackpropClient linked = BackpropClient.connect(link.address())) {
      check(linked.isServing());
      link.hold();
      var imported =
          CompletableFuture.supplyAsync(
              () -> {
                try {
                  return linked.importModel(file, CreateOptions.named("c"));
                } catch (java.io.IOException e) {
                  throw new java.io.UncheckedIOException(e);
                }
              });
      while (client.listModels().count() < 3) Thread.sleep(5);
      link.cut();
      assertEquals("models/c", imported.get().getName());
    }
  }

  @Test
  void anExportBeginsAgain() throws Exception {
    client.createModel(Specs.mlp(500, 4000, 2).build(), CreateOptions.named("large"));
    java.nio.file.Path file = server.folder().resolve("large.model");
    server.kill();
    var exported =
        CompletableFuture.supplyAsync(
            () -> {
              try {
                return client.exportModel("large", file);
              } catch (java.io.IOException e) {
                throw new java.io.UncheckedIOException(e);
              }
            });
    Thread.sleep(300);
    assertFalse(java.nio.file.Files.exists(file));
    server.restart();
    assertEquals(exported.get(), java.nio.file.Files.size(file));
    client.importModel(file, CreateOptions.named("again"));
  }
}
