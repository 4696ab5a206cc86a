// What callers give and get. Names, defaults and ranges are those of the contract, in
// proto/backprop/v1; the server checks the ranges. int64 is a number everywhere, a duration is a
// number of milliseconds whose name ends in Ms, and the value of an enum is its name.
import type { Batch, Tensor } from './tensor.js';

/** Options of every call. */
export interface CallOptions {
  /** Cancels the call, which then rejects with CANCELLED. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The call, including retries, fails with DEADLINE_EXCEEDED after this time. Default: 60 s; no
   * limit for runs, pipelined steps and files. 0: no limit.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Id of a call that changes something: the server applies a call with the same id once. 1 to 128
   * printable ASCII characters. Default: a random one.
   */
  readonly requestId?: string | undefined;
}

/** Retries of calls that end with UNAVAILABLE. */
export interface RetryOptions {
  /** 1: no retries. Default: 8. */
  readonly maxAttempts?: number | undefined;
  /** The longest first pause; a random part of it is used. Doubled each time. Default: 50. */
  readonly firstPauseMs?: number | undefined;
  /** Bound of the doubling. Default: 1000. */
  readonly lastPauseMs?: number | undefined;
}

export type Precision = 'FLOAT32' | 'FLOAT64';

export type Activation =
  | 'IDENTITY'
  | 'RELU'
  | 'TANH'
  | 'SIGMOID'
  | 'LEAKY_RELU'
  | 'ELU'
  | 'GELU'
  | 'SILU'
  | 'SOFTPLUS';

export type Initializer =
  | 'HE_NORMAL'
  | 'HE_UNIFORM'
  | 'XAVIER_NORMAL'
  | 'XAVIER_UNIFORM'
  | 'ZEROS'
  | 'CONSTANT'
  | 'PYTORCH_LINEAR';

/** A dense layer. */
export interface Layer {
  /** Number of outputs. */
  units: number;
  /** Default: RELU; IDENTITY for the last layer. */
  activation?: Activation;
  /** Default: PYTORCH_LINEAR. */
  initializer?: Initializer;
  /** Only with LEAKY_RELU. Default: 0.01. */
  negativeSlope?: number;
  /** Only with ELU. Default: 1. */
  alpha?: number;
  /** Fraction of outputs that a training step sets to 0. Default: 0. */
  dropout?: number;
  /** With the initializer CONSTANT: every weight. */
  initialValue?: number;
  /** ZEROS, CONSTANT or PYTORCH_LINEAR. */
  biasInitializer?: Initializer;
  /** With the biasInitializer CONSTANT: every bias. */
  initialBias?: number;
}

/** What training minimises. Exactly one is set. */
export interface Loss {
  /** One class out of k. */
  softmaxCrossEntropy?: { labelSmoothing?: number; classWeights?: readonly number[] };
  /** Independent binary outputs. */
  binaryCrossEntropy?: { posWeight?: readonly number[]; classWeights?: readonly number[] };
  /** Regression. */
  meanSquaredError?: Record<string, never>;
  /** Regression with outliers. */
  meanAbsoluteError?: Record<string, never>;
  /** Regression with outliers; smooth where the error is small. Default of delta: 1. */
  huber?: { delta?: number };
}

/** The learning rate as a function of the number of optimiser steps. At most one kind is set. */
export interface Schedule {
  step?: { stepSize: number; gamma?: number };
  exponential?: { gamma: number };
  cosine?: { totalSteps: number; minLearningRate?: number };
  reduceOnPlateau?: {
    factor?: number;
    patience?: number;
    threshold?: number;
    cooldown?: number;
    minLearningRate?: number;
  };
  /** Number of warm-up steps. Default: 0. */
  warmupSteps?: number;
  /** Default: 1/3. */
  warmupStartFactor?: number;
}

/** How gradients change parameters. Exactly one kind is set. Defaults are PyTorch's. */
export interface Optimizer {
  sgd?: { learningRate?: number; momentum?: number; nesterov?: boolean; weightDecay?: number };
  adam?: {
    learningRate?: number;
    beta1?: number;
    beta2?: number;
    epsilon?: number;
    weightDecay?: number;
  };
  adamw?: {
    learningRate?: number;
    beta1?: number;
    beta2?: number;
    epsilon?: number;
    weightDecay?: number;
  };
  rmsprop?: {
    learningRate?: number;
    alpha?: number;
    epsilon?: number;
    momentum?: number;
    centered?: boolean;
    weightDecay?: number;
  };
  adagrad?: {
    learningRate?: number;
    lrDecay?: number;
    epsilon?: number;
    initialAccumulatorValue?: number;
    weightDecay?: number;
  };
  /** Default: a constant learning rate. */
  schedule?: Schedule;
  /** L1 penalty. Default: 0. */
  l1?: number;
  /** Bound of the gradient's Euclidean norm. At most one of clipNorm and clipValue is set. */
  clipNorm?: number;
  /** Bound of each entry of the gradient. */
  clipValue?: number;
}

