package dev.backprop.client;

import java.time.Duration;
import java.util.Objects;

/**
 * When calls are repeated. A call is repeated after UNAVAILABLE, and after RESOURCE_EXHAUSTED if the
 * server says when to retry. All attempts of a call carry the same request id, so that nothing is
 * done twice. The pause before a repetition is random between zero and {@code firstPause}, doubled
 * each time up to {@code lastPause}, and added to the time that the server asks for.
 *
 * @param maxAttempts largest number of attempts, at least 1; 1: no repetition
 * @param firstPause upper limit of the first pause
 * @param lastPause upper limit of every pause
 */
public record RetryPolicy(int maxAttempts, Duration firstPause, Duration lastPause) {
  /** 8 attempts, pauses from 50 ms to 1 s. */
  public static final RetryPolicy DEFAULT =
      new RetryPolicy(8, Duration.ofMillis(50), Duration.ofSeconds(1));

  /** Every call is made once. */
  public static final RetryPolicy NONE = new RetryPolicy(1, Duration.ZERO, Duration.ZERO);

  /**
   * Checks the values.
   *
   * @param maxAttempts as above
   * @param firstPause as above
   * @param lastPause as above
   */
  public RetryPolicy {
    Objects.requireNonNull(firstPause, "firstPause");
    Objects.requireNonNull(lastPause, "lastPause");
    if (maxAttempts < 1) {
      throw BackpropException.invalid("maxAttempts", "must be at least 1, got " + maxAttempts);
    }
    if (firstPause.isNegative() || lastPause.isNegative()) {
      throw BackpropException.invalid("firstPause", "pauses must not be negative");
    }
  }
}
