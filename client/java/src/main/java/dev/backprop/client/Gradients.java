package dev.backprop.client;

import dev.backprop.v1.Metrics;
import java.util.Map;

/**
 * The gradient of the mean loss on a batch.
 *
 * @param tensors gradients by the names of the parameters, in the order of the layers
 * @param metrics loss and accuracy on the batch
 * @param norm Euclidean norm over all parameters
 * @param weight weight of the batch in a mean over batches
 * @param step the step count of the parameters
 */
public record Gradients(
    Map<String, Tensor> tensors, Metrics metrics, double norm, double weight, long step) {}
