package dev.backprop.client;

import dev.backprop.v1.ModelSpec;
import java.util.Random;

/** Rows and specs of the tests. */
final class Data {
  private Data() {}

  static final int ROWS = 200;

  /** Points in a square; the class is 1 if both coordinates have the same sign. */
  static float[] points(int rows) {
    Random random = new Random(7);
    float[] points = new float[2 * rows];
    for (int i = 0; i < points.length; ++i) points[i] = random.nextFloat() * 2 - 1;
    return points;
  }

  static int[] classes(float[] points) {
    int[] labels = new int[points.length / 2];
    for (int i = 0; i < labels.length; ++i) {
      labels[i] = points[2 * i] * points[2 * i + 1] > 0 ? 1 : 0;
    }
    return labels;
  }

  static Batch xor() {
    return xor(ROWS);
  }

  static Batch xor(int rows) {
    float[] points = points(rows);
    return Batch.of(Tensor.of(points, rows, 2), classes(points));
  }

  static ModelSpec spec() {
    return Specs.mlp(2, 8, 2).setOptimizer(Specs.sgd(0.1)).setSeed(42).build();
  }

  /** An iteration of it takes milliseconds. */
  static ModelSpec slowSpec() {
    return Specs.mlp(64, 256, 256, 2).setOptimizer(Specs.adam(0.001)).setSeed(5).build();
  }

  static Batch wide() {
    Random random = new Random(3);
    float[] values = new float[512 * 64];
    int[] labels = new int[512];
    for (int i = 0; i < values.length; ++i) values[i] = (float) random.nextGaussian();
    for (int i = 0; i < labels.length; ++i) labels[i] = values[64 * i] > 0 ? 1 : 0;
    return Batch.of(Tensor.of(values, 512, 64), labels);
  }
}
