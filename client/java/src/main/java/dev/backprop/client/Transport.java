package dev.backprop.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.Epoll;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.OptionalLong;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;

/** A connection: the channel, its credentials, and how unary calls are made on it. */
final class Transport implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final long CLOSE_TIMEOUT_SECONDS = 5;

  /** Time for TCP, TLS and the settings of HTTP/2; gRPC itself limits only that of TCP. */
  private static final long CONNECT_TIMEOUT_SECONDS = 10;

  private final ManagedChannel managed;
  private final Channel channel;
  private final EventLoopGroup unixLoop; // null: not a Unix socket
  private final RetryPolicy retry;
  private final Token token; // null: none

  Transport(
      String address,
      TlsOptions tls,
      Token token,
      boolean allowClearText,
      RetryPolicy retry,
      Duration keepaliveTime,
      Duration keepaliveTimeout) {
    Names.required("address", address);
    this.retry = retry;
    this.token = token;
    String unixPath = Address.unixPath(address);
    boolean encrypted = tls != null && unixPath == null;
    if (token != null && !encrypted && !allowClearText && !Address.isThisMachine(address)) {
      throw BackpropException.of(
          Status.Code.FAILED_PRECONDITION,
          "the token is not sent to "
              + address
              + " in clear text; use TLS, or allow clear text explicitly",
          null);
    }
    ManagedChannelBuilder<?> builder;
    if (unixPath != null) {
      if (!Epoll.isAvailable()) {
        throw BackpropException.of(
            Status.Code.FAILED_PRECONDITION,
            "Unix sockets need epoll, which is not available here",
            Epoll.unavailabilityCause());
      }
      unixLoop = new EpollEventLoopGroup(1, new DefaultThreadFactory("backprop-unix", true));
      builder =
          NettyChannelBuilder.forAddress(new DomainSocketAddress(unixPath))
              .channelType(EpollDomainSocketChannel.class)
              .eventLoopGroup(unixLoop)
              .overrideAuthority("localhost")
              .usePlaintext();
    } else {
      unixLoop = null;
      builder =
          Grpc.newChannelBuilder(
              address, encrypted ? tls.credentials() : InsecureChannelCredentials.create());
      if (encrypted && tls.serverName() != null) builder.overrideAuthority(tls.serverName());
    }
    if (keepaliveTime != null) {
      builder
          .keepAliveTime(keepaliveTime.toNanos(), TimeUnit.NANOSECONDS)
          .keepAliveTimeout(keepaliveTimeout.toNanos(), TimeUnit.NANOSECONDS);
    }
    managed =
        builder
            .maxInboundMessageSize(Integer.MAX_VALUE) // the server enforces its limits
            .userAgent("backprop-java/" + version())
            .disableRetry() // the retries of this package know the request ids
            .build();
    watchConnecting();
    channel = token == null ? managed : io.grpc.ClientInterceptors.intercept(managed, bearer());
  }

  /**
   * Ends an attempt to connect to a peer that accepts connections and then is silent, such as a
   * frozen server. Calls that wait for it cause the next attempt.
   */
  private void watchConnecting() {
    ConnectivityState state = managed.getState(false);
    if (state == ConnectivityState.SHUTDOWN) return;
    AtomicBoolean changed = new AtomicBoolean();
    managed.notifyWhenStateChanged(
        state,
        () -> {
          changed.set(true);
          watchConnecting();
        });
    if (state != ConnectivityState.CONNECTING) return;
    CompletableFuture.delayedExecutor(CONNECT_TIMEOUT_SECONDS, TimeUnit.SECONDS)
        .execute(
            () -> {
              if (!changed.get()) managed.enterIdle();
            });
  }

  private static String version() {
    try (InputStream in = Transport.class.getResourceAsStream("version.properties")) {
      Properties properties = new Properties();
      properties.load(in);
      return properties.getProperty("version");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private ClientInterceptor bearer() {
    return new ClientInterceptor() {
      @Override
      public <Q, R> ClientCall<Q, R> interceptCall(
          MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
        return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
          @Override
          public void start(Listener<R> listener, Metadata headers) {
            headers.put(AUTHORIZATION, "Bearer " + token.get());
            super.start(listener, headers);
          }
        };
      }
    };
  }

  RetryPolicy retry() {
    return retry;
  }

  Channel channel() {
    return channel;
  }

  CallOptions options(Deadline deadline) {
    return deadline == null ? CallOptions.DEFAULT : CallOptions.DEFAULT.withDeadline(deadline);
  }

  boolean isShutdown() {
    return managed.isShutdown();
  }

  boolean isConnected() {
    return managed.getState(false) == ConnectivityState.READY;
  }

  /**
   * Decodes the end of a call. A server that stops cancels its calls: unless this side cancelled,
   * CANCELLED becomes UNAVAILABLE, which may be repeated.
   */
  BackpropException failure(Throwable error, boolean cancelledHere) {
    if (error instanceof BackpropException failure) return failure;
    Status status = Status.fromThrowable(error);
    BackpropException failure =
        BackpropException.of(status, Status.trailersFromThrowable(error), error);
    if (status.getCode() == Status.Code.CANCELLED && !cancelledHere) {
      failure = failure.as(Status.Code.UNAVAILABLE, "the server cancelled the call");
    }
    if (status.getCode() == Status.Code.UNAVAILABLE && isShutdown()) {
      failure = failure.as(Status.Code.CANCELLED, "the client is closed");
    }
    // The pause before a retry is that of the policy, not that of the channel.
    if (failure.code() == Status.Code.UNAVAILABLE) managed.resetConnectBackoff();
    return failure;
  }

  static boolean cancelledHere() {
    return Thread.currentThread().isInterrupted() || Context.current().isCancelled();
  }

  /** Makes a unary call with retries on the calling thread. */
  <Q, R, T> T call(Call<Q, R, T> call, Duration timeout) {
    Attempts attempts = new Attempts(retry, timeout);
    for (; ; ) {
      try {
        return call.result()
            .apply(
                ClientCalls.blockingUnaryCall(
                    channel, call.method(), options(attempts.deadline()), call.request()));
      } catch (StatusRuntimeException e) {
        attempts.pauseOrThrow(failure(e, cancelledHere()));
      }
    }
  }

  /** Makes a unary call with retries. A future that is completed otherwise cancels the call. */
  <Q, R, T> CompletableFuture<T> future(Call<Q, R, T> call, Duration timeout) {
    CompletableFuture<T> future = new CompletableFuture<>();
    AtomicReference<ClientCall<Q, R>> active = new AtomicReference<>();
    future.whenComplete(
        (result, error) -> {
          ClientCall<Q, R> current = active.getAndSet(null);
          if (current != null) current.cancel("the future is complete", null);
        });
    attempt(call, new Attempts(retry, timeout), future, active, Context.current());
    return future;
  }

  private <Q, R, T> void attempt(
      Call<Q, R, T> call,
      Attempts attempts,
      CompletableFuture<T> future,
      AtomicReference<ClientCall<Q, R>> active,
      Context context) {
    ClientCall<Q, R> current = channel.newCall(call.method(), options(attempts.deadline()));
    active.set(current);
    if (future.isDone()) return; // cancelled between two attempts: nothing was started
    var listener =
        new ClientCall.Listener<R>() {
          private R response;

          @Override
          public void onMessage(R message) {
            response = message;
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            active.compareAndSet(current, null);
            if (future.isDone()) return;
            if (status.isOk() && response != null) {
              try {
                future.complete(call.result().apply(response));
              } catch (RuntimeException e) {
                future.completeExceptionally(e);
              }
              return;
            }
            Status ended =
                status.isOk() ? Status.INTERNAL.withDescription("no response arrived") : status;
            BackpropException failure =
                failure(ended.asRuntimeException(trailers), context.isCancelled());
            OptionalLong pause = attempts.pauseNanosAfter(failure);
            if (pause.isEmpty()) {
              future.completeExceptionally(failure);
              return;
            }
            Executor later =
                CompletableFuture.delayedExecutor(pause.getAsLong(), TimeUnit.NANOSECONDS);
            later.execute(
                context.wrap(
                    () -> {
                      if (!future.isDone()) attempt(call, attempts, future, active, context);
                    }));
          }
        };
    try {
      current.start(listener, new Metadata());
      current.request(2);
      current.sendMessage(call.request());
      current.halfClose();
    } catch (RuntimeException e) { // the token file cannot be read
      current.cancel("not started", e);
      future.completeExceptionally(e);
    }
    if (future.isDone()) current.cancel("the future is complete", null);
  }

  @Override
  public void close() {
    managed.shutdown();
    try {
      if (!managed.awaitTermination(CLOSE_TIMEOUT_SECONDS, TimeUnit.SECONDS)) managed.shutdownNow();
    } catch (InterruptedException e) {
      managed.shutdownNow();
      Thread.currentThread().interrupt();
    }
    if (unixLoop != null) unixLoop.shutdownGracefully(0, 1, TimeUnit.SECONDS);
  }
}
