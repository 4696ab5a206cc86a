package dev.backprop.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import dev.backprop.v1.ByteOrder;
import dev.backprop.v1.DataType;
import java.nio.ByteBuffer;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.Arrays;

/**
 * A row-major array of one or two dimensions. It is immutable and holds its elements as the
 * little-endian bytes that travel to the server: arrays are copied as a whole, never element by
 * element.
 */
public final class Tensor {
  private final dev.backprop.v1.Tensor message;

  private Tensor(dev.backprop.v1.Tensor message) {
    this.message = message;
  }

  /**
   * Copies floats.
   *
   * @param values the elements, row by row
   * @param shape the dimensions, such as {@code 200, 2}; none: one dimension
   * @return a FLOAT32 tensor
   */
  public static Tensor of(float[] values, int... shape) {
    return of(FloatBuffer.wrap(values), shape);
  }

  /**
   * Copies doubles.
   *
   * @param values the elements, row by row
   * @param shape the dimensions; none: one dimension
   * @return a FLOAT64 tensor
   */
  public static Tensor of(double[] values, int... shape) {
    return of(DoubleBuffer.wrap(values), shape);
  }

  /**
   * Copies class indices.
   *
   * @param values the indices
   * @return an INT32 tensor of one dimension
   */
  public static Tensor of(int[] values) {
    ByteBuffer bytes = allocate(values.length, Integer.BYTES, "values");
    bytes.asIntBuffer().put(values);
    return wrap(DataType.DATA_TYPE_INT32, bytes, shapeOf(values.length));
  }

  /**
   * Copies class indices.
   *
   * @param values the indices
   * @return an INT64 tensor of one dimension
   */
  public static Tensor of(long[] values) {
    ByteBuffer bytes = allocate(values.length, Long.BYTES, "values");
    bytes.asLongBuffer().put(values);
    return wrap(DataType.DATA_TYPE_INT64, bytes, shapeOf(values.length));
  }

  /**
   * Copies the floats between position and limit of a buffer of any byte order. The buffer does not
   * change.
   *
   * @param values the elements, row by row
   * @param shape the dimensions; none: one dimension
   * @return a FLOAT32 tensor
   */
  public static Tensor of(FloatBuffer values, int... shape) {
    ByteBuffer bytes = allocate(values.remaining(), Float.BYTES, "values");
    bytes.asFloatBuffer().put(values.duplicate());
    return wrap(DataType.DATA_TYPE_FLOAT32, bytes, check(values.remaining(), shape));
  }

  /**
   * Copies the doubles between position and limit of a buffer of any byte order. The buffer does
   * not change.
   *
   * @param values the elements, row by row
   * @param shape the dimensions; none: one dimension
   * @return a FLOAT64 tensor
   */
  public static Tensor of(DoubleBuffer values, int... shape) {
    ByteBuffer bytes = allocate(values.remaining(), Double.BYTES, "values");
    bytes.asDoubleBuffer().put(values.duplicate());
    return wrap(DataType.DATA_TYPE_FLOAT64, bytes, check(values.remaining(), shape));
  }

  /**
   * Copies rows of equal length.
   *
   * @param rows the rows
   * @return a FLOAT32 tensor of two dimensions
   */
  public static Tensor of(float[][] rows) {
    int columns = rows.length == 0 ? 0 : rows[0].length;
    ByteBuffer bytes = allocate((long) rows.length * columns, Float.BYTES, "rows");
    FloatBuffer floats = bytes.asFloatBuffer();
    for (int i = 0; i < rows.length; ++i) {
      checkLength(i, rows[i].length, columns);
      floats.put(rows[i]);
    }
    return wrap(DataType.DATA_TYPE_FLOAT32, bytes, new int[] {rows.length, columns});
  }

