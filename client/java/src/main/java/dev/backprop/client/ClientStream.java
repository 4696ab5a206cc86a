package dev.backprop.client;

import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;

/**
 * A call with a stream of requests and one response, for one thread. {@link #send} waits while the
 * server reads more slowly than this side sends. An interrupt cancels the call.
 */
final class ClientStream<Q, R> implements AutoCloseable {
  private final ClientCall<Q, R> call;

  // Guarded by this.
  private R response;
  private StatusRuntimeException end; // its status may be OK

  ClientStream(Transport transport, MethodDescriptor<Q, R> method, Attempts attempts) {
    call = transport.channel().newCall(method, transport.options(attempts.deadline()));
    call.start(
        new ClientCall.Listener<>() {
          @Override
          public void onReady() {
            wake();
          }

          @Override
          public void onMessage(R message) {
            synchronized (ClientStream.this) {
              response = message;
            }
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            synchronized (ClientStream.this) {
              end = status.asRuntimeException(trailers);
              ClientStream.this.notifyAll();
            }
          }
        },
        new Metadata());
    call.request(2);
  }

  private synchronized void wake() {
    notifyAll();
  }

  private void await() {
    try {
      wait();
    } catch (InterruptedException e) {
      call.cancel("interrupted", e);
      Thread.currentThread().interrupt();
      throw Attempts.interrupted(e);
    }
  }

  /** Returns false if the call has ended; {@link #finish} then says why. */
  boolean send(Q request) {
    synchronized (this) {
      while (end == null && !call.isReady()) await();
      if (end != null) return false;
    }
    call.sendMessage(request);
    return true;
  }

  /** Ends the requests and waits for the response. Throws the status if it is not OK. */
  R finish() {
    call.halfClose();
    synchronized (this) {
      while (end == null) await();
      if (!end.getStatus().isOk()) throw end;
      if (response == null) {
        throw Status.INTERNAL.withDescription("no response arrived").asRuntimeException();
      }
      return response;
    }
  }

  @Override
  public void close() {
    synchronized (this) {
      if (end != null) return;
    }
    call.cancel("the caller gave up", null);
  }
}
