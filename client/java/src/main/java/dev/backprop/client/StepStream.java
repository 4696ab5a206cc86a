package dev.backprop.client;

import dev.backprop.v1.StepRequest;
import dev.backprop.v1.StepStreamRequest;
import dev.backprop.v1.StepStreamResponse;
import dev.backprop.v1.TrainingServiceGrpc;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Pipelined steps on one model: many are on their way at the same time, and the server makes them
 * in the order in which they were sent. If the connection breaks, the steps without an answer are
 * sent again, in order and with the same request ids, so that none is lost and none is made twice.
 *
 * <pre>{@code
 * try (StepStream steps = client.openSteps("xor")) {
 *   for (Batch batch : batches) steps.send(batch).thenAccept(r -> log(r.loss()));
 * } // waits for all answers
 * }</pre>
 *
 * <p>Thread-safe. Actions that are attached to the futures run on a thread of the stream: they must
 * not block and must not call {@link #send}; use the {@code Async} methods of the future for that.
 */
public final class StepStream implements AutoCloseable {
  /** The default and the largest number of steps without an answer. */
  public static final int MAX_IN_FLIGHT = 32;

  private record Pending(StepRequest request, CompletableFuture<StepResult> future) {}

  private final Transport transport;
  private final Options options;
  private final String model;
  private final int inFlight;
  private final Attempts attempts;
  private final Context context = Context.current();

  // Guarded by this.
  private final ArrayDeque<Pending> pending = new ArrayDeque<>();
  private ClientCall<StepStreamRequest, StepStreamResponse> call; // null: none is open
  private boolean pausing; // a new call follows
  private boolean closing; // no further steps
  private BackpropException failed; // final
  private Thread answering; // runs actions of futures

  StepStream(Transport transport, Options options, String model, int inFlight) {
    if (inFlight < 1 || inFlight > MAX_IN_FLIGHT) {
      throw BackpropException.invalid(
          "inFlight", "must be in [1, " + MAX_IN_FLIGHT + "], got " + inFlight);
    }
    this.transport = transport;
    this.options = options;
    this.model = Names.model(model);
    this.inFlight = inFlight;
    this.attempts = new Attempts(transport.retry(), options.timeout());
  }

  /**
   * Sends a step. Waits while as many steps as allowed have no answer.
   *
   * @param batch the rows
   * @return the result. A step that the server refuses fails with a {@link BackpropException}; the
   *     steps after it are made nevertheless
   */
  public CompletableFuture<StepResult> send(Batch batch) {
    return send(batch, OptionalLong.empty());
  }

  /**
   * Sends a step that is refused as ABORTED if the model has another step count.
   *
   * @param batch the rows
   * @param expectedStep the expected step count of the model before the step
   * @return the result
   */
  public CompletableFuture<StepResult> send(Batch batch, long expectedStep) {
    return send(batch, OptionalLong.of(expectedStep));
  }

  private CompletableFuture<StepResult> send(Batch batch, OptionalLong expectedStep) {
    StepRequest request =
        Calls.stepRequest(model, batch, expectedStep, Names.randomId());
    Pending step = new Pending(request, new CompletableFuture<>());
    synchronized (this) {
      if (pending.size() >= inFlight && Thread.currentThread() == answering) {
        throw new IllegalStateException("send would wait for the thread that it runs on");
      }
      while (failed == null && !closing && pending.size() >= inFlight) await();
      if (failed != null) throw failed;
      if (closing) throw new IllegalStateException("the stream is closed");
      pending.add(step);
      if (call != null) {
        call.sendMessage(message(step));
      } else if (!pausing) {
        open();
      }
    }
    return step.future();
  }

  private static StepStreamRequest message(Pending step) {
    return StepStreamRequest.newBuilder().setStep(step.request()).build();
  }

  /** Waits for a change. An interrupt cancels the stream. */
  private void await() {
    try {
      wait();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      BackpropException interrupted = Attempts.interrupted(e);
      failAll(interrupted);
      throw interrupted;
    }
  }

  /** Starts a call and sends all steps without an answer. Requires the lock. */
  private void open() {
    pausing = false;
    context.run(this::openHere);
  }

  private void openHere() {
    var opened =
        transport
            .channel()
            .newCall(
                TrainingServiceGrpc.getStepStreamMethod(),
                transport.options(attempts.deadline()));
    call = opened;
    try {
      opened.start(new Answers(opened), new Metadata());
    } catch (RuntimeException e) { // the token file cannot be read
      failAll(transport.failure(e, true));
      return;
    }
    opened.request(inFlight);
    for (Pending step : pending) opened.sendMessage(message(step));
    if (closing) opened.halfClose();
  }

  private final class Answers extends ClientCall.Listener<StepStreamResponse> {
    private final ClientCall<StepStreamRequest, StepStreamResponse> mine;

    Answers(ClientCall<StepStreamRequest, StepStreamResponse> mine) {
      this.mine = mine;
    }

    @Override
    public void onMessage(StepStreamResponse response) {
      Pending step;
      synchronized (StepStream.this) {
        if (call != mine) return;
        step = pending.poll();
        attempts.progress();
        answering = Thread.currentThread();
        StepStream.this.notifyAll();
      }
      if (step == null) return;
      try {
        if (response.hasError()) {
          step.future().completeExceptionally(BackpropException.of(response.getError()));
        } else {
          step.future().complete(Messages.step(response.getStep()));
        }
      } finally {
        synchronized (StepStream.this) {
          answering = null;
        }
      }
      mine.request(1);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      synchronized (StepStream.this) {
        if (call != mine) return;
        call = null;
        StepStream.this.notifyAll();
        // Without steps, an end of the call (such as of an idle one) is no failure: the next step
        // opens another one.
        if (pending.isEmpty()) return;
        BackpropException failure =
            status.isOk()
                ? BackpropException.of(
                    Status.Code.UNAVAILABLE, "the server ended the stream", null)
                : transport.failure(status.asRuntimeException(trailers), context.isCancelled());
        OptionalLong pause = attempts.pauseNanosAfter(failure);
        if (pause.isEmpty()) {
          failAll(failure);
          return;
        }
        pausing = true;
        CompletableFuture.delayedExecutor(pause.getAsLong(), TimeUnit.NANOSECONDS)
            .execute(
                () -> {
                  synchronized (StepStream.this) {
                    if (pausing && failed == null) open();
                  }
                });
      }
    }
  }

  /** Ends the stream for good. Requires the lock. */
  private void failAll(BackpropException failure) {
    if (failed == null) failed = failure;
    pausing = false;
    var open = call;
    call = null;
    if (open != null) open.cancel("the stream has failed", null);
    List<Pending> unanswered = List.copyOf(pending);
    pending.clear();
    // Without the lock, because actions of the caller may run.
    CompletableFuture.runAsync(
        () -> unanswered.forEach(step -> step.future().completeExceptionally(failure)));
    notifyAll();
  }

  /**
   * Cancels the steps without an answer. The server may have made some of them.
   */
  public void cancel() {
    synchronized (this) {
      failAll(BackpropException.of(Status.Code.CANCELLED, "the stream was cancelled", null));
    }
  }

  /**
   * Waits until all steps have an answer and ends the stream. Failures of steps are those of their
   * futures; they are not thrown here.
   */
  @Override
  public void close() {
    synchronized (this) {
      if (closing) return;
      closing = true;
      if (call != null) call.halfClose();
      while (failed == null && (!pending.isEmpty() || call != null)) await();
    }
  }
}
