package dev.backprop.client;

import dev.backprop.v1.StopReason;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingSummary;
import io.grpc.Context;
import io.grpc.Status;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.function.LongFunction;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * The events of a run, as they happen: its start, its progress, and at its end the summary. If the
 * connection breaks or the server restarts, the call is made again and continues after the last
 * event; no event is delivered twice.
 *
 * <p>{@link #close} ends the call. Unless the run is detached, or is only watched, this stops the
 * run: use try-with-resources, so that an exception stops it as well.
 *
 * <pre>{@code
 * try (TrainingRun run = client.startTraining("xor", batch, TrainOptions.iterations(2000))) {
 *   for (TrainingEvent event : run) {
 *     if (event.getProgress().getMetrics().getLoss() < 0.1) break;
 *   }
 * }
 * }</pre>
 *
 * <p>One thread may iterate; {@link #close} may be called from any thread. Interrupting the thread
 * that waits for an event cancels the call.
 */
public final class TrainingRun implements Iterable<TrainingEvent>, AutoCloseable {
  private final Transport transport;
  private final Attempts attempts;
  private final LongFunction<Iterator<TrainingEvent>> opener; // of the sequence to begin with
  private final boolean endsWithCall;
  private final Events events = new Events();

  // Of the current call. Guarded by this.
  private Context.CancellableContext context;
  private boolean closed;

  // Of the thread that iterates.
  private Iterator<TrainingEvent> stream;
  private long next = 1;
  private boolean reconnected;
  private TrainingEvent ready;
  private TrainingSummary summary;
  private BackpropException failed;

  /**
   * @param opener starts a call in the current context
   * @param endsWithCall whether the end of the call stops the run
   */
  TrainingRun(
      Transport transport,
      Attempts attempts,
      boolean endsWithCall,
      LongFunction<Iterator<TrainingEvent>> opener) {
    this.transport = transport;
    this.attempts = attempts;
    this.endsWithCall = endsWithCall;
    this.opener = opener;
    open();
  }

  private void open() {
    Context.CancellableContext mine;
    synchronized (this) {
      if (closed) throw closedFailure();
      mine = context = Context.current().withCancellation();
    }
    Context previous = mine.attach();
    try {
      stream = opener.apply(next);
    } catch (RuntimeException e) { // the token file cannot be read
      endCall();
      throw e;
    } finally {
      mine.detach(previous);
    }
  }

  private static BackpropException closedFailure() {
    return BackpropException.of(Status.Code.CANCELLED, "the run was closed", null);
  }

  private synchronized boolean isClosed() {
    return closed;
  }

  private synchronized void endCall() {
    if (context != null) context.cancel(null);
    context = null;
  }

  private TrainingEvent fetch() {
    for (; ; ) {
      TrainingEvent event;
      try {
        event = stream.hasNext() ? stream.next() : null;
      } catch (RuntimeException e) {
        endCall();
        BackpropException failure = transport.failure(e, isClosed() || Transport.cancelledHere());
        if (isClosed()) throw closedFailure();
        attempts.pauseOrThrow(failure);
        reconnected = true;
        open();
        continue;
      }
      if (event == null) {
        throw BackpropException.of(
            Status.Code.UNAVAILABLE, "the stream ended without a summary", null);
      }
      attempts.progress();
      if (event.getSequence() < next) continue;
      next = event.getSequence() + 1;
      return event.hasSummary() ? ended(event) : event;
    }
  }

  private TrainingEvent ended(TrainingEvent event) {
    if (reconnected
        && endsWithCall
        && event.getSummary().getStopReason() == StopReason.STOP_REASON_CANCELLED) {
      throw BackpropException.withReason(
          Status.Code.UNAVAILABLE,
          "CONNECTION_BROKE",
          "the connection broke, which stopped the run after "
              + event.getSummary().getIterations()
              + " iterations; a detached run would have continued");
    }
    summary = event.getSummary();
    return event;
  }

  /** Waits for events. */
  private final class Events implements Iterator<TrainingEvent> {
    @Override
    public boolean hasNext() {
      if (ready != null) return true;
      if (failed != null) throw failed;
      if (summary != null) {
        endCall();
        return false;
      }
      try {
        ready = fetch();
      } catch (BackpropException e) {
        failed = e;
        close();
        throw e;
      }
      return ready != null;
    }

    @Override
    public TrainingEvent next() {
      if (!hasNext()) throw new NoSuchElementException();
      TrainingEvent event = ready;
      ready = null;
      return event;
    }
  }

  /**
   * Returns the events that were not read yet. Every call returns the same iterator. It throws a
   * {@link BackpropException} if the run cannot be followed to its end.
   *
   * @return the iterator
   */
  @Override
  public Iterator<TrainingEvent> iterator() {
    return events;
  }

  /**
   * Returns the events as a stream. Closing the stream closes the run; a terminal operation alone
   * does not.
   *
   * @return a sequential stream of the events that were not read yet
   */
  public Stream<TrainingEvent> stream() {
    return StreamSupport.stream(
            Spliterators.spliteratorUnknownSize(
                events, Spliterator.ORDERED | Spliterator.NONNULL | Spliterator.IMMUTABLE),
            false)
        .onClose(this::close);
  }

  /**
   * Reads the remaining events.
   *
   * @return the summary of the run
   */
  public TrainingSummary await() {
    while (events.hasNext()) events.next();
    return summary;
  }

  /** Ends the call. Unless the run is detached, is only watched, or has ended, this stops it. */
  @Override
  public void close() {
    synchronized (this) {
      closed = true;
    }
    endCall();
  }
}
