// The client, on any platform. node.ts and web.ts connect it.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Attempts, Calls, type Connection, nameOf, only, requestIdOf } from './calls.js';
import { BackpropError, invalid } from './error.js';
import {
  AdminService,
  GetServerStatusRequestSchema,
  ProjectSchema,
  ServerStatusSchema,
} from './gen/backprop/v1/admin_service_pb.js';
import { CheckpointSchema } from './gen/backprop/v1/checkpoint_pb.js';
import { type Dataset as DatasetMessage, DatasetSchema } from './gen/backprop/v1/dataset_pb.js';
import { GradCheckConfigSchema, GradCheckResultSchema } from './gen/backprop/v1/grad_check_pb.js';
import {
  InputStandardizationSchema,
  type Model as ModelMessage,
  ModelSchema,
  type Parameters as ParametersMessage,
  ParametersSchema,
  PlateauStateSchema,
} from './gen/backprop/v1/model_pb.js';
import { TensorEncoding } from './gen/backprop/v1/tensor_pb.js';
import {
  MetricsSchema,
  TrainingConfigSchema,
  TrainingSummarySchema,
} from './gen/backprop/v1/training_pb.js';
import {
  CreateModelRequestSchema,
  EvaluateResponseSchema,
  ImportModelRequestSchema,
  PredictRequestSchema,
  StepRequestSchema,
  type StepResponse,
  TrainingService,
  TrainRequestSchema,
} from './gen/backprop/v1/training_service_pb.js';
import { Health, HealthCheckResponse_ServingStatus } from './gen/grpc/health/v1/health_pb.js';
import { toMessage, toNumber, toPlain } from './plain.js';
import { Run } from './run.js';
import { pipeline } from './steps.js';
import {
  type Batch,
  fromNamed,
  fromTensor,
  type Matrix,
  type Tensor,
  toBatch,
  toNamed,
  toTensor,
} from './tensor.js';
import { follow } from './training.js';
import type * as t from './types.js';
import { pieces, readable, type SourceFailure, uploadDataset } from './upload.js';

const rpc = TrainingService.method;
const admin = AdminService.method;

// The server remembers the last 64 request ids of a model.
const MAX_IN_FLIGHT = 64;

/** Options that every platform has. */
export interface BaseOptions {
  readonly retry?: t.RetryOptions | undefined;
}

function expected(step: number | undefined): { expectedStep?: bigint } {
  if (step === undefined) return {};
  if (Number.isSafeInteger(step)) return { expectedStep: BigInt(step) };
  throw invalid({
    field: 'expected_step',
    description: `must be a whole number, got ${String(step)}`,
  });
}

function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new BackpropError('INTERNAL', `the response has no ${name}`);
  return value;
}

function fromModel(model: ModelMessage | undefined): t.Model {
  return toPlain<t.Model>(ModelSchema, present(model, 'model'));
}

function fromDataset(dataset: DatasetMessage | undefined): t.Dataset {
  return toPlain<t.Dataset>(DatasetSchema, present(dataset, 'dataset'));
}

function fromStep(response: StepResponse): t.StepResult {
  const { gradientNorm, learningRate } = response;
  return {
    step: toNumber(response.step),
    metrics: toPlain<t.Metrics>(MetricsSchema, present(response.metrics, 'metrics')),
    gradientNorm,
    learningRate,
  };
}

function toParameters(parameters: t.Parameters, field: string): ParametersMessage {
  const { tensors, optimizerState, step, optimizerStep, inputStandardization, plateau } =
    parameters;
  const message = create(ParametersSchema, { tensors: toNamed(tensors, `${field}.tensors`) });
  if (optimizerState) message.optimizerState = toNamed(optimizerState, `${field}.optimizer_state`);
  if (step !== undefined) message.step = BigInt(step);
  if (optimizerStep !== undefined) message.optimizerStep = BigInt(optimizerStep);
  if (inputStandardization) {
    const at = `${field}.input_standardization`;
    message.inputStandardization = toMessage(InputStandardizationSchema, inputStandardization, at);
  }
  if (plateau) message.plateau = toMessage(PlateauStateSchema, plateau, `${field}.plateau`);
  return message;
}

