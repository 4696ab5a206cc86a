package dev.backprop.client;

import dev.backprop.v1.Parameters;
import java.util.Map;
import java.util.OptionalLong;

/** Weights, biases and optimiser state of a model. Immutable. */
public final class ModelParameters {
  private final Parameters message;

  private ModelParameters(Parameters message) {
    this.message = message;
  }

  /**
   * Some weights and biases, without optimiser state.
   *
   * @param tensors tensors by name, such as {@code layers[0].weights}
   * @return the parameters
   */
  public static ModelParameters of(Map<String, Tensor> tensors) {
    return of(Parameters.newBuilder().addAllTensors(Messages.named(tensors)).build());
  }

  /**
   * Parameters of a message of the API, whose tensors must be raw.
   *
   * @param message the message
   * @return the parameters
   */
  public static ModelParameters of(Parameters message) {
    return new ModelParameters(message);
  }

  /**
   * Returns weights and biases by name, in the order of the layers.
   *
   * @return the tensors
   */
  public Map<String, Tensor> tensors() {
    return Messages.tensors(message.getTensorsList());
  }

  /**
   * Returns the state of the optimiser by name.
   *
   * @return the tensors; empty for plain SGD
   */
  public Map<String, Tensor> optimizerState() {
    return Messages.tensors(message.getOptimizerStateList());
  }

  /**
   * Returns the number of optimiser steps that were applied.
   *
   * @return the step count, if it is known
   */
  public OptionalLong step() {
    return message.hasStep() ? OptionalLong.of(message.getStep()) : OptionalLong.empty();
  }

  /**
   * Returns the message of the API, which also has the standardisation and the state of a schedule.
   *
   * @return the message
   */
  public Parameters message() {
    return message;
  }
}
