package dev.backprop.client;

import dev.backprop.v1.ApplyGradientsResponse;
import dev.backprop.v1.Checkpoint;
import dev.backprop.v1.Dataset;
import dev.backprop.v1.EvaluateResponse;
import dev.backprop.v1.GradCheckConfig;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.Model;
import dev.backprop.v1.ModelSpec;
import dev.backprop.v1.PredictOutput;
import dev.backprop.v1.Project;
import dev.backprop.v1.ServerStatus;
import dev.backprop.v1.ServerStatusView;
import dev.backprop.v1.StopTrainingResponse;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;

/**
 * The unary calls of a {@link BackpropClient} as futures: {@link BackpropClient#async} returns it. A
 * failed future holds a {@link BackpropException}. Retries and deadlines are those of the client.
 *
 * <p>Cancelling a future, or completing it otherwise (as {@code orTimeout} does), cancels its call.
 * A future that another method of the future returned, such as {@code thenApply}, does not. Actions
 * that are attached to a future run on a thread of the connection; long ones belong in the {@code
 * Async} methods of the future. Thread-safe.
 */
public final class AsyncBackpropClient {
  private final Transport transport;
  private final Options options;

  AsyncBackpropClient(Transport transport, Options options) {
    this.transport = transport;
    this.options = options;
  }

  private <Q, R, T> CompletableFuture<T> future(Call<Q, R, T> call) {
    return transport.future(call, options.unaryTimeout());
  }

  /** A call without a result. */
  private <Q, R> CompletableFuture<Void> done(Call<Q, R, ?> call) {
    return future(new Call<Q, R, Void>(call.method(), call.request(), response -> null));
  }

  /**
   * Creates a model with an id that the server draws.
   *
   * @param spec its definition
   * @return a future of the model
   */
  public CompletableFuture<Model> createModel(ModelSpec spec) {
    return future(Calls.createModel(options, spec, CreateOptions.unnamed()));
  }

  /**
   * Creates a model.
   *
   * @param spec its definition
   * @param create its id and more
   * @return a future of the model
   */
  public CompletableFuture<Model> createModel(ModelSpec spec, CreateOptions create) {
    return future(Calls.createModel(options, spec, create));
  }

  /**
   * Returns the description of a model.
   *
   * @param model its name or id
   * @return a future of the model as it is now
   */
  public CompletableFuture<Model> getModel(String model) {
    return future(Calls.getModel(model));
  }

  /**
   * Deletes a model. An active run of it ends.
   *
   * @param model its name or id
   * @return a future that ends with the call
   */
  public CompletableFuture<Void> deleteModel(String model) {
    return done(Calls.deleteModel(options, model));
  }

  /**
   * Stops the active run of a model after its current step, and returns when it has ended.
   *
   * @param model its name or id
   * @return a future of the name and the summary of the run
   */
  public CompletableFuture<StopTrainingResponse> stopTraining(String model) {
    return future(Calls.stopTraining(options, model));
  }

  /**
   * Makes one optimiser step.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return a future of the step count and the loss before the step
   */
  public CompletableFuture<StepResult> step(String model, Batch batch) {
    return future(Calls.step(options, model, batch, OptionalLong.empty()));
  }

  /**
   * Makes one optimiser step, if the model has the expected step count. Otherwise it fails with
   * ABORTED and {@link BackpropException#currentStep}.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @param expectedStep step count of the model before the step
   * @return a future of the step count and the loss before the step
   */
  public CompletableFuture<StepResult> step(String model, Batch batch, long expectedStep) {
    return future(Calls.step(options, model, batch, OptionalLong.of(expectedStep)));
  }

  /**
   * Computes the gradient of the mean loss on a batch: the first half of a step.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return a future of one tensor for each parameter tensor
   */
  public CompletableFuture<Gradients> computeGradients(String model, Batch batch) {
    return future(Calls.computeGradients(model, batch));
  }

  /**
   * Makes an optimiser step with given gradients: the second half of a step.
   *
   * @param model name or id of the model
   * @param gradients one tensor for each parameter tensor, by name
   * @return a future of the step count after the step
   */
  public CompletableFuture<ApplyGradientsResponse> applyGradients(
      String model, Map<String, Tensor> gradients) {
    return future(Calls.applyGradients(options, model, gradients, OptionalLong.empty()));
  }

  /**
   * Makes an optimiser step with given gradients, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param gradients one tensor for each parameter tensor, by name
   * @param expectedStep step count of the model before the step
   * @return a future of the step count after the step
   */
  public CompletableFuture<ApplyGradientsResponse> applyGradients(
      String model, Map<String, Tensor> gradients, long expectedStep) {
    return future(Calls.applyGradients(options, model, gradients, OptionalLong.of(expectedStep)));
  }