function fromParameters(message: ParametersMessage): t.Parameters {
  const parameters: t.Parameters = {
    tensors: fromNamed(message.tensors),
    optimizerState: fromNamed(message.optimizerState),
  };
  if (message.step !== undefined) parameters.step = toNumber(message.step);
  if (message.optimizerStep !== undefined)
    parameters.optimizerStep = toNumber(message.optimizerStep);
  if (message.inputStandardization) {
    parameters.inputStandardization = toPlain(
      InputStandardizationSchema,
      message.inputStandardization,
    );
  }
  if (message.plateau) parameters.plateau = toPlain(PlateauStateSchema, message.plateau);
  return parameters;
}

function isDataset(data: Batch | string): data is string {
  return typeof data === 'string';
}

/**
 * A client of a backpropd server. It connects with the first call; calls may be made at the same
 * time. A model is named `models/{id}` or just `{id}`, and so are datasets and projects. Every call
 * that fails rejects with a BackpropError.
 */
export abstract class BaseClient {
  readonly #calls: Calls;

  protected constructor(connection: Connection, options: BaseOptions) {
    this.#calls = new Calls(connection, options.retry ?? {});
  }

  /** Closes the connection. Calls that are under way end. */
  close(): void {
    this.#calls.connection.close();
  }

  // --- Models.

  /** Creates a model. */
  async createModel(spec: t.ModelSpec, options: t.CreateModelOptions = {}): Promise<t.Model> {
    const { modelId, labels, ttlMs, durability, initialParameters } = options;
    const request = toMessage(
      CreateModelRequestSchema,
      { modelId, spec, labels, ttlMs, durability },
      '',
    );
    if (initialParameters)
      request.initialParameters = toParameters(initialParameters, 'initial_parameters');
    request.requestId = requestIdOf(options);
    const { model } = await this.#calls.unary(rpc.createModel, request, options);
    return fromModel(model);
  }

  async getModel(model: string, options: t.CallOptions = {}): Promise<t.Model> {
    const name = nameOf('models', model, 'name');
    const response = await this.#calls.unary(rpc.getModel, { name }, options);
    return fromModel(response.model);
  }

  /** All models, in order of name. */
  async *listModels(options: t.ListModelsOptions = {}): AsyncGenerator<t.Model, void, undefined> {
    const { pageSize = 0, labels = {} } = options;
    let pageToken = '';
    do {
      const page = await this.#calls.unary(
        rpc.listModels,
        { pageSize, pageToken, labels: { ...labels } },
        options,
      );
      yield* page.models.map(fromModel);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  /** Deletes a model; an active run ends. */
  async deleteModel(model: string, options: t.CallOptions = {}): Promise<void> {
    const name = nameOf('models', model, 'name');
    await this.#calls.unary(rpc.deleteModel, { name, requestId: requestIdOf(options) }, options);
  }

  // --- Runs.

  /** Trains a model on rows, or on a dataset that is named. */
  train(model: string, data: Batch | string, options: t.TrainOptions): Run {
    const {
      signal,
      timeoutMs,
      requestId,
      validation,
      detach = false,
      wait = false,
      ...config
    } = options;
    const request = create(TrainRequestSchema, {
      model: nameOf('models', model, 'model'),
      config: toMessage(TrainingConfigSchema, config, 'config'),
      detach,
      wait,
      requestId: requestIdOf({ requestId }),
    });
    if (isDataset(data)) request.dataset = nameOf('datasets', data, 'dataset');
    else request.data = toBatch(data, 'data');
    if (validation !== undefined) {
      if (isDataset(validation))
        request.validationDataset = nameOf('datasets', validation, 'validation_dataset');
      else request.validation = toBatch(validation, 'validation');
    }
    const attempts = this.#calls.longAttempts({ timeoutMs, signal });
    return this.#run(
      follow(attempts, !detach, () =>
        this.#calls.stream(rpc.train, only(request), signal, attempts.remainingMs()),
      ),
    );
  }

