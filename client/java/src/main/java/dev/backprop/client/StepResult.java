package dev.backprop.client;

import dev.backprop.v1.Metrics;

/**
 * The result of one optimiser step.
 *
 * @param step the model's step count after the step
 * @param metrics loss and accuracy on the batch, before the update
 * @param gradientNorm Euclidean norm of the gradient, before clipping
 * @param learningRate learning rate of the step
 */
public record StepResult(long step, Metrics metrics, double gradientNorm, double learningRate) {
  /**
   * Returns the loss on the batch, before the update.
   *
   * @return the mean loss
   */
  public double loss() {
    return metrics.getLoss();
  }
}