  /**
   * Computes the outputs of a model. Does not wait for an active run.
   *
   * @param model name or id of the model
   * @param inputs shape [n, d]
   * @param outputs what to return; none: the default for the loss of the model
   * @return a future of the outputs, one row for each row of inputs
   */
  public CompletableFuture<Prediction> predict(
      String model, Tensor inputs, PredictOutput... outputs) {
    return future(Calls.predict(model, inputs, outputs));
  }

  /**
   * Computes loss and metrics on a batch or a dataset.
   *
   * @param model name or id of the model
   * @param rows the rows with labels or targets
   * @return a future of the metrics
   */
  public CompletableFuture<EvaluateResponse> evaluate(String model, Rows rows) {
    return future(Calls.evaluate(model, rows));
  }

  /**
   * Checks the gradients of a model by finite differences.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return a future of the verdict, in whole and for each tensor
   */
  public CompletableFuture<GradCheckResult> gradCheck(String model, Batch batch) {
    return future(Calls.gradCheck(model, batch, GradCheckConfig.getDefaultInstance()));
  }

  /**
   * Checks the gradients of a model by finite differences.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @param config tolerances and sampling
   * @return a future of the verdict, in whole and for each tensor
   */
  public CompletableFuture<GradCheckResult> gradCheck(
      String model, Batch batch, GradCheckConfig config) {
    return future(Calls.gradCheck(model, batch, config));
  }

  /**
   * Returns the exact weights and the optimiser state of a model.
   *
   * @param model name or id of the model
   * @return a future of the parameters
   */
  public CompletableFuture<ModelParameters> getParameters(String model) {
    return future(Calls.getParameters(model));
  }

  /**
   * Replaces the given tensors of a model; others keep their values. Without optimiser state, that
   * state is reset.
   *
   * @param model name or id of the model
   * @param parameters the tensors
   * @return a future of the step count of the model
   */
  public CompletableFuture<Long> setParameters(String model, ModelParameters parameters) {
    return future(Calls.setParameters(options, model, parameters, OptionalLong.empty()));
  }

  /**
   * Replaces the given tensors of a model, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param parameters the tensors
   * @param expectedStep step count of the model before the change
   * @return a future of the step count of the model
   */
  public CompletableFuture<Long> setParameters(
      String model, ModelParameters parameters, long expectedStep) {
    return future(Calls.setParameters(options, model, parameters, OptionalLong.of(expectedStep)));
  }

  /**
   * Saves parameters, optimiser state and step count of a model. Allowed during a run.
   *
   * @param model name or id of the model
   * @param checkpointId id of the checkpoint
   * @return a future of the checkpoint
   */
  public CompletableFuture<Checkpoint> createCheckpoint(String model, String checkpointId) {
    return future(Calls.createCheckpoint(options, model, checkpointId));
  }

  /**
   * Restores a model to a checkpoint, with its step count.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   * @return a future of the step count of the model
   */
  public CompletableFuture<Long> restoreCheckpoint(String model, String checkpoint) {
    return future(Calls.restoreCheckpoint(options, model, checkpoint, OptionalLong.empty()));
  }

  /**
   * Restores a model to a checkpoint, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   * @param expectedStep step count of the model before the change
   * @return a future of the step count of the model
   */
  public CompletableFuture<Long> restoreCheckpoint(
      String model, String checkpoint, long expectedStep) {
    return future(
        Calls.restoreCheckpoint(options, model, checkpoint, OptionalLong.of(expectedStep)));
  }

  /**
   * Deletes a checkpoint.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   * @return a future that ends with the call
   */
  public CompletableFuture<Void> deleteCheckpoint(String model, String checkpoint) {
    return done(Calls.deleteCheckpoint(options, model, checkpoint));
  }

  /**
   * Returns the description of a dataset.
   *
   * @param dataset its name or id
   * @return a future of the dataset as it is now
   */
  public CompletableFuture<Dataset> getDataset(String dataset) {
    return future(Calls.getDataset(dataset));
  }

  /**
   * Deletes a dataset that no run uses.
   *
   * @param dataset its name or id
   * @return a future that ends with the call
   */
  public CompletableFuture<Void> deleteDataset(String dataset) {
    return done(Calls.deleteDataset(options, dataset));
  }

  /**
   * Returns version, health and metrics of the server. With authentication, operators only.
   *
   * @param view which parts
   * @return a future of the status
   */
  public CompletableFuture<ServerStatus> getServerStatus(ServerStatusView view) {
    return future(Calls.serverStatus(view));
  }

  /**
   * Returns what a project uses and may use.
   *
   * @param project its name or id
   * @return a future of the project
   */
  public CompletableFuture<Project> getProject(String project) {
    return future(Calls.getProject(project));
  }

  /**
   * Asks whether the server is serving.
   *
   * @return a future of whether it is
   */
  public CompletableFuture<Boolean> isServing() {
    return future(Calls.health(""));
  }

  /**
   * Asks whether a service is serving.
   *
   * @param service its name, such as {@code backprop.v1.TrainingService.writes}
   * @return a future of whether it is
   */
  public CompletableFuture<Boolean> isServing(String service) {
    return future(Calls.health(service));
  }
}