  /** Follows the active run of a model, or its latest one. */
  watchTraining(model: string, options: t.WatchOptions = {}): Run {
    const { run = '', fromSequence = 0, signal } = options;
    const name = nameOf('models', model, 'model');
    if (!Number.isSafeInteger(fromSequence)) {
      throw invalid({
        field: 'from_sequence',
        description: `must be a whole number, got ${String(fromSequence)}`,
      });
    }
    const attempts = this.#calls.longAttempts(options);
    return this.#run(
      follow(attempts, false, (next, seen) => {
        // Another attempt is for the run of the first one, even if the model has a later run.
        const first = next > 1 ? next : fromSequence;
        const request = { model: name, run: seen === '' ? run : seen, fromSequence: BigInt(first) };
        return this.#calls.stream(rpc.watchTraining, only(request), signal, attempts.remainingMs());
      }),
    );
  }

  #run(events: ReturnType<typeof follow>): Run {
    return new Run(
      events,
      () => new BackpropError('CANCELLED', 'the caller left the loop over the run'),
    );
  }

  /** Stops the active run after its current step, and returns when it has ended. */
  async stopTraining(model: string, options: t.StopTrainingOptions = {}): Promise<t.StoppedRun> {
    const { run = '' } = options;
    const request = {
      model: nameOf('models', model, 'model'),
      run,
      requestId: requestIdOf(options),
    };
    const response = await this.#calls.unary(rpc.stopTraining, request, options);
    const summary = toPlain<t.TrainingSummary>(
      TrainingSummarySchema,
      present(response.summary, 'summary'),
    );
    return { run: response.run, summary };
  }

  // --- Steps and gradients.

  /** Makes one optimiser step. */
  async step(model: string, batch: Batch, options: t.StepOptions = {}): Promise<t.StepResult> {
    const request = {
      model: nameOf('models', model, 'model'),
      batch: toBatch(batch, 'batch'),
      ...expected(options.expectedStep),
      requestId: requestIdOf(options),
    };
    return fromStep(await this.#calls.unary(rpc.step, request, options));
  }

  /**
   * Makes a step on each batch, in order, and yields the results in the same order. Up to `inFlight`
   * steps are sent before their answers arrive. After a broken connection the steps without an answer
   * are sent again, with the same request ids. The loop throws at the first step that the server
   * rejects; steps that were sent after it may have been made. In a browser each step is sent when
   * the one before is answered.
   */
  async *steps(
    model: string,
    batches: Iterable<t.StepBatch> | AsyncIterable<t.StepBatch>,
    options: t.StepsOptions = {},
  ): AsyncGenerator<t.StepResult, void, undefined> {
    const { inFlight = 32, signal } = options;
    if (!Number.isInteger(inFlight) || inFlight < 1 || inFlight > MAX_IN_FLIGHT) {
      const description = `must be from 1 to ${String(MAX_IN_FLIGHT)}, got ${String(inFlight)}`;
      throw invalid({ field: 'inFlight', description });
    }
    const name = nameOf('models', model, 'model');
    if (!this.#calls.connection.bidirectional) {
      for await (const batch of batches)
        yield await this.step(name, batch, { ...batch, ...options });
      return;
    }
    const attempts = this.#calls.longAttempts(options);
    const requests = stepRequests(name, batches);
    for await (const response of pipeline(this.#calls, attempts, requests, inFlight, signal)) {
      yield fromStep(response);
    }
  }

  /** Computes the gradient of the mean loss on a batch: the first half of a step. */
  async computeGradients(
    model: string,
    batch: Batch,
    options: t.CallOptions = {},
  ): Promise<t.Gradients> {
    const request = {
      model: nameOf('models', model, 'model'),
      batch: toBatch(batch, 'batch'),
      encoding: TensorEncoding.RAW,
    };
    const response = await this.#calls.unary(rpc.computeGradients, request, options);
    return {
      tensors: fromNamed(response.gradients),
      metrics: toPlain<t.Metrics>(MetricsSchema, present(response.metrics, 'metrics')),
      gradientNorm: response.gradientNorm,
      weight: response.weight,
      step: toNumber(response.step),
    };
  }

  /** Makes the optimiser step with given gradients: the second half of a step. */
  async applyGradients(
    model: string,
    gradients: Readonly<Record<string, Tensor>>,
    options: t.StepOptions = {},
  ): Promise<t.AppliedGradients> {
    const request = {
      model: nameOf('models', model, 'model'),
      gradients: toNamed(gradients, 'gradients'),
      ...expected(options.expectedStep),
      requestId: requestIdOf(options),
    };
    const { step, gradientNorm, learningRate } = await this.#calls.unary(
      rpc.applyGradients,
      request,
      options,
    );
    return { step: toNumber(step), gradientNorm, learningRate };
  }

  // --- Predictions and measurements.

  async predict(
    model: string,
    inputs: Matrix,
    options: t.PredictOptions = {},
  ): Promise<t.Prediction> {
    const { outputs = [] } = options;
    const request = toMessage(
      PredictRequestSchema,
      { model: nameOf('models', model, 'model'), outputs },
      '',
    );
    request.inputs = toTensor(inputs, 'inputs');
    const response = await this.#calls.unary(rpc.predict, request, options);
    const { logits, probabilities, classes, classNames, step } = response;
    return {
      ...(logits && { logits: fromTensor(logits) }),
      ...(probabilities && { probabilities: fromTensor(probabilities) }),
      classes,
      classNames,
      step: toNumber(step),
    };
  }

  /** Computes loss and metrics on rows, or on a dataset that is named. */
  async evaluate(
    model: string,
    data: Batch | string,
    options: t.EvaluateOptions = {},
  ): Promise<t.Evaluation> {
    const { topK, summaryOnly = false } = options;
    const request = {
      model: nameOf('models', model, 'model'),
      summaryOnly,
      ...(topK !== undefined && { topK }),
      ...(isDataset(data)
        ? { dataset: nameOf('datasets', data, 'dataset') }
        : { data: toBatch(data, 'data') }),
    };
    return toPlain(EvaluateResponseSchema, await this.#calls.unary(rpc.evaluate, request, options));
  }

  /** Checks the model's gradients by finite differences. */
  async gradCheck(
    model: string,
    batch: Batch,
    options: t.GradCheckOptions = {},
  ): Promise<t.GradCheckResult> {
    const { tolerance, kernelTolerance, maxEntriesPerTensor, seed } = options;
    const config = { tolerance, kernelTolerance, maxEntriesPerTensor, seed };
    const request = {
      model: nameOf('models', model, 'model'),
      batch: toBatch(batch, 'batch'),
      config: toMessage(GradCheckConfigSchema, config, 'config'),
    };
    const response = await this.#calls.unary(rpc.gradCheck, request, options);
    const result = toPlain<Omit<t.GradCheckResult, 'step'>>(
      GradCheckResultSchema,
      present(response.result, 'result'),
    );
    return { ...result, step: toNumber(response.step) };
  }

  // --- Parameters and checkpoints.

  /** The exact parameters and, unless it is left out, the state of the optimiser. */
  async getParameters(
    model: string,
    options: t.CallOptions & { readonly omitOptimizerState?: boolean } = {},
  ): Promise<t.Parameters> {
    const { omitOptimizerState = false } = options;
    const request = {
      model: nameOf('models', model, 'model'),
      encoding: TensorEncoding.RAW,
      omitOptimizerState,
    };
    const { parameters } = await this.#calls.unary(rpc.getParameters, request, options);
    return fromParameters(present(parameters, 'parameters'));
  }

  /** Replaces tensors. Returns the model's step count. */
  async setParameters(
    model: string,
    parameters: t.Parameters,
    options: t.SetParametersOptions = {},
  ): Promise<{ step: number }> {
    const request = {
      model: nameOf('models', model, 'model'),
      parameters: toParameters(parameters, 'parameters'),
      ...expected(options.expectedStep),
      requestId: requestIdOf(options),
    };
    return { step: toNumber((await this.#calls.unary(rpc.setParameters, request, options)).step) };
  }

  async createCheckpoint(
    model: string,
    id: string,
    options: t.CallOptions = {},
  ): Promise<t.Checkpoint> {
    if (id === '') throw invalid({ field: 'checkpoint_id', description: 'must not be empty' });
    const request = {
      model: nameOf('models', model, 'model'),
      checkpointId: id,
      requestId: requestIdOf(options),
    };
    const { checkpoint } = await this.#calls.unary(rpc.createCheckpoint, request, options);
    return toPlain(CheckpointSchema, present(checkpoint, 'checkpoint'));
  }

  /** All checkpoints of a model, in order of name. */
  async *listCheckpoints(
    model: string,
    options: t.CallOptions = {},
  ): AsyncGenerator<t.Checkpoint, void, undefined> {
    const name = nameOf('models', model, 'model');
    let pageToken = '';
    do {
      const page = await this.#calls.unary(
        rpc.listCheckpoints,
        { model: name, pageToken },
        options,
      );
      for (const checkpoint of page.checkpoints)
        yield toPlain<t.Checkpoint>(CheckpointSchema, checkpoint);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  /** Sets the model to a checkpoint of it, including its step count, which is returned. */
  async restoreCheckpoint(
    model: string,
    id: string,
    options: t.StepOptions = {},
  ): Promise<{ step: number }> {
    const request = {
      name: checkpointName(model, id),
      ...expected(options.expectedStep),
      requestId: requestIdOf(options),
    };
    return {
      step: toNumber((await this.#calls.unary(rpc.restoreCheckpoint, request, options)).step),
    };
  }

  async deleteCheckpoint(model: string, id: string, options: t.CallOptions = {}): Promise<void> {
    const request = { name: checkpointName(model, id), requestId: requestIdOf(options) };
    await this.#calls.unary(rpc.deleteCheckpoint, request, options);
  }

  // --- Datasets.

  /** Uploads rows that runs refer to by name. Resumes after a broken connection. */
  async uploadDataset(
    id: string,
    rows: Batch | t.RowSource,
    options: t.UploadOptions = {},
  ): Promise<t.Dataset> {
    const attempts = this.#calls.longAttempts(options);
    return fromDataset(await uploadDataset(this.#calls, attempts, id, rows, options));
  }

  async getDataset(id: string, options: t.CallOptions = {}): Promise<t.Dataset> {
    const name = nameOf('datasets', id, 'name');
    return fromDataset((await this.#calls.unary(rpc.getDataset, { name }, options)).dataset);
  }

  /** All datasets, in order of name. */
  async *listDatasets(options: t.CallOptions = {}): AsyncGenerator<t.Dataset, void, undefined> {
    let pageToken = '';
    do {
      const page = await this.#calls.unary(rpc.listDatasets, { pageToken }, options);
      yield* page.datasets.map(fromDataset);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  async deleteDataset(id: string, options: t.CallOptions = {}): Promise<void> {
    const request = { name: nameOf('datasets', id, 'name'), requestId: requestIdOf(options) };
    await this.#calls.unary(rpc.deleteDataset, request, options);
  }

  // --- Files.

  /** The bytes of a model's file. Retried until the first bytes arrive. */
  async *exportModel(
    model: string,
    options: t.CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const request = { model: nameOf('models', model, 'model') };
    const attempts = this.#calls.longAttempts(options);
    yield* download(attempts, () =>
      this.#calls.stream(rpc.exportModel, only(request), options.signal, attempts.remainingMs()),
    );
  }

  /** Creates a model from a file of exportModel. Retried if the source can be read again. */
  async importModel(source: t.ByteSource, options: t.ImportOptions = {}): Promise<t.Model> {
    const { modelId, durability } = options;
    const first = toMessage(
      ImportModelRequestSchema,
      { modelId, durability, requestId: requestIdOf(options) },
      '',
    );
    const failure: SourceFailure = {};
    const messages = async function* (
      bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    ): AsyncGenerator<MessageInitShape<typeof ImportModelRequestSchema>, void, undefined> {
      yield first;
      for await (const data of pieces(bytes, failure)) yield { data };
    };
    const { again, read } = readable(source);
    const attempts = this.#calls.longAttempts(options);
    for (;;) {
      try {
        const sent = messages(read());
        const response = await this.#calls.upload(
          rpc.importModel,
          sent,
          options.signal,
          attempts.remainingMs(),
        );
        return fromModel(response.model);
      } catch (error) {
        if (failure.thrown !== undefined) throw failure.thrown.error;
        if (!again || !(error instanceof BackpropError)) throw error;
        await attempts.again(error);
      }
    }
  }

  /** The bytes of a backup of everything, or of one project. Retried until the first bytes arrive. */
  async *createBackup(
    options: t.CallOptions & { readonly project?: string } = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const project =
      options.project === undefined ? '' : nameOf('projects', options.project, 'project');
    const attempts = this.#calls.longAttempts(options);
    yield* download(attempts, () =>
      this.#calls.stream(
        admin.createBackup,
        only({ project }),
        options.signal,
        attempts.remainingMs(),
      ),
    );
  }

  /** Restores a backup into an empty server. Not retried. */
  async restoreBackup(
    source: t.ByteSource,
    options: t.CallOptions = {},
  ): Promise<t.RestoredBackup> {
    const bytes = readable(source).read();
    const failure: SourceFailure = {};
    const messages = async function* (): AsyncGenerator<
      { data: Uint8Array<ArrayBuffer> },
      void,
      undefined
    > {
      for await (const data of pieces(bytes, failure)) yield { data };
    };
    const attempts = this.#calls.longAttempts(options);
    const sent = messages();
    try {
      const response = await this.#calls.upload(
        admin.restoreBackup,
        sent,
        options.signal,
        attempts.remainingMs(),
      );
      return { models: toNumber(response.models), runs: toNumber(response.runs) };
    } catch (error) {
      throw failure.thrown === undefined ? error : failure.thrown.error;
    }
  }

  // --- The server.

  async getProject(id: string, options: t.CallOptions = {}): Promise<t.Project> {
    const name = nameOf('projects', id, 'name');
    const { project } = await this.#calls.unary(admin.getProject, { name }, options);
    return toPlain(ProjectSchema, present(project, 'project'));
  }

  /** The projects that the caller may see, in order of name. */
  async *listProjects(options: t.CallOptions = {}): AsyncGenerator<t.Project, void, undefined> {
    let pageToken = '';
    do {
      const page = await this.#calls.unary(admin.listProjects, { pageToken }, options);
      for (const project of page.projects) yield toPlain<t.Project>(ProjectSchema, project);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  async getServerStatus(
    options: t.CallOptions & { readonly view?: 'BASIC' | 'FULL' } = {},
  ): Promise<t.ServerStatus> {
    const request = toMessage(GetServerStatusRequestSchema, { view: options.view ?? 'BASIC' }, '');
    const { status } = await this.#calls.unary(admin.getServerStatus, request, options);
    return toPlain(ServerStatusSchema, present(status, 'status'));
  }

  /** Whether a service serves; without a name, the server as a whole. */
  async checkHealth(service = '', options: t.CallOptions = {}): Promise<boolean> {
    const { status } = await this.#calls.unary(Health.method.check, { service }, options);
    return status === HealthCheckResponse_ServingStatus.SERVING;
  }
}

function checkpointName(model: string, id: string): string {
  if (id === '') throw invalid({ field: 'name', description: 'must name a checkpoint' });
  const name = nameOf('models', model, 'name');
  return id.startsWith(`${name}/checkpoints/`) ? id : `${name}/checkpoints/${id}`;
}

async function* stepRequests(
  model: string,
  batches: Iterable<t.StepBatch> | AsyncIterable<t.StepBatch>,
): AsyncGenerator<ReturnType<typeof create<typeof StepRequestSchema>>, void, undefined> {
  for await (const batch of batches) {
    yield create(StepRequestSchema, {
      model,
      batch: toBatch(batch, 'batch'),
      ...expected(batch.expectedStep),
      requestId: requestIdOf(batch),
    });
  }
}

async function* download(
  attempts: Attempts,
  open: () => AsyncIterable<{ readonly data: Uint8Array }>,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (;;) {
    let begun = false;
    try {
      for await (const { data } of open()) {
        begun = true;
        yield data;
      }
      return;
    } catch (error) {
      if (begun || !(error instanceof BackpropError)) throw error;
      await attempts.again(error);
    }
  }
}
