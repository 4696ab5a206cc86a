package dev.backprop.client;

import java.util.List;
import java.util.Optional;

/**
 * The outputs of a model for some rows.
 *
 * @param logits outputs of the last layer, shape [n, k], if they were asked for
 * @param probabilities shape [n, k], for classification
 * @param classes one class index for each row, for classification; a list without boxes is {@link
 *     #classArray}
 * @param classNames one class name for each row, if the model has names
 * @param step the step count of the parameters
 */
public record Prediction(
    Optional<Tensor> logits,
    Optional<Tensor> probabilities,
    List<Integer> classes,
    List<String> classNames,
    long step) {
  /**
   * Returns the class indices.
   *
   * @return a new array, one index for each row
   */
  public int[] classArray() {
    return classes.stream().mapToInt(Integer::intValue).toArray();
  }
}
