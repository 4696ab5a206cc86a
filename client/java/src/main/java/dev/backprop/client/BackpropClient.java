package dev.backprop.client;

import com.google.protobuf.ByteString;
import dev.backprop.v1.AdminServiceGrpc;
import dev.backprop.v1.ApplyGradientsResponse;
import dev.backprop.v1.Checkpoint;
import dev.backprop.v1.Dataset;
import dev.backprop.v1.DatasetState;
import dev.backprop.v1.EvaluateResponse;
import dev.backprop.v1.GradCheckConfig;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.ImportModelRequest;
import dev.backprop.v1.ListCheckpointsResponse;
import dev.backprop.v1.ListDatasetsResponse;
import dev.backprop.v1.ListModelsResponse;
import dev.backprop.v1.ListProjectsResponse;
import dev.backprop.v1.Model;
import dev.backprop.v1.ModelSpec;
import dev.backprop.v1.PredictOutput;
import dev.backprop.v1.Project;
import dev.backprop.v1.RestoreBackupRequest;
import dev.backprop.v1.RestoreBackupResponse;
import dev.backprop.v1.ServerStatus;
import dev.backprop.v1.ServerStatusView;
import dev.backprop.v1.StopTrainingResponse;
import dev.backprop.v1.TrainRequest;
import dev.backprop.v1.TrainResponse;
import dev.backprop.v1.TrainingEvent;
import dev.backprop.v1.TrainingServiceGrpc;
import dev.backprop.v1.TrainingSummary;
import dev.backprop.v1.WatchTrainingRequest;
import dev.backprop.v1.WatchTrainingResponse;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * A connection to a backpropd server. It connects when the first call is made. Models are named
 * {@code models/{id}} or just {@code {id}}; so are other resources. All calls of this class block;
 * {@link #async} has the unary ones as futures.
 *
 * <ul>
 *   <li>A failure is a {@link BackpropException}.
 *   <li>Calls that end with UNAVAILABLE are repeated as {@link RetryPolicy} says. Every call that
 *       changes something carries a random request id, the same in all attempts, so that the server
 *       makes the change once.
 *   <li>Unary calls have a deadline of 60 seconds with all attempts; streams have none. {@link
 *       #withTimeout} changes that.
 *   <li>Interrupting the thread of a call, or cancelling its {@code io.grpc.Context}, cancels the
 *       call.
 * </ul>
 *
 * <p>Thread-safe.
 */
public final class BackpropClient implements AutoCloseable {
  private static final int DEFAULT_PAGE = 0;

  private final Transport transport;
  private final Options options;
  private final boolean owner; // of the transport

  private BackpropClient(Transport transport, Options options, boolean owner) {
    this.transport = transport;
    this.options = options;
    this.owner = owner;
  }

  /**
   * Returns a client with the defaults: clear text, and the token of the environment variable
   * BACKPROP_TOKEN if it is set.
   *
   * @param address {@code host:port} or {@code unix:path}
   * @return a client
   */
  public static BackpropClient connect(String address) {
    return builder(address).build();
  }

  /**
   * Returns a builder of clients.
   *
   * @param address {@code host:port} or {@code unix:path}
   * @return a builder
   */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** Sets how a client connects. */
  public static final class Builder {
    private final String address;
    private TlsOptions tls; // null: clear text
    private String token; // null: none
    private Path tokenFile; // null: none
    private boolean allowClearText;
    private RetryPolicy retry = RetryPolicy.DEFAULT;
    private Duration keepaliveTime = Duration.ofSeconds(10); // null: no pings
    private Duration keepaliveTimeout = Duration.ofSeconds(10);

    private Builder(String address) {
      this.address = address;
    }

    /**
     * Encrypts the connection. Unix sockets are always clear text.
     *
     * @param value certificates
     * @return this
     */
    public Builder tls(TlsOptions value) {
      tls = Objects.requireNonNull(value, "tls");
      return this;
    }

    /**
     * Sends a bearer token with every call. Without TLS it is only sent to this machine.
     *
     * @param value visible ASCII characters, at most 8 KiB
     * @return this
     */
    public Builder token(String value) {
      token = Objects.requireNonNull(value, "token");
      return this;
    }

    /**
     * Sends the bearer token of a file with every call. The file is read again when it changes.
     *
     * @param value the file; white space at its ends is ignored
     * @return this
     */
    public Builder tokenFile(Path value) {
      tokenFile = Objects.requireNonNull(value, "tokenFile");
      return this;
    }

    /**
     * Allows tokens in clear text to other machines, for example in an encrypted private network.
     *
     * @return this
     */
    public Builder allowClearTextToken() {
      allowClearText = true;
      return this;
    }

    /**
     * Sets when calls are repeated.
     *
     * @param value the policy
     * @return this
     */
    public Builder retry(RetryPolicy value) {
      retry = Objects.requireNonNull(value, "retry");
      return this;
    }

    /**
     * Sets the pings during calls, which find a server or a network that does not answer. Default:
     * 10 seconds and 10 seconds.
     *
     * @param time idle time before a ping; the transport uses at least 10 seconds
     * @param timeout time to wait for its answer
     * @return this
     */
    public Builder keepalive(Duration time, Duration timeout) {
      keepaliveTime = Objects.requireNonNull(time, "time");
      keepaliveTimeout = Objects.requireNonNull(timeout, "timeout");
      return this;
    }

    /**
     * Sends no pings.
     *
     * @return this
     */
    public Builder withoutKeepalive() {
      keepaliveTime = null;
      return this;
    }

    /**
     * Returns the client. It fails with FAILED_PRECONDITION if files of TLS cannot be used, or if a
     * token would travel in clear text to another machine.
     *
     * @return a client
     */
    public BackpropClient build() {
      if (token != null && tokenFile != null) {
        throw BackpropException.invalid("token", "a token and a token file cannot both be given");
      }
      Token bearer = null;
      String environment = System.getenv("BACKPROP_TOKEN");
      if (tokenFile != null) {
        bearer = Token.file(tokenFile);
      } else if (token != null) {
        bearer = Token.fixed(token);
      } else if (environment != null && !environment.isEmpty()) {
        bearer = Token.fixed(environment);
      }
      return new BackpropClient(
          new Transport(
              address, tls, bearer, allowClearText, retry, keepaliveTime, keepaliveTimeout),
          Options.DEFAULT,
          true);
    }
  }

  /**
   * Returns a view of this client whose calls end with DEADLINE_EXCEEDED after a time, which covers
   * all attempts and the pauses between them. For a {@link StepStream} it covers the whole stream.
   * The view uses the connection of this client; closing the view has no effect.
   *
   * @param timeout the time
   * @return a view
   */
  public BackpropClient withTimeout(Duration timeout) {
    return new BackpropClient(
        transport,
        new Options(Objects.requireNonNull(timeout, "timeout"), options.requestId()),
        false);
  }

  /**
   * Returns a view of this client whose changing calls carry this request id. A call with an id
   * that the server has seen returns the first response and changes nothing: use a view for one
   * change, for example to repeat a call after a restart of this process.
   *
   * @param requestId 1 to 128 printable ASCII characters
   * @return a view, as of {@link #withTimeout}
   */
  public BackpropClient withRequestId(String requestId) {
    return new BackpropClient(
        transport,
        new Options(options.timeout(), Names.required("request_id", requestId)),
        false);
  }

  /**
   * Returns the unary calls as futures, with the options of this view.
   *
   * @return another view of the connection
   */
  public AsyncBackpropClient async() {
    return new AsyncBackpropClient(transport, options);
  }

  /**
   * Returns whether the connection is established, as far as the client knows. Makes no call.
   *
   * @return whether it is
   */
  public boolean isConnected() {
    return transport.isConnected();
  }

  /** Closes the connection. Calls that are under way get five seconds to end. */
  @Override
  public void close() {
    if (owner) transport.close();
  }

  /**
   * Trains a model.
   *
   * @param model name or id of the model
   * @param rows a batch or a dataset
   * @param train length of the run and more
   * @return the summary of the run
   */
  public TrainingSummary train(String model, Rows rows, TrainOptions train) {
    return train(model, rows, train, event -> {});
  }

  /**
   * Trains a model and reports its progress. If the callback throws, the run is stopped, unless it
   * is detached, and the exception reaches the caller. To stop a run early, use {@link
   * #startTraining}.
   *
   * @param model name or id of the model
   * @param rows a batch or a dataset
   * @param train length of the run and more
   * @param progress called on this thread with every event, the last one is the summary
   * @return the summary of the run
   */
  public TrainingSummary train(
      String model, Rows rows, TrainOptions train, Consumer<? super TrainingEvent> progress) {
    try (TrainingRun run = startTraining(model, rows, train)) {
      run.iterator().forEachRemaining(progress);
      return run.await();
    }
  }

  /**
   * Starts a run whose events the caller reads.
   *
   * @param model name or id of the model
   * @param rows a batch or a dataset
   * @param train length of the run and more
   * @return the events; closing it stops the run, unless it is detached
   */
  public TrainingRun startTraining(String model, Rows rows, TrainOptions train) {
    TrainRequest request = Calls.trainRequest(options, model, rows, train);
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    return new TrainingRun(
        transport,
        attempts,
        !train.detached(),
        next ->
            events(
                ClientCalls.blockingServerStreamingCall(
                    transport.channel(),
                    TrainingServiceGrpc.getTrainMethod(),
                    transport.options(attempts.deadline()),
                    request),
                TrainResponse::getEvent));
  }

  /**
   * Follows the active run of a model, or its latest one, from its first event on.
   *
   * @param model name or id of the model
   * @return the events; closing it does not stop the run
   */
  public TrainingRun watchTraining(String model) {
    return watchTraining(model, WatchOptions.LATEST);
  }

  /**
   * Follows a run.
   *
   * @param model name or id of the model
   * @param watch which run, and from which event on
   * @return the events; closing it does not stop the run
   */
  public TrainingRun watchTraining(String model, WatchOptions watch) {
    String name = Names.model(model);
    Attempts attempts = new Attempts(transport.retry(), options.timeout());
    return new TrainingRun(
        transport,
        attempts,
        false,
        next ->
            events(
                ClientCalls.blockingServerStreamingCall(
                    transport.channel(),
                    TrainingServiceGrpc.getWatchTrainingMethod(),
                    transport.options(attempts.deadline()),
                    WatchTrainingRequest.newBuilder()
                        .setModel(name)
                        .setRun(watch.run())
                        .setFromSequence(Math.max(watch.fromSequence(), next))
                        .build()),
                WatchTrainingResponse::getEvent));
  }

  private static <R> Iterator<TrainingEvent> events(
      Iterator<R> responses, java.util.function.Function<R, TrainingEvent> event) {
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return responses.hasNext();
      }

      @Override
      public TrainingEvent next() {
        return event.apply(responses.next());
      }
    };
  }

  /**
   * Opens a stream of pipelined steps with up to 32 steps without an answer.
   *
   * @param model name or id of the model
   * @return the stream
   */
  public StepStream openSteps(String model) {
    return openSteps(model, StepStream.MAX_IN_FLIGHT);
  }

  /**
   * Opens a stream of pipelined steps.
   *
   * @param model name or id of the model
   * @param inFlight largest number of steps without an answer, in [1, 32]
   * @return the stream
   */
  public StepStream openSteps(String model, int inFlight) {
    return new StepStream(transport, options, model, inFlight);
  }

  /**
   * Makes a step on each batch, pipelined. The first step that the server refuses ends it.
   *
   * @param model name or id of the model
   * @param batches the batches
   * @return one result for each batch
   */
  public List<StepResult> steps(String model, Iterable<Batch> batches) {
    List<CompletableFuture<StepResult>> futures = new ArrayList<>();
    StepStream stream = openSteps(model);
    try {
      for (Batch batch : batches) {
        CompletableFuture<StepResult> oldest =
            futures.size() < StepStream.MAX_IN_FLIGHT
                ? null
                : futures.get(futures.size() - StepStream.MAX_IN_FLIGHT);
        if (oldest != null && oldest.isCompletedExceptionally()) oldest.join();
        futures.add(stream.send(batch));
      }
      stream.close();
      return futures.stream().map(CompletableFuture::join).toList();
    } catch (CompletionException e) {
      if (e.getCause() instanceof BackpropException failure) throw failure;
      throw e;
    } finally {
      stream.cancel();
    }
  }

  /**
   * Lists all models in order of name. Pages are fetched as the stream is read.
   *
   * @return the models
   */
  public Stream<Model> listModels() {
    return listModels(Map.of(), DEFAULT_PAGE);
  }

  /**
   * Lists the models that have all of these labels.
   *
   * @param labels labels by key
   * @return the models
   */
  public Stream<Model> listModels(Map<String, String> labels) {
    return listModels(labels, DEFAULT_PAGE);
  }

  /**
   * Lists the models that have all of these labels.
   *
   * @param labels labels by key
   * @param pageSize models in a response, at most 1000; 0: 100
   * @return the models
   */
  public Stream<Model> listModels(Map<String, String> labels, int pageSize) {
    return Pages.stream(
        token ->
            transport.call(
                Calls.listModels(labels, pageSize, token), options.unaryTimeout()),
        ListModelsResponse::getModelsList,
        ListModelsResponse::getNextPageToken);
  }

  /**
   * Lists the checkpoints of a model in order of name.
   *
   * @param model name or id of the model
   * @return the checkpoints
   */
  public Stream<Checkpoint> listCheckpoints(String model) {
    return Pages.stream(
        token -> transport.call(Calls.listCheckpoints(model, token), options.unaryTimeout()),
        ListCheckpointsResponse::getCheckpointsList,
        ListCheckpointsResponse::getNextPageToken);
  }

  /**
   * Lists all datasets in order of name.
   *
   * @return the datasets
   */
  public Stream<Dataset> listDatasets() {
    return Pages.stream(
        token -> transport.call(Calls.listDatasets(token), options.unaryTimeout()),
        ListDatasetsResponse::getDatasetsList,
        ListDatasetsResponse::getNextPageToken);
  }

  /**
   * Lists the projects that the caller may see, by name.
   *
   * @return the projects
   */
  public Stream<Project> listProjects() {
    return Pages.stream(
        token -> transport.call(Calls.listProjects(token), options.unaryTimeout()),
        ListProjectsResponse::getProjectsList,
        ListProjectsResponse::getNextPageToken);
  }

  /**
   * Uploads a batch as a dataset, in chunks with checksums, in the precision of its inputs.
   *
   * @param dataset id of the dataset
   * @param rows the rows
   * @return the dataset
   */
  public Dataset uploadDataset(String dataset, Batch rows) {
    return uploadDataset(dataset, rows, UploadOptions.defaults());
  }

  /**
   * Uploads a batch as a dataset, in chunks with checksums. After a break the upload continues with
   * the first row that the server does not have.
   *
   * @param dataset id of the dataset
   * @param rows the rows
   * @param upload precision, progress and more
   * @return the dataset
   */
  public Dataset uploadDataset(String dataset, Batch rows, UploadOptions upload) {
    UploadOptions complete =
        upload.dataType() == null ? upload.withDataType(rows.inputs().type()) : upload;
    return uploadDataset(dataset, Transfers.source(rows, upload.chunkRows()), complete);
  }

  /**
   * Uploads rows that are read piece by piece.
   *
   * @param dataset id of the dataset
   * @param rows the rows
   * @param upload precision (default: FLOAT32), progress and more
   * @return the dataset
   */
  public Dataset uploadDataset(String dataset, RowSource rows, UploadOptions upload) {
    return new Transfers(transport, options)
        .upload(dataset, rows, upload, () -> storedRows(dataset));
  }

  private long storedRows(String dataset) {
    try {
      Dataset there = getDataset(dataset);
      return there.getState() == DatasetState.DATASET_STATE_UNSPECIFIED ? 0 : there.getRows();
    } catch (BackpropException e) {
      if (e.code() == Status.Code.NOT_FOUND) return 0;
      throw e;
    }
  }

  /**
   * Exports a model to a file. The file appears, or is replaced, when it is complete.
   *
   * @param model name or id of the model
   * @param file the file
   * @return its size in bytes
   * @throws IOException if the file cannot be written
   */
  public long exportModel(String model, Path file) throws IOException {
    return new Transfers(transport, options)
        .download(
            TrainingServiceGrpc.getExportModelMethod(),
            Transfers.export(model),
            response -> response.getData(),
            file);
  }

  /**
   * Exports a model. The call is not repeated once bytes were written.
   *
   * @param model name or id of the model
   * @param out where the bytes go; it is not closed
   * @return the number of bytes
   * @throws IOException if {@code out} throws it
   */
  public long exportModel(String model, OutputStream out) throws IOException {
    return new Transfers(transport, options)
        .download(
            TrainingServiceGrpc.getExportModelMethod(),
            Transfers.export(model),
            response -> response.getData(),
            out);
  }

  /**
   * Creates a model from a file of {@link #exportModel(String, Path)}. Repeated if the connection
   * breaks.
   *
   * @param file the file
   * @param create its id and more
   * @return the model
   * @throws IOException if the file cannot be read
   */
  public Model importModel(Path file, CreateOptions create) throws IOException {
    return new Transfers(transport, options)
        .send(TrainingServiceGrpc.getImportModelMethod(), file, importMessages(create))
        .getModel();
  }

  /**
   * Creates a model from bytes that can be read once. Not repeated.
   *
   * @param in the bytes; it is not closed
   * @param create its id and more
   * @return the model
   * @throws IOException if {@code in} throws it
   */
  public Model importModel(InputStream in, CreateOptions create) throws IOException {
    return new Transfers(transport, options)
        .send(TrainingServiceGrpc.getImportModelMethod(), in, importMessages(create))
        .getModel();
  }

  private BiFunction<Long, ByteString, ImportModelRequest> importMessages(CreateOptions create) {
    String requestId = options.newRequestId();
    return (index, bytes) -> {
      var message = ImportModelRequest.newBuilder().setData(bytes);
      if (index == 0) {
        message
            .setModelId(create.modelId())
            .setDurability(create.durability())
            .setRequestId(requestId);
      }
      return message.build();
    };
  }

  /**
   * Saves everything that the server stores in a file. The file appears when it is complete.
   *
   * @param project name or id of the only project to save; empty: all
   * @param file the file
   * @return its size in bytes
   * @throws IOException if the file cannot be written
   */
  public long createBackup(String project, Path file) throws IOException {
    return new Transfers(transport, options)
        .download(
            AdminServiceGrpc.getCreateBackupMethod(),
            Transfers.backup(project),
            response -> response.getData(),
            file);
  }

  /**
   * Restores a backup to an empty server.
   *
   * @param file the file
   * @return the number of models and runs
   * @throws IOException if the file cannot be read
   */
  public RestoreBackupResponse restoreBackup(Path file) throws IOException {
    return new Transfers(transport, options)
        .send(
            AdminServiceGrpc.getRestoreBackupMethod(),
            file,
            (index, bytes) -> RestoreBackupRequest.newBuilder().setData(bytes).build());
  }

  /**
   * Creates a model with an id that the server draws.
   *
   * @param spec its definition
   * @return the model
   */
  public Model createModel(ModelSpec spec) {
    return transport.call(
        Calls.createModel(options, spec, CreateOptions.unnamed()), options.unaryTimeout());
  }

  /**
   * Creates a model.
   *
   * @param spec its definition
   * @param create its id and more
   * @return the model
   */
  public Model createModel(ModelSpec spec, CreateOptions create) {
    return transport.call(Calls.createModel(options, spec, create), options.unaryTimeout());
  }

  /**
   * Returns the description of a model.
   *
   * @param model its name or id
   * @return the model as it is now
   */
  public Model getModel(String model) {
    return transport.call(Calls.getModel(model), options.unaryTimeout());
  }

  /**
   * Deletes a model. An active run of it ends.
   *
   * @param model its name or id
   */
  public void deleteModel(String model) {
    transport.call(Calls.deleteModel(options, model), options.unaryTimeout());
  }

  /**
   * Stops the active run of a model after its current step, and returns when it has ended.
   *
   * @param model its name or id
   * @return the name and the summary of the run
   */
  public StopTrainingResponse stopTraining(String model) {
    return transport.call(Calls.stopTraining(options, model), options.unaryTimeout());
  }

  /**
   * Makes one optimiser step.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return the step count and the loss before the step
   */
  public StepResult step(String model, Batch batch) {
    return transport.call(
        Calls.step(options, model, batch, OptionalLong.empty()), options.unaryTimeout());
  }

  /**
   * Makes one optimiser step, if the model has the expected step count. Otherwise it fails with
   * ABORTED and {@link BackpropException#currentStep}.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @param expectedStep step count of the model before the step
   * @return the step count and the loss before the step
   */
  public StepResult step(String model, Batch batch, long expectedStep) {
    return transport.call(
        Calls.step(options, model, batch, OptionalLong.of(expectedStep)), options.unaryTimeout());
  }

  /**
   * Computes the gradient of the mean loss on a batch: the first half of a step.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return one tensor for each parameter tensor
   */
  public Gradients computeGradients(String model, Batch batch) {
    return transport.call(Calls.computeGradients(model, batch), options.unaryTimeout());
  }

  /**
   * Makes an optimiser step with given gradients: the second half of a step.
   *
   * @param model name or id of the model
   * @param gradients one tensor for each parameter tensor, by name
   * @return the step count after the step
   */
  public ApplyGradientsResponse applyGradients(String model, Map<String, Tensor> gradients) {
    return transport.call(
        Calls.applyGradients(options, model, gradients, OptionalLong.empty()), options.unaryTimeout());
  }

  /**
   * Makes an optimiser step with given gradients, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param gradients one tensor for each parameter tensor, by name
   * @param expectedStep step count of the model before the step
   * @return the step count after the step
   */
  public ApplyGradientsResponse applyGradients(
      String model, Map<String, Tensor> gradients, long expectedStep) {
    return transport.call(
        Calls.applyGradients(options, model, gradients, OptionalLong.of(expectedStep)), options.unaryTimeout());
  }

  /**
   * Computes the outputs of a model. Does not wait for an active run.
   *
   * @param model name or id of the model
   * @param inputs shape [n, d]
   * @param outputs what to return; none: the default for the loss of the model
   * @return the outputs, one row for each row of inputs
   */
  public Prediction predict(String model, Tensor inputs, PredictOutput... outputs) {
    return transport.call(Calls.predict(model, inputs, outputs), options.unaryTimeout());
  }

  /**
   * Computes loss and metrics on a batch or a dataset.
   *
   * @param model name or id of the model
   * @param rows the rows with labels or targets
   * @return the metrics
   */
  public EvaluateResponse evaluate(String model, Rows rows) {
    return transport.call(Calls.evaluate(model, rows), options.unaryTimeout());
  }

  /**
   * Checks the gradients of a model by finite differences.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @return the verdict, in whole and for each tensor
   */
  public GradCheckResult gradCheck(String model, Batch batch) {
    return transport.call(
        Calls.gradCheck(model, batch, GradCheckConfig.getDefaultInstance()), options.unaryTimeout());
  }

  /**
   * Checks the gradients of a model by finite differences.
   *
   * @param model name or id of the model
   * @param batch the rows
   * @param config tolerances and sampling
   * @return the verdict, in whole and for each tensor
   */
  public GradCheckResult gradCheck(String model, Batch batch, GradCheckConfig config) {
    return transport.call(Calls.gradCheck(model, batch, config), options.unaryTimeout());
  }

  /**
   * Returns the exact weights and the optimiser state of a model.
   *
   * @param model name or id of the model
   * @return the parameters
   */
  public ModelParameters getParameters(String model) {
    return transport.call(Calls.getParameters(model), options.unaryTimeout());
  }

  /**
   * Replaces the given tensors of a model; others keep their values. Without optimiser state, that
   * state is reset.
   *
   * @param model name or id of the model
   * @param parameters the tensors
   * @return the step count of the model
   */
  public long setParameters(String model, ModelParameters parameters) {
    return transport.call(
        Calls.setParameters(options, model, parameters, OptionalLong.empty()), options.unaryTimeout());
  }

  /**
   * Replaces the given tensors of a model, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param parameters the tensors
   * @param expectedStep step count of the model before the change
   * @return the step count of the model
   */
  public long setParameters(String model, ModelParameters parameters, long expectedStep) {
    return transport.call(
        Calls.setParameters(options, model, parameters, OptionalLong.of(expectedStep)), options.unaryTimeout());
  }

  /**
   * Saves parameters, optimiser state and step count of a model. Allowed during a run.
   *
   * @param model name or id of the model
   * @param checkpointId id of the checkpoint
   * @return the checkpoint
   */
  public Checkpoint createCheckpoint(String model, String checkpointId) {
    return transport.call(
        Calls.createCheckpoint(options, model, checkpointId), options.unaryTimeout());
  }

  /**
   * Restores a model to a checkpoint, with its step count.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   * @return the step count of the model
   */
  public long restoreCheckpoint(String model, String checkpoint) {
    return transport.call(
        Calls.restoreCheckpoint(options, model, checkpoint, OptionalLong.empty()), options.unaryTimeout());
  }

  /**
   * Restores a model to a checkpoint, if the model has the expected step count.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   * @param expectedStep step count of the model before the change
   * @return the step count of the model
   */
  public long restoreCheckpoint(String model, String checkpoint, long expectedStep) {
    return transport.call(
        Calls.restoreCheckpoint(options, model, checkpoint, OptionalLong.of(expectedStep)), options.unaryTimeout());
  }

  /**
   * Deletes a checkpoint.
   *
   * @param model name or id of the model
   * @param checkpoint name or id of the checkpoint
   */
  public void deleteCheckpoint(String model, String checkpoint) {
    transport.call(Calls.deleteCheckpoint(options, model, checkpoint), options.unaryTimeout());
  }

  /**
   * Returns the description of a dataset.
   *
   * @param dataset its name or id
   * @return the dataset as it is now
   */
  public Dataset getDataset(String dataset) {
    return transport.call(Calls.getDataset(dataset), options.unaryTimeout());
  }

  /**
   * Deletes a dataset that no run uses.
   *
   * @param dataset its name or id
   */
  public void deleteDataset(String dataset) {
    transport.call(Calls.deleteDataset(options, dataset), options.unaryTimeout());
  }

  /**
   * Returns version, health and metrics of the server. With authentication, operators only.
   *
   * @param view which parts
   * @return the status
   */
  public ServerStatus getServerStatus(ServerStatusView view) {
    return transport.call(Calls.serverStatus(view), options.unaryTimeout());
  }

  /**
   * Returns what a project uses and may use.
   *
   * @param project its name or id
   * @return the project
   */
  public Project getProject(String project) {
    return transport.call(Calls.getProject(project), options.unaryTimeout());
  }

  /**
   * Asks whether the server is serving.
   *
   * @return whether it is
   */
  public boolean isServing() {
    return transport.call(Calls.health(""), options.unaryTimeout());
  }

  /**
   * Asks whether a service is serving.
   *
   * @param service its name, such as {@code backprop.v1.TrainingService.writes}
   * @return whether it is
   */
  public boolean isServing(String service) {
    return transport.call(Calls.health(service), options.unaryTimeout());
  }
}
