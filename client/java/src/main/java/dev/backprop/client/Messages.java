package dev.backprop.client;

import dev.backprop.v1.ComputeGradientsResponse;
import dev.backprop.v1.NamedTensor;
import dev.backprop.v1.PredictResponse;
import dev.backprop.v1.StepResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Conversions between messages and the types of this package. */
final class Messages {
  private Messages() {}

  static com.google.protobuf.Duration duration(Duration duration) {
    return com.google.protobuf.Duration.newBuilder()
        .setSeconds(duration.getSeconds())
        .setNanos(duration.getNano())
        .build();
  }

  static List<NamedTensor> named(Map<String, Tensor> tensors) {
    List<NamedTensor> all = new ArrayList<>(tensors.size());
    tensors.forEach(
        (name, tensor) ->
            all.add(NamedTensor.newBuilder().setName(name).setTensor(tensor.message()).build()));
    return all;
  }

  static Map<String, Tensor> tensors(List<NamedTensor> named) {
    Map<String, Tensor> all = new LinkedHashMap<>();
    for (NamedTensor one : named) all.put(one.getName(), Tensor.fromMessage(one.getTensor()));
    return Collections.unmodifiableMap(all);
  }

  static StepResult step(StepResponse response) {
    return new StepResult(
        response.getStep(),
        response.getMetrics(),
        response.getGradientNorm(),
        response.getLearningRate());
  }

  static Prediction prediction(PredictResponse response) {
    return new Prediction(
        response.hasLogits()
            ? Optional.of(Tensor.fromMessage(response.getLogits()))
            : Optional.empty(),
        response.hasProbabilities()
            ? Optional.of(Tensor.fromMessage(response.getProbabilities()))
            : Optional.empty(),
        response.getClassesList(),
        List.copyOf(response.getClassNamesList()),
        response.getStep());
  }

  static Gradients gradients(ComputeGradientsResponse response) {
    return new Gradients(
        tensors(response.getGradientsList()),
        response.getMetrics(),
        response.getGradientNorm(),
        response.getWeight(),
        response.getStep());
  }
}
