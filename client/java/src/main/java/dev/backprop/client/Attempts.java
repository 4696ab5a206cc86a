package dev.backprop.client;

import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Status;
import java.time.Duration;
import java.util.OptionalLong;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** Counts the attempts of one call, and knows its deadline. Not thread-safe. */
final class Attempts {
  private final RetryPolicy policy;
  private final Deadline deadline; // null: none
  private int made;
  private long pauseNanos;

  /**
   * @param timeout for all attempts and pauses together; null: no limit
   */
  Attempts(RetryPolicy policy, Duration timeout) {
    this.policy = policy;
    this.deadline = timeout == null ? null : Deadline.after(nanos(timeout), TimeUnit.NANOSECONDS);
    progress();
  }

  private static long nanos(Duration duration) {
    try {
      return duration.toNanos();
    } catch (ArithmeticException tooLong) {
      return Long.MAX_VALUE / 4;
    }
  }

  Deadline deadline() {
    return deadline;
  }

  /** The next failure counts as the first one. */
  void progress() {
    made = 0;
    pauseNanos = Math.min(nanos(policy.firstPause()), nanos(policy.lastPause()));
  }

  /** Whether a failure may be repaired by another attempt. */
  static boolean isTransient(BackpropException failure) {
    return failure.code() == Status.Code.UNAVAILABLE
        || (failure.code() == Status.Code.RESOURCE_EXHAUSTED && failure.retryDelay().isPresent());
  }

  /** Counts a failed attempt. Returns the pause before the next one; empty: the failure is final. */
  OptionalLong pauseNanosAfter(BackpropException failure) {
    if (!isTransient(failure) || ++made >= policy.maxAttempts()) return OptionalLong.empty();
    long pause = pauseNanos == 0 ? 0 : ThreadLocalRandom.current().nextLong(pauseNanos + 1);
    pause += failure.retryDelay().map(Attempts::nanos).orElse(0L);
    pauseNanos = Math.min(2 * pauseNanos, nanos(policy.lastPause()));
    if (deadline != null && deadline.timeRemaining(TimeUnit.NANOSECONDS) <= pause) {
      return OptionalLong.empty();
    }
    return OptionalLong.of(pause);
  }

  /** Returns after the pause, or throws the failure if no other attempt follows. */
  void pauseOrThrow(BackpropException failure) {
    OptionalLong pause = pauseNanosAfter(failure);
    if (pause.isEmpty()) throw failure;
    try {
      TimeUnit.NANOSECONDS.sleep(pause.getAsLong());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw interrupted(failure);
    }
    if (Context.current().isCancelled()) throw interrupted(failure);
  }

  static BackpropException interrupted(Throwable cause) {
    return BackpropException.of(Status.Code.CANCELLED, "the caller cancelled the call", cause);
  }
}
