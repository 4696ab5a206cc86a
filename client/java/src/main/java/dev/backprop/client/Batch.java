package dev.backprop.client;

import dev.backprop.v1.DataType;
import java.nio.ByteBuffer;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.zip.CRC32;

/**
 * Rows of data: inputs of shape [n, d], and for each row a class index, a class name or targets.
 * Immutable.
 */
public final class Batch implements Rows {
  private final Tensor inputs;
  private final Tensor labels; // null: none
  private final List<String> labelNames; // empty: none
  private final Tensor targets; // null: none
  private final Tensor sampleWeights; // null: all 1

  private Batch(
      Tensor inputs, Tensor labels, List<String> names, Tensor targets, Tensor sampleWeights) {
    this.inputs = Objects.requireNonNull(inputs, "inputs");
    this.labels = labels;
    this.labelNames = names;
    this.targets = targets;
    this.sampleWeights = sampleWeights;
    if (labels != null) checkRows("labels", labels.rows());
    if (!names.isEmpty()) checkRows("label_names", names.size());
    if (targets != null) checkRows("targets", targets.rows());
    if (sampleWeights != null) checkRows("sample_weights", sampleWeights.rows());
  }

  private void checkRows(String field, int rows) {
    if (rows != inputs.rows()) {
      throw BackpropException.invalid(
          field, "must have " + inputs.rows() + " rows as the inputs, got " + rows);
    }
  }

  /**
   * Rows with class indices.
   *
   * @param inputs shape [n, d]
   * @param labels n class indices
   * @return the batch
   */
  public static Batch of(Tensor inputs, int... labels) {
    return new Batch(inputs, Tensor.of(labels), List.of(), null, null);
  }

  /**
   * Rows with class indices in a tensor of any type.
   *
   * @param inputs shape [n, d]
   * @param labels shape [n], whole numbers
   * @return the batch
   */
  public static Batch withLabels(Tensor inputs, Tensor labels) {
    return new Batch(inputs, Objects.requireNonNull(labels, "labels"), List.of(), null, null);
  }

  /**
   * Rows with class names.
   *
   * @param inputs shape [n, d]
   * @param names n names, each one of the {@code class_names} of the model
   * @return the batch
   */
  public static Batch withNames(Tensor inputs, List<String> names) {
    if (names.isEmpty()) throw BackpropException.invalid("label_names", "must not be empty");
    return new Batch(inputs, null, List.copyOf(names), null, null);
  }

  /**
   * Rows with targets, for regression or for probabilities of classes.
   *
   * @param inputs shape [n, d]
   * @param targets shape [n, k]
   * @return the batch
   */
  public static Batch withTargets(Tensor inputs, Tensor targets) {
    return new Batch(inputs, null, List.of(), Objects.requireNonNull(targets, "targets"), null);
  }

  /**
   * Weights the rows.
   *
   * @param weights n numbers of at least 0
   * @return these rows with weights
   */
  public Batch withSampleWeights(double... weights) {
    return new Batch(inputs, labels, labelNames, targets, Tensor.of(weights));
  }

  /**
   * Returns the number of rows.
   *
   * @return n
   */
  public int rows() {
    return inputs.rows();
  }

  /**
   * Returns the inputs.
   *
   * @return shape [n, d]
   */
  public Tensor inputs() {
    return inputs;
  }

  /**
   * Returns some of the rows. Their numbers are not copied.
   *
   * @param first index of the first row
   * @param count number of rows, at least 1
   * @return these rows
   */
  public Batch slice(int first, int count) {
    return new Batch(
        inputs.slice(first, count),
        labels == null ? null : labels.slice(first, count),
        labelNames.isEmpty() ? labelNames : labelNames.subList(first, first + count),
        targets == null ? null : targets.slice(first, count),
        sampleWeights == null ? null : sampleWeights.slice(first, count));
  }

  /**
   * Returns the message of the API, with the same bytes.
   *
   * @return the message
   */
  public dev.backprop.v1.Batch message() {
    var builder = dev.backprop.v1.Batch.newBuilder().setInputs(inputs.message());
    if (labels != null) builder.setLabels(labels.message());
    builder.addAllLabelNames(labelNames);
    if (targets != null) builder.setTargets(targets.message());
    if (sampleWeights != null) builder.setSampleWeights(sampleWeights.message());
    return builder.build();
  }

  /** Bytes of one row in a message, approximately. */
  int rowBytes() {
    int bytes = inputs.columns() * Tensor.size(inputs.type()) + 16;
    if (targets != null) bytes += targets.columns() * Tensor.size(targets.type());
    return bytes;
  }

  /**
   * The CRC-32 of the rows as the server stores them in the precision {@code type}; empty for class
   * names, whose indices the server assigns.
   */
  OptionalInt checksum(DataType type) {
    if (!labelNames.isEmpty()) return OptionalInt.empty();
    CRC32 crc = new CRC32();
    add(crc, inputs, type);
    if (labels != null) add(crc, labels, DataType.DATA_TYPE_INT32);
    if (targets != null) add(crc, targets, type);
    if (sampleWeights != null) add(crc, sampleWeights, type);
    return OptionalInt.of((int) crc.getValue());
  }

  private static void add(CRC32 crc, Tensor tensor, DataType type) {
    if (tensor.type() == type) {
      crc.update(tensor.bytes());
      return;
    }
    double[] values = tensor.doubles();
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Tensor.size(type))
            .order(java.nio.ByteOrder.LITTLE_ENDIAN);
    switch (type) {
      case DATA_TYPE_FLOAT64 -> {
        DoubleBuffer doubles = bytes.asDoubleBuffer();
        doubles.put(values);
      }
      case DATA_TYPE_FLOAT32 -> {
        FloatBuffer floats = bytes.asFloatBuffer();
        for (double value : values) floats.put((float) value);
      }
      default -> {
        var ints = bytes.asIntBuffer();
        for (double value : values) ints.put((int) value);
      }
    }
    crc.update(bytes);
  }
}
