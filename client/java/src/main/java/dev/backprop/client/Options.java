package dev.backprop.client;

import java.time.Duration;

/**
 * What a caller says about its calls.
 *
 * @param timeout for a call with all its attempts; null: the default
 * @param requestId of mutating calls; null: a random one for each call
 */
record Options(Duration timeout, String requestId) {
  static final Options DEFAULT = new Options(null, null);
  static final Duration UNARY_TIMEOUT = Duration.ofSeconds(60);

  /** Of a unary call. */
  Duration unaryTimeout() {
    return timeout == null ? UNARY_TIMEOUT : timeout;
  }

  String newRequestId() {
    return requestId == null ? Names.randomId() : requestId;
  }
}
