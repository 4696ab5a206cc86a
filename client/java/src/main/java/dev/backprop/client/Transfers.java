package dev.backprop.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import dev.backprop.v1.CreateBackupRequest;
import dev.backprop.v1.DataType;
import dev.backprop.v1.Dataset;
import dev.backprop.v1.DatasetChunk;
import dev.backprop.v1.DatasetCommit;
import dev.backprop.v1.DatasetHeader;
import dev.backprop.v1.ExportModelRequest;
import dev.backprop.v1.TrainingServiceGrpc;
import dev.backprop.v1.UploadDatasetRequest;
import dev.backprop.v1.UploadDatasetResponse;
import io.grpc.Context;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Iterator;
import java.util.function.BiFunction;
import java.util.function.Function;
import java.util.function.LongSupplier;

/** Streamed calls: uploads of datasets; models and backups as files. */
final class Transfers {
  private static final int CHUNK_BYTES = 1 << 20;

  private final Transport transport;
  private final Options options;

  Transfers(Transport transport, Options options) {
    this.transport = transport;
    this.options = options;
  }

  /** The rows of a batch, in chunks of about 1 MiB. */
  static RowSource source(Batch rows, int chunkRows) {
    int most = chunkRows > 0 ? chunkRows : Math.max(1, CHUNK_BYTES / rows.rowBytes());
    return first -> {
      if (first >= rows.rows()) return null;
      return rows.slice((int) first, (int) Math.min(most, rows.rows() - first));
    };
  }

  /**
   * Uploads rows; after a break, from the first row that the server does not have.
   *
   * @param known tells how many rows the server has
   */
  Dataset upload(String dataset, RowSource rows, UploadOptions upload, LongSupplier known) {
    DataType type = upload.dataType() == null ? DataType.DATA_TYPE_FLOAT32 : upload.dataType();
    UploadDatasetRequest header =
        UploadDatasetRequest.newBuilder()
            .setHeader(
                DatasetHeader.newBuilder()
                    .setDatasetId(Names.dataset(dataset).substring("datasets/".length()))
                    .setDataType(type)
                    .putAllLabels(upload.labels())
                    .addAllFeatureNames(upload.featureNames())
                    .setRequestId(options.newRequestId()))
            .build();
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    long start = 0;
    for (; ; ) {
      try (var stream =
          new ClientStream<UploadDatasetRequest, UploadDatasetResponse>(
              transport, TrainingServiceGrpc.getUploadDatasetMethod(), attempts)) {
        boolean open = stream.send(header);
        long sent = start;
        while (open) {
          Batch chunk = rows.rows(sent);
          if (chunk == null) {
            stream.send(
                UploadDatasetRequest.newBuilder()
                    .setCommit(DatasetCommit.newBuilder().setRows(sent))
                    .build());
            break;
          }
          var message =
              DatasetChunk.newBuilder().setFirstRow(sent).setRows(chunk.message());
          chunk.checksum(type).ifPresent(message::setCrc32);
          sent += chunk.rows();
          open = stream.send(UploadDatasetRequest.newBuilder().setChunk(message).build());
          if (open) upload.progress().accept(sent);
        }
        return stream.finish().getDataset();
      } catch (io.grpc.StatusRuntimeException e) {
        BackpropException failure = transport.failure(e, Transport.cancelledHere());
        long there;
        if (failure.reason().equals("ROWS_MISSING")
            && failure.number("expected_row").isPresent()
            && failure.number("expected_row").getAsLong() < start) {
          // The server has fewer rows than it had: it lost some in a crash.
          there = failure.number("expected_row").getAsLong();
        } else {
          attempts.pauseOrThrow(failure);
          there = known.getAsLong();
          if (there > start) attempts.progress();
        }
        start = there;
      }
    }
  }