  /**
   * Copies rows of equal length.
   *
   * @param rows the rows
   * @return a FLOAT64 tensor of two dimensions
   */
  public static Tensor of(double[][] rows) {
    int columns = rows.length == 0 ? 0 : rows[0].length;
    ByteBuffer bytes = allocate((long) rows.length * columns, Double.BYTES, "rows");
    DoubleBuffer doubles = bytes.asDoubleBuffer();
    for (int i = 0; i < rows.length; ++i) {
      checkLength(i, rows[i].length, columns);
      doubles.put(rows[i]);
    }
    return wrap(DataType.DATA_TYPE_FLOAT64, bytes, new int[] {rows.length, columns});
  }

  /**
   * Copies little-endian bytes, for example of a file that is mapped to memory.
   *
   * @param type the type of the elements
   * @param bytes the bytes between position and limit; the buffer does not change
   * @param shape the dimensions; none: one dimension
   * @return a tensor
   */
  public static Tensor ofLittleEndian(DataType type, ByteBuffer bytes, int... shape) {
    int size = size(type);
    if (bytes.remaining() % size != 0) {
      throw BackpropException.invalid(
          "bytes", bytes.remaining() + " bytes are not a multiple of " + size);
    }
    int[] checked = check(bytes.remaining() / size, shape);
    return new Tensor(message(type, ByteString.copyFrom(bytes.duplicate()), checked));
  }

  /** A tensor of a response, with its elements in raw. */
  static Tensor fromMessage(dev.backprop.v1.Tensor message) {
    return new Tensor(message);
  }

  private static ByteBuffer allocate(long elements, int size, String field) {
    long bytes = elements * size;
    if (bytes > Integer.MAX_VALUE - 64) {
      throw BackpropException.invalid(field, "has more than 2 GiB");
    }
    return ByteBuffer.allocate((int) bytes).order(java.nio.ByteOrder.LITTLE_ENDIAN);
  }

  private static void checkLength(int row, int length, int columns) {
    if (length != columns) {
      throw BackpropException.invalid(
          "rows[" + row + "]", "must have " + columns + " elements as rows[0], got " + length);
    }
  }

  private static int[] shapeOf(int length) {
    return check(length);
  }

  private static int[] check(int elements, int... shape) {
    int[] dimensions = shape.length == 0 ? new int[] {elements} : shape.clone();
    long product = 1;
    for (int dimension : dimensions) {
      if (dimension < 1) {
        throw BackpropException.invalid(
            "shape", "dimensions must be at least 1, got " + Arrays.toString(dimensions));
      }
      product = Math.min(product * dimension, Integer.MAX_VALUE + 1L);
    }
    if (product != elements) {
      throw BackpropException.invalid(
          "shape", Arrays.toString(dimensions) + " does not fit " + elements + " elements");
    }
    return dimensions;
  }

  private static Tensor wrap(DataType type, ByteBuffer bytes, int[] shape) {
    for (int dimension : shape) {
      if (dimension < 1) throw BackpropException.invalid("shape", "the tensor has no elements");
    }
    // The array is not shared with any other object, so that it need not be copied again.
    return new Tensor(message(type, UnsafeByteOperations.unsafeWrap(bytes.array()), shape));
  }

  private static dev.backprop.v1.Tensor message(DataType type, ByteString raw, int[] shape) {
    var builder =
        dev.backprop.v1.Tensor.newBuilder()
            .setDataType(type)
            .setByteOrder(ByteOrder.BYTE_ORDER_LITTLE_ENDIAN)
            .setRaw(raw);
    for (int dimension : shape) builder.addShape(dimension);
    return builder.build();
  }

  static int size(DataType type) {
    return switch (type) {
      case DATA_TYPE_FLOAT32, DATA_TYPE_INT32 -> 4;
      case DATA_TYPE_FLOAT64, DATA_TYPE_INT64 -> 8;
      default -> throw BackpropException.invalid("type", "must be one of the four types");
    };
  }

  /**
   * Returns the message of the API, with the same bytes.
   *
   * @return the message
   */
  public dev.backprop.v1.Tensor message() {
    return message;
  }

  /**
   * Returns the dimensions, outermost first.
   *
   * @return a new array
   */
  public int[] shape() {
    return message.getShapeList().stream().mapToInt(Integer::intValue).toArray();
  }

