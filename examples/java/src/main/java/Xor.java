import dev.backprop.client.BackpropClient;
import dev.backprop.client.BackpropException;
import dev.backprop.client.Batch;
import dev.backprop.client.Prediction;
import dev.backprop.client.Specs;
import dev.backprop.client.Tensor;
import dev.backprop.client.TrainOptions;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.GradCheckVerdict;
import dev.backprop.v1.Model;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingSummary;
import java.util.List;

/**
 * XOR with the client: creates a model, trains it, predicts, checks the gradients and decodes an
 * error.
 *
 * <p>mvn -q compile exec:java -Dexec.args=HOST:PORT
 */
public final class Xor {
  private Xor() {}

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
    return Batch.of(Tensor.of(points, 200, 2), labels);
  }

  private static void print(TrainingEvent event) {
    if (!event.hasProgress()) return;
    var progress = event.getProgress();
    System.out.printf(
        "iteration %4d: loss %.4f, accuracy %.3f%n",
        progress.getIteration(),
        progress.getMetrics().getLoss(),
        progress.getMetrics().getAccuracy());
  }

  public static void main(String[] args) {
    try (BackpropClient client = BackpropClient.connect(args[0])) {
      Model model =
          client.createModel(
              Specs.mlp(2, 16, 2).setOptimizer(Specs.adam(0.01)).setSeed(1).build());
      System.out.printf(
          "created %s with %d parameters%n", model.getName(), model.getParameterCount());

      TrainingSummary summary =
          client.train(
              model.getName(), xor(), TrainOptions.iterations(2000).reportEvery(500), Xor::print);
      System.out.println(summary.getStopReason());

      float[][] corners = {{-0.5f, -0.5f}, {-0.5f, 0.5f}, {0.5f, -0.5f}, {0.5f, 0.5f}};
      Prediction prediction = client.predict(model.getName(), Tensor.of(corners));
      System.out.println("corners: " + prediction.classes());

      GradCheckResult check = client.gradCheck(model.getName(), xor());
      boolean passed = check.getVerdict() == GradCheckVerdict.GRAD_CHECK_VERDICT_PASSED;
      System.out.println(
          "gradients: " + (passed ? "PASSED" : "not passed: " + check.getExplanation()));

      String field = "";
      try {
        client.createModel(Specs.mlp(2, 0).build());
      } catch (BackpropException e) {
        for (var violation : e.violations()) {
          field = violation.field();
          System.out.printf("%s: %s: %s%n", e.code(), field, violation.description());
        }
      }

      client.deleteModel(model.getName());
      if (summary.getMetrics().getAccuracy() < 0.95
          || !prediction.classes().equals(List.of(1, 0, 0, 1))
          || !passed) {
        throw new AssertionError("the model did not learn XOR");
      }
      if (!field.equals("spec.layers[0].units")) {
        throw new AssertionError("the error does not name its field");
      }
    }
  }
}
