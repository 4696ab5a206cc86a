import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import dev.backprop.v1.Adam;
import dev.backprop.v1.Batch;
import dev.backprop.v1.ByteOrder;
import dev.backprop.v1.CreateModelRequest;
import dev.backprop.v1.DataType;
import dev.backprop.v1.DeleteModelRequest;
import dev.backprop.v1.GradCheckRequest;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.Layer;
import dev.backprop.v1.Model;
import dev.backprop.v1.ModelSpec;
import dev.backprop.v1.Optimizer;
import dev.backprop.v1.PredictRequest;
import dev.backprop.v1.Progress;
import dev.backprop.v1.Tensor;
import dev.backprop.v1.TrainRequest;
import dev.backprop.v1.TrainResponse;
import dev.backprop.v1.TrainingConfig;
import dev.backprop.v1.TrainingServiceGrpc;
import dev.backprop.v1.TrainingServiceGrpc.TrainingServiceBlockingStub;
import dev.backprop.v1.TrainingSummary;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * XOR with code generated from the .proto files: creates a model, trains it, predicts and checks the
 * gradients.
 *
 * <p>mvn -q compile exec:java -Dexec.args=HOST:PORT
 */
public final class Xor {
  /** Returns numbers as raw bytes. A ByteBuffer is big-endian by default. */
  private static Tensor floats(float[] numbers, int rows, int columns) {
    ByteBuffer raw = ByteBuffer.allocate(4 * numbers.length).order(java.nio.ByteOrder.LITTLE_ENDIAN);
    for (float x : numbers) raw.putFloat(x);
    return Tensor.newBuilder()
        .addShape(rows)
        .addShape(columns)
        .setRaw(ByteString.copyFrom(raw.flip()))
        .setDataType(DataType.DATA_TYPE_FLOAT32)
        .setByteOrder(ByteOrder.BYTE_ORDER_LITTLE_ENDIAN)
        .build();
  }

  /** The alternative: keep the buffer big-endian and declare it. */
  private static Tensor classes(int[] labels) {
    ByteBuffer raw = ByteBuffer.allocate(4 * labels.length);
    for (int label : labels) raw.putInt(label);
    return Tensor.newBuilder()
        .addShape(labels.length)
        .setRaw(ByteString.copyFrom(raw.flip()))
        .setDataType(DataType.DATA_TYPE_INT32)
        .setByteOrder(ByteOrder.BYTE_ORDER_BIG_ENDIAN)
        .build();
  }

  /** Returns 200 points of a grid; the label is 1 if their coordinates have the same sign. */
  private static Batch xor() {
    float[] points = new float[400];
    int[] labels = new int[200];
    for (int row = 0; row < 200; ++row) {
      float x = (row / 10 + 0.5f) / 10 - 1;
      float y = (row % 10 + 0.5f) / 5 - 1;
      points[2 * row] = x;
      points[2 * row + 1] = y;
      labels[row] = x * y > 0 ? 1 : 0;
    }
    return Batch.newBuilder().setInputs(floats(points, 200, 2)).setLabels(classes(labels)).build();
  }

  /** Follows a run to its end. An iterator cannot be cancelled, but its context can. */
  private static TrainingSummary train(TrainingServiceBlockingStub stub, TrainRequest request) {
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      Context previous = context.attach();
      try {
        TrainingSummary summary = null;
        for (Iterator<TrainResponse> run = stub.train(request); run.hasNext(); ) {
          var event = run.next().getEvent();
          if (event.hasProgress()) {
            Progress progress = event.getProgress();
            System.out.printf("iteration %4d: loss %.4f, accuracy %.3f%n", progress.getIteration(),
                progress.getMetrics().getLoss(), progress.getMetrics().getAccuracy());
          } else if (event.hasSummary()) {
            summary = event.getSummary();
          }
        }
        return summary;
      } finally {
        context.detach(previous); // and close(), which cancels the run if the loop ended early
      }
    }
  }

  /** Returns the invalid fields of a request: google.rpc.BadRequest in the status details. */
  private static List<BadRequest.FieldViolation> violations(StatusRuntimeException error)
      throws InvalidProtocolBufferException {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
      if (detail.is(BadRequest.class)) return detail.unpack(BadRequest.class).getFieldViolationsList();
    }
    return List.of();
  }

  private static Layer layer(int units) {
    return Layer.newBuilder().setUnits(units).build();
  }

  public static void main(String[] args) throws Exception {
    ManagedChannel channel = Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create())
        .maxInboundMessageSize(256 << 20) // default: 4 MB; the parameters of a large model need more
        .build();
    try {
      run(TrainingServiceGrpc.newBlockingStub(channel));
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void run(TrainingServiceBlockingStub stub) throws Exception {
    ModelSpec spec = ModelSpec.newBuilder()
        .setInputSize(2)
        .addLayers(layer(16))
        .addLayers(layer(2))
        .setOptimizer(Optimizer.newBuilder().setAdam(Adam.newBuilder().setLearningRate(0.01)))
        .setSeed(1)
        .build();
    Model model = stub.createModel(CreateModelRequest.newBuilder().setSpec(spec).build()).getModel();
    System.out.printf("created %s with %d parameters%n", model.getName(), model.getParameterCount());

    TrainingSummary summary = train(stub, TrainRequest.newBuilder()
        .setModel(model.getName())
        .setData(xor())
        .setConfig(TrainingConfig.newBuilder().setIterations(2000).setReportEvery(500))
        .build());
    System.out.println(summary.getStopReason());

    float[] corners = {-0.5f, -0.5f, -0.5f, 0.5f, 0.5f, -0.5f, 0.5f, 0.5f};
    List<Integer> answer = stub.predict(PredictRequest.newBuilder()
        .setModel(model.getName())
        .setInputs(floats(corners, 4, 2))
        .build()).getClassesList();
    System.out.println("corners: " + answer);

    GradCheckResult check = stub.gradCheck(GradCheckRequest.newBuilder()
        .setModel(model.getName())
        .setBatch(xor())
        .build()).getResult();
    System.out.println("gradients: " + (check.getPassed() ? "PASSED" : "not passed: " + check.getExplanation()));

    List<BadRequest.FieldViolation> fields = List.of();
    try {
      stub.createModel(CreateModelRequest.newBuilder()
          .setSpec(ModelSpec.newBuilder().setInputSize(2).addLayers(layer(0)))
          .build());
    } catch (StatusRuntimeException error) {
      fields = violations(error);
      for (var violation : fields) {
        System.out.printf("%s: %s: %s%n", error.getStatus().getCode(), violation.getField(),
            violation.getDescription());
      }
    }

    stub.deleteModel(DeleteModelRequest.newBuilder().setName(model.getName()).build());
    if (summary.getMetrics().getAccuracy() < 0.95 || !answer.equals(List.of(1, 0, 0, 1)) || !check.getPassed()) {
      throw new AssertionError("the model did not learn XOR");
    }
    if (fields.size() != 1 || !fields.get(0).getField().equals("spec.layers[0].units")) {
      throw new AssertionError("the error does not name its field");
    }
  }
}