/** Standardisation of inputs. Without mean and std the first run fits them. */
export interface InputStandardization {
  mean?: readonly number[];
  std?: readonly number[];
}

/** The definition of a model. */
export interface ModelSpec {
  /** Number of features of a row. */
  inputSize: number;
  layers: readonly Layer[];
  /** Default: softmax cross-entropy. */
  loss?: Loss;
  /** Default: SGD. */
  optimizer?: Optimizer;
  /** Seed of all random numbers of the model. Above 2^53 - 1 it is a bigint. Default: 0. */
  seed?: number | bigint;
  /** Precision. Default: FLOAT32. */
  dataType?: Precision;
  classNames?: readonly string[];
  featureNames?: readonly string[];
  /** Default: none. */
  inputStandardization?: InputStandardization;
}

/** When the server responds to a change. Default: SYNC with a data directory, else NONE. */
export type Durability = 'SYNC' | 'EVERY_SECOND' | 'NONE';

/** A model in the server. */
export interface Model {
  /** `models/{id}` */
  name: string;
  spec: ModelSpec;
  /** Number of optimiser steps so far. */
  step: number;
  parameterCount: number;
  labels: Record<string, string>;
  createTime: Date;
  /** Unset: the model is never deleted for lack of use. */
  ttlMs?: number;
  expireTime?: Date;
  /** `models/{id}/runs/{n}`, or empty. */
  activeRun: string;
  durability: Durability;
}

export interface CreateModelOptions extends CallOptions {
  /** Default: the server draws an id that cannot be guessed. */
  readonly modelId?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** The model is deleted when it was not used for this time. Default: never. */
  readonly ttlMs?: number | undefined;
  readonly durability?: Durability | undefined;
  /** Default: random, drawn from the seed of the spec. */
  readonly initialParameters?: Parameters | undefined;
}