  /** Passes the chunks of a stream to a file, which replaces another one when it is complete. */
  <Q, R> long download(
      MethodDescriptor<Q, R> method, Q request, Function<R, ByteString> bytes, Path file)
      throws IOException {
    Path folder = file.toAbsolutePath().getParent();
    Path part = Files.createTempFile(folder, "." + file.getFileName(), ".part");
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    try {
      for (; ; ) {
        try (OutputStream out = Files.newOutputStream(part)) {
          receive(method, request, bytes, out, attempts);
        } catch (BackpropException e) {
          attempts.pauseOrThrow(e); // again, from the start
          continue;
        }
        long size = Files.size(part);
        try {
          Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
        } catch (AtomicMoveNotSupportedException e) {
          Files.move(part, file, StandardCopyOption.REPLACE_EXISTING);
        }
        return size;
      }
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Passes the chunks of a stream to {@code out}. Repeated only while nothing was written. */
  <Q, R> long download(
      MethodDescriptor<Q, R> method, Q request, Function<R, ByteString> bytes, OutputStream out)
      throws IOException {
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    var counting = new CountingStream(out);
    for (; ; ) {
      try {
        receive(method, request, bytes, counting, attempts);
        return counting.written;
      } catch (BackpropException e) {
        if (counting.written > 0) throw e;
        attempts.pauseOrThrow(e);
      }
    }
  }

  private static final class CountingStream extends OutputStream {
    private final OutputStream out;
    private long written;

    CountingStream(OutputStream out) {
      this.out = out;
    }

    @Override
    public void write(int b) throws IOException {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int off, int len) throws IOException {
      written += len;
      out.write(b, off, len);
    }
  }

  private <Q, R> void receive(
      MethodDescriptor<Q, R> method,
      Q request,
      Function<R, ByteString> bytes,
      OutputStream out,
      Attempts attempts)
      throws IOException {
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      Context previous = context.attach();
      try {
        Iterator<R> chunks =
            ClientCalls.blockingServerStreamingCall(
                transport.channel(), method, transport.options(attempts.deadline()), request);
        while (chunks.hasNext()) bytes.apply(chunks.next()).writeTo(out);
      } catch (io.grpc.StatusRuntimeException e) {
        throw transport.failure(e, Transport.cancelledHere());
      } finally {
        context.detach(previous);
      }
    }
  }

  static ExportModelRequest export(String model) {
    return ExportModelRequest.newBuilder().setModel(Names.model(model)).build();
  }

  static CreateBackupRequest backup(String project) {
    return CreateBackupRequest.newBuilder()
        .setProject(project.isEmpty() ? "" : Names.project(project))
        .build();
  }

  /**
   * Sends a file that can be read again for every attempt.
   *
   * @param message the message with the next bytes; the first one has index 0
   */
  <Q, R> R send(MethodDescriptor<Q, R> method, Path file, BiFunction<Long, ByteString, Q> message)
      throws IOException {
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    for (; ; ) {
      try (InputStream in = Files.newInputStream(file)) {
        return send(method, in, message, attempts);
      } catch (BackpropException e) {
        attempts.pauseOrThrow(e);
      }
    }
  }

  /** Sends bytes once. */
  <Q, R> R send(
      MethodDescriptor<Q, R> method, InputStream in, BiFunction<Long, ByteString, Q> message)
      throws IOException {
    return send(method, in, message, new Attempts(RetryPolicy.NONE, options.timeout()));
  }

  private <Q, R> R send(
      MethodDescriptor<Q, R> method,
      InputStream in,
      BiFunction<Long, ByteString, Q> message,
      Attempts attempts)
      throws IOException {
    try (var stream = new ClientStream<Q, R>(transport, method, attempts)) {
      for (long index = 0; ; ++index) {
        byte[] piece = in.readNBytes(CHUNK_BYTES);
        if (piece.length == 0 && index > 0) break;
        if (!stream.send(message.apply(index, UnsafeByteOperations.unsafeWrap(piece)))) break;
      }
      return stream.finish();
    } catch (io.grpc.StatusRuntimeException e) {
      throw transport.failure(e, Transport.cancelledHere());
    }
  }
}
