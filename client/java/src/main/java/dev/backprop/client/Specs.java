package dev.backprop.client;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import dev.backprop.v1.Activation;
import dev.backprop.v1.Adagrad;
import dev.backprop.v1.Adam;
import dev.backprop.v1.AdamW;
import dev.backprop.v1.BinaryCrossEntropy;
import dev.backprop.v1.Huber;
import dev.backprop.v1.Layer;
import dev.backprop.v1.Loss;
import dev.backprop.v1.MeanAbsoluteError;
import dev.backprop.v1.MeanSquaredError;
import dev.backprop.v1.ModelSpec;
import dev.backprop.v1.Optimizer;
import dev.backprop.v1.RmsProp;
import dev.backprop.v1.Sgd;
import dev.backprop.v1.SoftmaxCrossEntropy;

/** Short forms of the messages that define a model. The builders set everything else. */
public final class Specs {
  private Specs() {}

  /**
   * A network of dense layers, with ReLU between them: {@code mlp(2, 16, 2)} has 2 inputs, 16
   * hidden units and 2 outputs.
   *
   * @param inputs number of features
   * @param units outputs of each layer, at least one layer
   * @return a builder, for the loss, the optimiser, the seed and more
   */
  public static ModelSpec.Builder mlp(int inputs, int... units) {
    ModelSpec.Builder spec = ModelSpec.newBuilder().setInputSize(inputs);
    for (int width : units) spec.addLayers(Layer.newBuilder().setUnits(width));
    return spec;
  }

  /**
   * Reads a definition in the JSON form of the API, for example of a configuration file. Unknown
   * fields and unknown names of enums are errors.
   *
   * @param json a ModelSpec, such as {@code {"inputSize": 2, "layers": [{"units": 2}]}}
   * @return the definition
   */
  public static ModelSpec fromJson(String json) {
    ModelSpec.Builder spec = ModelSpec.newBuilder();
    try {
      JsonFormat.parser().merge(json, spec);
    } catch (InvalidProtocolBufferException e) {
      throw BackpropException.invalid("spec", e.getMessage());
    }
    return spec.build();
  }

  /**
   * A dense layer.
   *
   * @param units its outputs
   * @param activation the function of its outputs
   * @return the layer
   */
  public static Layer layer(int units, Activation activation) {
    return Layer.newBuilder().setUnits(units).setActivation(activation).build();
  }

  /**
   * Stochastic gradient descent.
   *
   * @param learningRate step size
   * @return the optimiser
   */
  public static Optimizer sgd(double learningRate) {
    return Optimizer.newBuilder().setSgd(Sgd.newBuilder().setLearningRate(learningRate)).build();
  }

  /**
   * Stochastic gradient descent with momentum.
   *
   * @param learningRate step size
   * @param momentum in [0, 1)
   * @return the optimiser
   */
  public static Optimizer sgd(double learningRate, double momentum) {
    return Optimizer.newBuilder()
        .setSgd(Sgd.newBuilder().setLearningRate(learningRate).setMomentum(momentum))
        .build();
  }

  /**
   * Adam.
   *
   * @param learningRate step size
   * @return the optimiser
   */
  public static Optimizer adam(double learningRate) {
    return Optimizer.newBuilder().setAdam(Adam.newBuilder().setLearningRate(learningRate)).build();
  }

  /**
   * Adam with decoupled weight decay.
   *
   * @param learningRate step size
   * @param weightDecay at least 0
   * @return the optimiser
   */
  public static Optimizer adamW(double learningRate, double weightDecay) {
    return Optimizer.newBuilder()
        .setAdamw(AdamW.newBuilder().setLearningRate(learningRate).setWeightDecay(weightDecay))
        .build();
  }

  /**
   * RMSProp.
   *
   * @param learningRate step size
   * @return the optimiser
   */
  public static Optimizer rmsProp(double learningRate) {
    return Optimizer.newBuilder()
        .setRmsprop(RmsProp.newBuilder().setLearningRate(learningRate))
        .build();
  }

  /**
   * Adagrad.
   *
   * @param learningRate step size
   * @return the optimiser
   */
  public static Optimizer adagrad(double learningRate) {
    return Optimizer.newBuilder()
        .setAdagrad(Adagrad.newBuilder().setLearningRate(learningRate))
        .build();
  }

  /**
   * For one class out of k; the default.
   *
   * @return the loss
   */
  public static Loss softmaxCrossEntropy() {
    return Loss.newBuilder()
        .setSoftmaxCrossEntropy(SoftmaxCrossEntropy.getDefaultInstance())
        .build();
  }

  /**
   * For independent binary outputs.
   *
   * @return the loss
   */
  public static Loss binaryCrossEntropy() {
    return Loss.newBuilder().setBinaryCrossEntropy(BinaryCrossEntropy.getDefaultInstance()).build();
  }

  /**
   * For regression.
   *
   * @return the loss
   */
  public static Loss meanSquaredError() {
    return Loss.newBuilder().setMeanSquaredError(MeanSquaredError.getDefaultInstance()).build();
  }

  /**
   * For regression with outliers.
   *
   * @return the loss
   */
  public static Loss meanAbsoluteError() {
    return Loss.newBuilder().setMeanAbsoluteError(MeanAbsoluteError.getDefaultInstance()).build();
  }

  /**
   * For regression with outliers; quadratic for small errors.
   *
   * @param delta the largest error with a quadratic loss
   * @return the loss
   */
  public static Loss huber(double delta) {
    return Loss.newBuilder().setHuber(Huber.newBuilder().setDelta(delta)).build();
  }
}
