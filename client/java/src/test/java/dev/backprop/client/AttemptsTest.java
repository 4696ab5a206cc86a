package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import java.time.Duration;
import org.junit.jupiter.api.Test;

class AttemptsTest {
  private static final long MS = 1_000_000;

  private static BackpropException failure(Status.Code code, int retryMs) {
    var status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("no");
    if (retryMs > 0) {
      status.addDetails(
          Any.pack(
              RetryInfo.newBuilder()
                  .setRetryDelay(Messages.duration(Duration.ofMillis(retryMs)))
                  .build()));
    }
    return BackpropException.of(status.build());
  }

  @Test
  void pausesGrowAndAreRandom() {
    BackpropException gone = failure(Status.Code.UNAVAILABLE, 0);
    long[] limits = {50, 100, 200, 400, 800, 1000, 1000};
    long[] largest = new long[7];
    for (int round = 0; round < 400; ++round) {
      Attempts attempts = new Attempts(RetryPolicy.DEFAULT, null);
      for (int i = 0; i < 7; ++i) {
        long pause = attempts.pauseNanosAfter(gone).getAsLong();
        assertTrue(pause >= 0 && pause <= limits[i] * MS, i + ": " + pause);
        largest[i] = Math.max(largest[i], pause);
      }
      assertTrue(attempts.pauseNanosAfter(gone).isEmpty());
    }
    for (int i = 0; i < 7; ++i) assertTrue(largest[i] > limits[i] * MS * 9 / 10);
  }

  @Test
  void theServersDelayIsRespected() {
    Attempts attempts = new Attempts(RetryPolicy.DEFAULT, null);
    long pause = attempts.pauseNanosAfter(failure(Status.Code.UNAVAILABLE, 3000)).getAsLong();
    assertTrue(pause >= 3000 * MS && pause <= 3050 * MS);
    pause = attempts.pauseNanosAfter(failure(Status.Code.RESOURCE_EXHAUSTED, 10)).getAsLong();
    assertTrue(pause >= 10 * MS);
  }

  @Test
  void onlyTransientFailuresAreRepeated() {
    for (Status.Code code : Status.Code.values()) {
      boolean again =
          new Attempts(RetryPolicy.DEFAULT, null).pauseNanosAfter(failure(code, 0)).isPresent();
      assertEquals(code == Status.Code.UNAVAILABLE, again, code.toString());
    }
    assertFalse(Attempts.isTransient(failure(Status.Code.INTERNAL, 10)));
  }

  @Test
  void theDeadlineBoundsThePauses() {
    Attempts attempts = new Attempts(RetryPolicy.DEFAULT, Duration.ofMillis(500));
    assertTrue(attempts.pauseNanosAfter(failure(Status.Code.UNAVAILABLE, 800)).isEmpty());
  }

  @Test
  void progressResetsTheCount() {
    Attempts attempts = new Attempts(new RetryPolicy(2, Duration.ZERO, Duration.ZERO), null);
    BackpropException gone = failure(Status.Code.UNAVAILABLE, 0);
    for (int i = 0; i < 10; ++i) {
      assertTrue(attempts.pauseNanosAfter(gone).isPresent());
      attempts.progress();
    }
    assertTrue(attempts.pauseNanosAfter(gone).isPresent());
    assertTrue(attempts.pauseNanosAfter(gone).isEmpty());
  }
}