export interface ListModelsOptions extends CallOptions {
  /** Models of one request; the iterator reads all pages. Default: 100. */
  readonly pageSize?: number | undefined;
  /** Only models that have all of these labels. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface PlateauState {
  learningRate: number;
  best: number;
  badEpochs: number;
  cooldown: number;
}

/** Parameters and training state: a model that is set to them continues exactly there. */
export interface Parameters {
  /** By name: `layers[i].weights` of shape [inputs, units], `layers[i].bias` of shape [units]. */
  tensors: Record<string, Tensor>;
  /** By name: `layers[i].weights/{slot}`. */
  optimizerState?: Record<string, Tensor>;
  step?: number;
  optimizerStep?: number;
  inputStandardization?: InputStandardization;
  plateau?: PlateauState;
}

export interface SetParametersOptions extends CallOptions {
  readonly expectedStep?: number | undefined;
}

export interface Metrics {
  /** Mean loss. */
  loss: number;
  /** Fraction of rows that are predicted correctly. Unset for regression. */
  accuracy?: number;
  /** Number of rows. */
  rows: number;
}

export interface EarlyStopping {
  patience?: number;
  minDelta?: number;
  restoreBest?: boolean;
}

/** Checkpoints that a run creates. */
export interface RunCheckpoints {
  everyIterations?: number;
  keepLast?: number;
  keepBest?: boolean;
}

/** Parameters of a run. Exactly one of `iterations` and `epochs` is set. */
export interface TrainOptions extends CallOptions {
  /** Number of optimiser steps. */
  readonly iterations?: number | undefined;
  /** Number of passes over the rows. */
  readonly epochs?: number | undefined;
  /** Default: all rows. */
  readonly batchSize?: number | undefined;
  readonly shuffle?: boolean | undefined;
  /** Iterations between two progress events. Default: a hundredth of the run. */
  readonly reportEvery?: number | undefined;
  /** Longest time between two progress events. Default: 1000. */
  readonly reportIntervalMs?: number | undefined;
  readonly validationSplit?: number | undefined;
  /** Rows to validate on, or `datasets/{id}`. */
  readonly validation?: Batch | string | undefined;
  readonly earlyStopping?: EarlyStopping | undefined;
  readonly checkpoints?: RunCheckpoints | undefined;
  readonly continueEpoch?: boolean | undefined;
  readonly redrawValidationSplit?: boolean | undefined;
  readonly stratify?: boolean | undefined;
  /** Whether the run continues when the call ends. Default: leaving the loop stops the run. */
  readonly detach?: boolean | undefined;
  /** Whether to wait for the end of an active run of the model. */
  readonly wait?: boolean | undefined;
}

export interface WatchOptions extends CallOptions {
  /** `models/{id}/runs/{n}`. Default: the active run, or the latest one. */
  readonly run?: string | undefined;
  /** Number of the first event. Default: the first event of the run. */
  readonly fromSequence?: number | undefined;
}

export type StopReason =
  | 'COMPLETED'
  | 'STOPPED'
  | 'CANCELLED'
  | 'DIVERGED'
  | 'MODEL_DELETED'
  | 'SERVER_SHUTDOWN'
  | 'EARLY_STOPPED'
  | 'DATA_LOST';

export interface RunStarted {
  totalIterations: number;
  iterationsPerEpoch: number;
  rows: number;
  startStep: number;
  validationRows: number;
  batchSize: number;
  resumedBatches: number;
}

export interface Progress {
  /** Steps of this run so far, from 1. */
  iteration: number;
  totalIterations: number;
  /** From 1. */
  epoch: number;
  /** The model's step count. */
  step: number;
  /** On the batch of the iteration, before its update. */
  metrics: Metrics;
  learningRate: number;
  gradientNorm: number;
  samplesPerSecond: number;
  /** Expected time to the end of the run. */
  etaMs?: number;
  /** On the validation rows, after the last complete epoch. */
  validation?: Metrics;
}

export interface TrainingSummary {
  stopReason: StopReason;
  /** Steps of the run. */
  iterations: number;
  /** The model's step count after the run. */
  step: number;
  /** On all training rows, with the final parameters. */
  metrics?: Metrics;
  elapsedMs?: number;
  /** With DIVERGED: what was not finite, and where. */
  message: string;
  validation?: Metrics;
  /** With early stopping. */
  bestIteration: number;
  bestLoss: number;
  restoredBest: boolean;
}

/** An event of a run: first 'started', then any number of 'progress', at the end 'summary'. */
export type TrainingEvent = {
  /** `models/{id}/runs/{n}` */
  run: string;
  /** Number of the event in its run, from 1. */
  sequence: number;
  /** Events left out since the previous one, because this reader was slow or late. */
  dropped: number;
} & (
  | { kind: 'started'; started: RunStarted }
  | { kind: 'progress'; progress: Progress }
  | { kind: 'summary'; summary: TrainingSummary }
);

export interface StopTrainingOptions extends CallOptions {
  /** Default: the active run. */
  readonly run?: string | undefined;
}

export interface StoppedRun {
  run: string;
  summary: TrainingSummary;
}

export interface StepOptions extends CallOptions {
  /** ABORTED (STEP_MISMATCH) if the model's step count is another; metadata has current_step. */
  readonly expectedStep?: number | undefined;
}

export interface StepResult {
  /** The model's step count after the step. */
  step: number;
  /** On the batch, before the update. */
  metrics: Metrics;
  gradientNorm: number;
  learningRate: number;
}

/** A batch of pipelined steps. */
export interface StepBatch extends Batch {
  readonly expectedStep?: number | undefined;
  /** Default: a random one. */
  readonly requestId?: string | undefined;
}

export interface StepsOptions extends Omit<CallOptions, 'requestId'> {
  /** Steps that are sent and not answered, 1 to 64. Default: 32. */
  readonly inFlight?: number | undefined;
}

/** Gradients of one batch. */
export interface Gradients {
  /** By the names of the parameters. */
  tensors: Record<string, Tensor>;
  metrics: Metrics;
  gradientNorm: number;
  /** Weight of the batch in a mean with others. */
  weight: number;
  /** The step count of the parameters that were used. */
  step: number;
}

export interface AppliedGradients {
  step: number;
  gradientNorm: number;
  learningRate: number;
}

export type PredictOutput = 'LOGITS' | 'PROBABILITIES' | 'CLASSES';

export interface PredictOptions extends CallOptions {
  /** Default: probabilities and classes; for regression, logits. */
  readonly outputs?: readonly PredictOutput[] | undefined;
}

export interface Prediction {
  /** Shape [n, k]. */
  logits?: Tensor;
  /** Shape [n, k]. */
  probabilities?: Tensor;
  /** One class index for each row. */
  classes: number[];
  /** One class name for each row, if the model has names. */
  classNames: string[];
  /** The step count of the parameters that were used. */
  step: number;
}

export interface EvaluateOptions extends CallOptions {
  /** Default: 2. */
  readonly topK?: number | undefined;
  /** Whether to return `metrics` only. */
  readonly summaryOnly?: boolean | undefined;
}

export interface AverageMetrics {
  precision: number;
  recall: number;
  f1: number;
}

export interface ClassMetrics extends AverageMetrics {
  classIndex: number;
  className: string;
  support: number;
  rocAuc?: number;
}

export interface ClassificationMetrics {
  accuracy: number;
  topKAccuracy?: number;
  topK: number;
  /** classes × classes, row-major: [label][prediction]. */
  confusionMatrix: number[];
  classes: ClassMetrics[];
  macro: AverageMetrics;
  weighted: AverageMetrics;
  rocAuc?: number;
  logLoss?: number;
}

export interface RegressionMetrics {
  meanSquaredError: number;
  rootMeanSquaredError: number;
  meanAbsoluteError: number;
  r2: number;
}

export interface Evaluation {
  metrics: Metrics;
  step: number;
  classification?: ClassificationMetrics;
  regression?: RegressionMetrics;
}

export type Verdict = 'PASSED' | 'FAILED' | 'INCONCLUSIVE';

export interface GradCheckOptions extends CallOptions {
  readonly tolerance?: number | undefined;
  readonly kernelTolerance?: number | undefined;
  readonly maxEntriesPerTensor?: number | undefined;
  readonly seed?: number | bigint | undefined;
}

export interface TensorGradCheck {
  name: string;
  shape: number[];
  checked: number;
  setAside: number;
  notSampled: number;
  maxAbsoluteError: number;
  maxRelativeError: number;
  worstIndex: number[];
  worstAnalytic: number;
  worstNumeric: number;
  worstErrorBound: number;
  kernelMaxRelativeError: number;
  kernelMaxBoundRatio: number;
  unresolved: number;
  passed: boolean;
  verdict: Verdict;
  explanation: string;
}

export interface GradCheckResult {
  passed: boolean;
  verdict: Verdict;
  /** Why the verdict is not PASSED, and what to change. */
  explanation: string;
  tensors: TensorGradCheck[];
  maxRelativeError: number;
  sampled: boolean;
  loss: number;
  tolerance: number;
  kernelTolerance: number;
  /** The step count of the parameters that were used. */
  step: number;
}

/** A saved state of a model. */
export interface Checkpoint {
  /** `models/{id}/checkpoints/{id}` */
  name: string;
  step: number;
  createTime: Date;
  sizeBytes: number;
  /** The run that created it, or empty. */
  run: string;
  iteration: number;
  best: boolean;
  metrics?: Metrics;
  validation?: Metrics;
}

/** Rows stored on the server. */
export interface Dataset {
  /** `datasets/{id}` */
  name: string;
  state: 'UPLOADING' | 'READY';
  /** While uploading: the rows received so far. */
  rows: number;
  inputSize: number;
  /** 0: rows have a class. */
  targetSize: number;
  hasSampleWeights: boolean;
  dataType: Precision;
  classNames: string[];
  labels: Record<string, string>;
  createTime: Date;
  sizeBytes: number;
  featureNames: string[];
}

export interface UploadOptions extends CallOptions {
  /** Precision of the stored rows. Default: FLOAT32. */
  readonly dataType?: Precision | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly featureNames?: readonly string[] | undefined;
  /** Rows of one message. Default: about 1 MiB. */
  readonly chunkRows?: number | undefined;
  /** Called after each chunk, with the number of rows sent so far. */
  readonly onProgress?: ((rows: number) => void) | undefined;
}

/**
 * Returns rows from index `firstRow` on, at most as many as fit into a message (64 MiB by default);
 * undefined after the last row. Every batch is of tensors with a shape. After a broken connection
 * it is called again from the first row that the server does not have.
 */
export type RowSource = (firstRow: number) => Batch | undefined | Promise<Batch | undefined>;

/**
 * Bytes of a file. Bytes, a Blob and a function can be read again from the start: the call is
 * retried. An iterable is read once: the call is not retried.
 */
export type ByteSource =
  | Uint8Array
  | Blob
  | (() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>)
  | AsyncIterable<Uint8Array>;

export interface ImportOptions extends CallOptions {
  readonly modelId?: string | undefined;
  readonly durability?: Durability | undefined;
}

export interface RestoredBackup {
  models: number;
  /** Runs that resume. */
  runs: number;
}

export interface Project {
  /** `projects/{id}` */
  name: string;
  quotas: { quota: string; used?: number; limit?: number }[];
  weight: number;
}

export interface ServerStatus {
  version: string;
  commit: string;
  instructionSet: string;
  startTime: Date;
  statusTime: Date;
  health: { service: string; serving: boolean; reason: string }[];
  /** In the text format of Prometheus. */
  metrics: string;
  /** Only in the full view. */
  flags: { name: string; value: string; given: boolean }[];
  /** Only in the full view. */
  logLines: string[];
}
