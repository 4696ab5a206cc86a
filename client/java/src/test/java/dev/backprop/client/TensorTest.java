package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.backprop.v1.DataType;
import io.grpc.Status;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;

class TensorTest {
  @Test
  void bytesAreLittleEndianWhateverTheBufferIs() {
    byte[] wanted = {0, 0, (byte) 0x80, 0x3f, 0, 0, 0, (byte) 0xc0}; // 1, −2
    float[] values = {1, -2};
    FloatBuffer big = ByteBuffer.allocate(8).asFloatBuffer().put(values).flip();
    FloatBuffer little =
        ByteBuffer.allocateDirect(8).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    little.put(values).flip();
    for (Tensor tensor :
        List.of(
            Tensor.of(values),
            Tensor.of(big),
            Tensor.of(little),
            Tensor.of(new float[][] {{1}, {-2}}))) {
      assertArrayEquals(wanted, tensor.message().getRaw().toByteArray());
      assertArrayEquals(values, tensor.floats());
    }
    assertEquals(2, big.remaining());
    DoubleBuffer doubles = ByteBuffer.allocate(16).asDoubleBuffer().put(new double[] {1, -2});
    assertArrayEquals(new double[] {1, -2}, Tensor.of(doubles.flip()).doubles());
  }

  @Test
  void aPartOfABufferIsCopied() {
    FloatBuffer buffer = FloatBuffer.wrap(new float[] {9, 1, 2, 9}, 1, 2);
    assertArrayEquals(new float[] {1, 2}, Tensor.of(buffer, 2, 1).floats());
    assertEquals(1, buffer.position());
  }

  @Test
  void changesOfTheArrayDoNotReachTheTensor() {
    float[] values = {1, 2};
    Tensor tensor = Tensor.of(values);
    values[0] = 5;
    assertArrayEquals(new float[] {1, 2}, tensor.floats());
    assertTrue(tensor.floatBuffer().isReadOnly());
  }

  @Test
  void shapesAreChecked() {
    wrong("shape", () -> Tensor.of(new float[5], 2, 3));
    wrong("shape", () -> Tensor.of(new float[0]));
    wrong("shape", () -> Tensor.of(new double[6], -2, -3));
    wrong("shape", () -> Tensor.of(new float[4], 65536, 65536));
    wrong("rows[1]", () -> Tensor.of(new float[][] {{1, 2}, {1}}));
    wrong("shape", () -> Tensor.of(new double[0][0]));
    wrong("bytes", () -> Tensor.ofLittleEndian(DataType.DATA_TYPE_FLOAT64, ByteBuffer.allocate(9)));
    Tensor three = Tensor.of(new float[6], 3, 2);
    wrong("labels", () -> Batch.of(three, 1, 0));
    wrong("targets", () -> Batch.withTargets(three, Tensor.of(new float[2], 2, 1)));
    wrong("label_names", () -> Batch.withNames(three, List.of("a")));
    wrong("sample_weights", () -> Batch.of(three, 1, 0, 1).withSampleWeights(1, 1));
    wrong("first", () -> three.slice(2, 2));
  }

  private static void wrong(String field, org.junit.jupiter.api.function.Executable action) {
    BackpropException e = assertThrows(BackpropException.class, action);
    assertEquals(Status.Code.INVALID_ARGUMENT, e.code());
    assertEquals(field, e.violations().get(0).field());
  }

  @Test
  void rowsAreSliced() {
    Batch batch = Batch.of(Tensor.of(new double[] {1, 2, 3, 4, 5, 6}, 3, 2), 7, 8, 9);
    dev.backprop.v1.Batch part = batch.slice(1, 2).message();
    assertEquals(List.of(2, 2), part.getInputs().getShapeList());
    Tensor inputs = Tensor.fromMessage(part.getInputs());
    assertArrayEquals(new double[] {3, 4, 5, 6}, inputs.doubles());
    assertArrayEquals(new double[] {8, 9}, Tensor.fromMessage(part.getLabels()).doubles());
  }

  @Test
  void theChecksumIsThatOfTheStoredPrecision() {
    Tensor inputs = Tensor.of(new double[] {0.1, 0.2}, 2, 1);
    CRC32 crc = new CRC32();
    ByteBuffer stored = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN);
    stored.putFloat((float) 0.1).putFloat((float) 0.2).putInt(3).putInt(4);
    crc.update(stored.array());
    assertEquals(
        (int) crc.getValue(),
        Batch.of(inputs, 3, 4).checksum(DataType.DATA_TYPE_FLOAT32).getAsInt());
    assertEquals(
        (int) crc.getValue(),
        Batch.withLabels(inputs, Tensor.of(new long[] {3, 4}))
            .checksum(DataType.DATA_TYPE_FLOAT32)
            .getAsInt());
  }
}
