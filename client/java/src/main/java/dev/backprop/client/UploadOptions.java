package dev.backprop.client;

import dev.backprop.v1.DataType;
import java.util.List;
import java.util.Map;
import java.util.function.LongConsumer;

/**
 * How rows are uploaded.
 *
 * @param dataType precision in which the server stores the rows; null: that of the first rows
 * @param chunkRows rows in a message; 0: as many as fit in about 1 MiB
 * @param labels labels of the caller
 * @param featureNames names of the inputs, in their order; empty: none
 * @param progress called on the calling thread after each chunk with the number of rows that were
 *     sent so far
 */
public record UploadOptions(
    DataType dataType,
    int chunkRows,
    Map<String, String> labels,
    List<String> featureNames,
    LongConsumer progress) {
  /**
   * Copies labels and names.
   *
   * @param dataType as above
   * @param chunkRows as above
   * @param labels as above
   * @param featureNames as above
   * @param progress as above
   */
  public UploadOptions {
    if (chunkRows < 0) throw BackpropException.invalid("chunkRows", "must not be negative");
    labels = Map.copyOf(labels);
    featureNames = List.copyOf(featureNames);
    if (progress == null) progress = rows -> {};
  }

  /**
   * The defaults.
   *
   * @return the options
   */
  public static UploadOptions defaults() {
    return new UploadOptions(null, 0, Map.of(), List.of(), null);
  }

  /**
   * Sets the precision in which the server stores the rows.
   *
   * @param value FLOAT32 or FLOAT64
   * @return the options
   */
  public UploadOptions withDataType(DataType value) {
    return new UploadOptions(value, chunkRows, labels, featureNames, progress);
  }

  /**
   * Sets the number of rows in a message.
   *
   * @param value at least 1; 0: as many as fit in about 1 MiB
   * @return the options
   */
  public UploadOptions withChunkRows(int value) {
    return new UploadOptions(dataType, value, labels, featureNames, progress);
  }

  /**
   * Sets labels.
   *
   * @param value labels by key
   * @return the options
   */
  public UploadOptions withLabels(Map<String, String> value) {
    return new UploadOptions(dataType, chunkRows, value, featureNames, progress);
  }

  /**
   * Names the inputs.
   *
   * @param value one name for each input
   * @return the options
   */
  public UploadOptions withFeatureNames(List<String> value) {
    return new UploadOptions(dataType, chunkRows, labels, value, progress);
  }

  /**
   * Sets what is called after each chunk. An exception ends the upload.
   *
   * @param value receives the number of rows that were sent so far
   * @return the options
   */
  public UploadOptions withProgress(LongConsumer value) {
    return new UploadOptions(dataType, chunkRows, labels, featureNames, value);
  }
}