  /**
   * Returns the type of the elements.
   *
   * @return FLOAT32, FLOAT64, INT32 or INT64
   */
  public DataType type() {
    return message.getDataType();
  }

  /**
   * Returns the first dimension.
   *
   * @return the number of rows
   */
  public int rows() {
    return message.getShapeCount() == 0 ? 0 : message.getShape(0);
  }

  /**
   * Returns the number of elements of a row.
   *
   * @return the second dimension; 1 for a vector
   */
  public int columns() {
    return message.getShapeCount() < 2 ? 1 : message.getShape(1);
  }

  /**
   * Returns the bytes of the elements without copying them.
   *
   * @return a read-only buffer in little-endian order
   */
  public ByteBuffer bytes() {
    return message.getRaw().asReadOnlyByteBuffer().order(java.nio.ByteOrder.LITTLE_ENDIAN);
  }

  /**
   * Returns the elements of a FLOAT32 tensor without copying them.
   *
   * @return a read-only buffer
   */
  public FloatBuffer floatBuffer() {
    require(DataType.DATA_TYPE_FLOAT32);
    return bytes().asFloatBuffer();
  }

  /**
   * Returns the elements of a FLOAT64 tensor without copying them.
   *
   * @return a read-only buffer
   */
  public DoubleBuffer doubleBuffer() {
    require(DataType.DATA_TYPE_FLOAT64);
    return bytes().asDoubleBuffer();
  }

  /**
   * Copies the elements of a FLOAT32 tensor.
   *
   * @return a new array
   */
  public float[] floats() {
    FloatBuffer buffer = floatBuffer();
    float[] values = new float[buffer.remaining()];
    buffer.get(values);
    return values;
  }

  /**
   * Copies the elements of a tensor of any type. Doubles represent all of them exactly, except
   * INT64 above 2^53.
   *
   * @return a new array
   */
  public double[] doubles() {
    ByteBuffer bytes = bytes();
    double[] values = new double[bytes.remaining() / size(type())];
    switch (type()) {
      case DATA_TYPE_FLOAT64 -> bytes.asDoubleBuffer().get(values);
      case DATA_TYPE_FLOAT32 -> {
        FloatBuffer floats = bytes.asFloatBuffer();
        for (int i = 0; i < values.length; ++i) values[i] = floats.get(i);
      }
      case DATA_TYPE_INT32 -> {
        IntBuffer ints = bytes.asIntBuffer();
        for (int i = 0; i < values.length; ++i) values[i] = ints.get(i);
      }
      default -> {
        LongBuffer longs = bytes.asLongBuffer();
        for (int i = 0; i < values.length; ++i) values[i] = longs.get(i);
      }
    }
    return values;
  }

  /**
   * Returns rows without copying them.
   *
   * @param first index of the first row
   * @param count number of rows, at least 1
   * @return a tensor of these rows
   */
  public Tensor slice(int first, int count) {
    if (first < 0 || count < 1 || first > rows() - count) {
      throw BackpropException.invalid(
          "first", "rows " + first + " to " + ((long) first + count) + " of " + rows());
    }
    int rowBytes = columns() * size(type());
    int[] shape = shape();
    shape[0] = count;
    return new Tensor(
        message(
            type(),
            message.getRaw().substring(first * rowBytes, (first + count) * rowBytes),
            shape));
  }

  private void require(DataType type) {
    if (type() != type) {
      throw new IllegalStateException("the tensor is " + type() + ", not " + type);
    }
  }

  /** Equal tensors have the same type, the same shape, and the same bits. */
  @Override
  public boolean equals(Object other) {
    return other instanceof Tensor tensor
        && type() == tensor.type()
        && message.getShapeList().equals(tensor.message.getShapeList())
        && message.getRaw().equals(tensor.message.getRaw());
  }

  @Override
  public int hashCode() {
    return message.getRaw().hashCode();
  }

  @Override
  public String toString() {
    return "Tensor" + message.getShapeList() + " " + type();
  }
}
