package dev.backprop.client;

import dev.backprop.v1.EarlyStopping;
import dev.backprop.v1.TrainingConfig;
import java.time.Duration;
import java.util.Objects;
import java.util.function.UnaryOperator;

/** How long and how a run trains. Immutable; each method returns changed options. */
public final class TrainOptions {
  private final TrainingConfig config;
  private final Rows validation; // null: none
  private final boolean detached;
  private final boolean waiting;

  private TrainOptions(TrainingConfig config, Rows validation, boolean detached, boolean waiting) {
    this.config = config;
    this.validation = validation;
    this.detached = detached;
    this.waiting = waiting;
  }

  /**
   * Trains for a number of optimiser steps.
   *
   * @param iterations number of steps
   * @return the options
   */
  public static TrainOptions iterations(long iterations) {
    return of(TrainingConfig.newBuilder().setIterations(iterations).build());
  }

  /**
   * Trains for a number of passes over the rows.
   *
   * @param epochs number of passes
   * @return the options
   */
  public static TrainOptions epochs(long epochs) {
    return of(TrainingConfig.newBuilder().setEpochs(epochs).build());
  }

  /**
   * Trains with a configuration of the API.
   *
   * @param config the configuration
   * @return the options
   */
  public static TrainOptions of(TrainingConfig config) {
    return new TrainOptions(Objects.requireNonNull(config, "config"), null, false, false);
  }

  /**
   * Sets the number of rows in a step. Default: all rows.
   *
   * @param rows at least 1
   * @return the options
   */
  public TrainOptions batchSize(int rows) {
    return with(config -> config.setBatchSize(rows));
  }

  /**
   * Sets the number of iterations between two reports. Default: a hundredth of the run.
   *
   * @param iterations at least 1
   * @return the options
   */
  public TrainOptions reportEvery(long iterations) {
    return with(config -> config.setReportEvery(iterations));
  }

  /**
   * Sets the largest time between two reports. Default: one second.
   *
   * @param interval at least a millisecond
   * @return the options
   */
  public TrainOptions reportInterval(Duration interval) {
    return with(config -> config.setReportInterval(Messages.duration(interval)));
  }

  /**
   * Sets whether each epoch visits the rows in a new random order.
   *
   * @param shuffle whether to
   * @return the options
   */
  public TrainOptions shuffle(boolean shuffle) {
    return with(config -> config.setShuffle(shuffle));
  }

  /**
   * Holds out a part of the rows for validation.
   *
   * @param fraction in (0, 1)
   * @return the options
   */
  public TrainOptions validationSplit(double fraction) {
    return with(config -> config.setValidationSplit(fraction));
  }

  /**
   * Ends the run when the loss has not improved for some epochs, and restores the best epoch.
   *
   * @param patience number of epochs without improvement
   * @return the options
   */
  public TrainOptions earlyStopping(long patience) {
    return with(
        config -> config.setEarlyStopping(EarlyStopping.newBuilder().setPatience(patience)));
  }

  /**
   * Sets any other field of the configuration, such as checkpoints.
   *
   * @param change changes the builder
   * @return the options
   */
  public TrainOptions with(UnaryOperator<TrainingConfig.Builder> change) {
    return new TrainOptions(
        change.apply(config.toBuilder()).build(), validation, detached, waiting);
  }

  /**
   * Evaluates rows after every epoch.
   *
   * @param rows the rows, or the dataset that has them
   * @return the options
   */
  public TrainOptions validation(Rows rows) {
    return new TrainOptions(config, Objects.requireNonNull(rows, "rows"), detached, waiting);
  }

  /**
   * Lets the run continue when the call ends. Without this, the end of the call stops the run.
   *
   * @return the options
   */
  public TrainOptions detach() {
    return new TrainOptions(config, validation, true, waiting);
  }

  /**
   * Waits for the end of another run of the model instead of failing with RUN_UNDER_WAY.
   *
   * @return the options
   */
  public TrainOptions waitForOtherRun() {
    return new TrainOptions(config, validation, detached, true);
  }

  TrainingConfig config() {
    return config;
  }

  Rows validation() {
    return validation;
  }

  boolean detached() {
    return detached;
  }

  boolean waiting() {
    return waiting;
  }
}
