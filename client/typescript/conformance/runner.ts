// Runs the requests of tests/conformance/run with this package. tests/conformance/README.md
// describes the protocol.
import { readFile, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import {
  BackpropError,
  type Batch,
  type CallOptions,
  Client,
  type ClientOptions,
  type FloatArray,
  type ModelSpec,
  type Run,
  type Tensor,
  type TrainingEvent,
  type TrainingSummary,
} from '../src/node.js';

interface WireArray {
  readonly shape: number[];
  readonly dtype: string;
  readonly base64?: string;
  readonly file?: string;
}

type Args = Readonly<Record<string, unknown>>;

interface Request {
  readonly id: number;
  readonly op: string;
  readonly args?: Args;
  readonly async?: boolean;
}

/** A request that is being executed. */
interface Context {
  readonly args: Args;
  readonly client: Client;
  readonly call: CallOptions;
  readonly emit: (event: object) => void;
}

const clients = new Map<string, Client>();
const running = new Map<number, AbortController>();

function write(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function text(args: Args, name: string): string {
  const value = args[name];
  if (typeof value !== 'string') throw new TypeError(`${name} is missing`);
  return value;
}

/** The named arguments, in the names of the package. */
function pick(args: Args, names: Readonly<Record<string, string>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(names).flatMap(([wire, name]) =>
      args[wire] === undefined ? [] : [[name, args[wire]]],
    ),
  );
}

async function arrayOf(wire: WireArray): Promise<Tensor> {
  const bytes =
    wire.file === undefined ? Buffer.from(wire.base64 ?? '', 'base64') : await readFile(wire.file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const data: FloatArray =
    wire.dtype === 'float64' ? new Float64Array(buffer) : new Float32Array(buffer);
  return { shape: wire.shape, data };
}

async function tensorsOf(wire: unknown): Promise<Record<string, Tensor>> {
  const entries = Object.entries(wire as Record<string, WireArray>);
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, array]) => [name, await arrayOf(array)] as const)),
  );
}

async function wireOf(tensor: Tensor, args: Args, name: string): Promise<WireArray> {
  const { shape, data } = tensor;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const head = { shape: [...shape], dtype: data instanceof Float64Array ? 'float64' : 'float32' };
  if (args['to_file'] === undefined)
    return { ...head, base64: Buffer.from(bytes).toString('base64') };
  const file = `${text(args, 'to_file')}-${name.replaceAll(/[^\w]/g, '_')}`;
  await writeFile(file, bytes);
  return { ...head, file };
}

async function wiresOf(
  tensors: Record<string, Tensor>,
  args: Args,
): Promise<Record<string, WireArray>> {
  const wires: Record<string, WireArray> = {};
  for (const [name, tensor] of Object.entries(tensors))
    wires[name] = await wireOf(tensor, args, name);
  return wires;
}

async function batchOf(args: Args): Promise<Batch> {
  return {
    inputs: await arrayOf(args['inputs'] as WireArray),
    labels: args['labels'] as number[] | undefined,
    targets:
      args['targets'] === undefined ? undefined : await arrayOf(args['targets'] as WireArray),
  };
}

function summaryOf(summary: TrainingSummary): object {
  const { stopReason, iterations, step, metrics, message } = summary;
  return { stop_reason: stopReason, iterations, step, loss: metrics?.loss ?? 0, message };
}

function eventOf(event: TrainingEvent): object {
  const { run, sequence, dropped, kind } = event;
  const head = { run, sequence, dropped, kind };
  if (kind === 'started') return head;
  if (kind === 'summary') return { ...head, ...summaryOf(event.summary) };
  const { iteration, step, metrics } = event.progress;
  return { ...head, iteration, step, loss: metrics.loss };
}

async function follow(run: Run, { args, emit }: Context): Promise<object> {
  const sequences: number[] = [];
  for await (const event of run) {
    emit(eventOf(event));
    sequences.push(event.sequence);
    if (sequences.length === args['cancel_after_events']) return { sequences };
  }
  return { ...summaryOf(await run), sequences };
}

async function connect(args: Args): Promise<object> {
  const retry = pick((args['retry'] as Args | undefined) ?? {}, {
    max_attempts: 'maxAttempts',
    first_pause_ms: 'firstPauseMs',
    last_pause_ms: 'lastPauseMs',
  });
  const options: ClientOptions = {
    ...pick(args, { token: 'token', token_file: 'tokenFile' }),
    retry,
    ...(args['ca'] !== undefined && {
      tls: pick(args, { ca: 'caFile', cert: 'certFile', key: 'keyFile' }),
    }),
  };
  const name = (args['as'] as string | undefined) ?? 'c';
  clients.get(name)?.close();
  clients.delete(name);
  clients.set(name, new Client(text(args, 'address'), options));
  return Promise.resolve({});
}

async function namesOf(all: AsyncIterable<{ readonly name: string }>): Promise<object> {
  const names = [];
  for await (const { name } of all) names.push(name);
  return { names };
}

const OPERATIONS: Readonly<Record<string, (context: Context) => Promise<object>>> = {
  health: async ({ client, call }) => ({ serving: await client.checkHealth('', call) }),
  create_model: async ({ args, client, call }) => {
    const options = { ...call, ...pick(args, { model_id: 'modelId', labels: 'labels' }) };
    const { name, step, parameterCount } = await client.createModel(
      args['spec'] as ModelSpec,
      options,
    );
    return { name, step, parameter_count: parameterCount };
  },
  get_model: async ({ args, client, call }) => {
    const { name, step, spec } = await client.getModel(text(args, 'model'), call);
    return { name, step, spec };
  },
  delete_model: async ({ args, client, call }) => {
    await client.deleteModel(text(args, 'model'), call);
    return {};
  },
  list_models: ({ args, client, call }) =>
    namesOf(
      client.listModels({ ...call, ...pick(args, { labels: 'labels', page_size: 'pageSize' }) }),
    ),
  train: async (context) => {
    const { args, client, call } = context;
    const data = typeof args['dataset'] === 'string' ? args['dataset'] : await batchOf(args);
    const options = pick(args, {
      iterations: 'iterations',
      epochs: 'epochs',
      batch_size: 'batchSize',
      report_every: 'reportEvery',
      detach: 'detach',
    });
    return follow(client.train(text(args, 'model'), data, { ...call, ...options }), context);
  },
  watch: (context) => {
    const { args, client, call } = context;
    const options = pick(args, { run: 'run', from_sequence: 'fromSequence' });
    return follow(client.watchTraining(text(args, 'model'), { ...call, ...options }), context);
  },
  stop_training: async ({ args, client, call }) => {
    const { run, summary } = await client.stopTraining(text(args, 'model'), call);
    return { run, iterations: summary.iterations };
  },
  step: async ({ args, client, call }) => {
    const options = { ...call, ...pick(args, { expected_step: 'expectedStep' }) };
    const { step, metrics } = await client.step(text(args, 'model'), await batchOf(args), options);
    return { step, loss: metrics.loss };
  },
  steps: async ({ args, client, call }) => {
    const batches = await Promise.all((args['batches'] as Args[]).map(batchOf));
    const options = { ...call, ...pick(args, { in_flight: 'inFlight' }) };
    const steps = [];
    const losses = [];
    for await (const { step, metrics } of client.steps(text(args, 'model'), batches, options)) {
      steps.push(step);
      losses.push(metrics.loss);
    }
    return { steps, losses };
  },
  predict: async ({ args, client, call }) => {
    const inputs = await arrayOf(args['inputs'] as WireArray);
    const { probabilities, logits, classes, step } = await client.predict(
      text(args, 'model'),
      inputs,
      call,
    );
    return {
      ...(probabilities && { probabilities: await wireOf(probabilities, args, 'probabilities') }),
      ...(logits && { logits: await wireOf(logits, args, 'logits') }),
      ...(classes.length > 0 && { classes }),
      step,
    };
  },
  evaluate: async ({ args, client, call }) => {
    const { metrics } = await client.evaluate(text(args, 'model'), await batchOf(args), call);
    return metrics;
  },
  grad_check: async ({ args, client, call }) => {
    const { verdict } = await client.gradCheck(text(args, 'model'), await batchOf(args), call);
    return { verdict };
  },
  compute_gradients: async ({ args, client, call }) => {
    const { tensors, weight } = await client.computeGradients(
      text(args, 'model'),
      await batchOf(args),
      call,
    );
    return { tensors: await wiresOf(tensors, args), weight };
  },
  apply_gradients: async ({ args, client, call }) => {
    const options = { ...call, ...pick(args, { expected_step: 'expectedStep' }) };
    const { step } = await client.applyGradients(
      text(args, 'model'),
      await tensorsOf(args['tensors']),
      options,
    );
    return { step };
  },
  get_parameters: async ({ args, client, call }) => {
    const { tensors, step } = await client.getParameters(text(args, 'model'), call);
    return { tensors: await wiresOf(tensors, args), step };
  },
  set_parameters: async ({ args, client, call }) =>
    client.setParameters(text(args, 'model'), { tensors: await tensorsOf(args['tensors']) }, call),
  create_checkpoint: async ({ args, client, call }) => {
    const { name } = await client.createCheckpoint(
      text(args, 'model'),
      text(args, 'checkpoint'),
      call,
    );
    return { name };
  },
  restore_checkpoint: ({ args, client, call }) =>
    client.restoreCheckpoint(text(args, 'model'), text(args, 'checkpoint'), call),
  delete_checkpoint: async ({ args, client, call }) => {
    await client.deleteCheckpoint(text(args, 'model'), text(args, 'checkpoint'), call);
    return {};
  },
  list_checkpoints: ({ args, client, call }) =>
    namesOf(client.listCheckpoints(text(args, 'model'), call)),
  upload_dataset: async ({ args, client, call, emit }) => {
    const options = {
      ...call,
      ...pick(args, { chunk_rows: 'chunkRows' }),
      onProgress: (rows: number) => {
        emit({ rows });
      },
    };
    const { name, rows } = await client.uploadDataset(
      text(args, 'dataset'),
      await batchOf(args),
      options,
    );
    return { name, rows };
  },
  get_dataset: async ({ args, client, call }) => {
    const { name, rows, state } = await client.getDataset(text(args, 'dataset'), call);
    return { name, rows, ready: state === 'READY' };
  },
  list_datasets: ({ client, call }) => namesOf(client.listDatasets(call)),
  delete_dataset: async ({ args, client, call }) => {
    await client.deleteDataset(text(args, 'dataset'), call);
    return {};
  },
  export_model: ({ args, client, call }) =>
    client.saveModel(text(args, 'model'), text(args, 'path'), call),
  import_model: async ({ args, client, call }) => {
    const options = { ...call, ...pick(args, { model_id: 'modelId' }) };
    const { name, step } = await client.loadModel(text(args, 'path'), options);
    return { name, step };
  },
};

async function execute({ id, op, args = {} }: Request): Promise<void> {
  const abort = new AbortController();
  running.set(id, abort);
  try {
    if (op === 'connect') {
      write({ id, result: await connect(args) });
      return;
    }
    if (op === 'cancel') {
      running.get(Number(args['target']))?.abort();
      write({ id, result: {} });
      return;
    }
    const operation = OPERATIONS[op];
    if (operation === undefined) {
      write({ id, unsupported: true });
      return;
    }
    const client = clients.get((args['client'] as string | undefined) ?? 'c');
    if (client === undefined)
      throw new BackpropError('FAILED_PRECONDITION', 'there is no such client');
    const call = {
      signal: abort.signal,
      ...pick(args, { timeout_ms: 'timeoutMs', request_id: 'requestId' }),
    };
    const emit = (event: object): void => {
      write({ id, event });
    };
    write({ id, result: await operation({ args, client, call, emit }) });
  } catch (error) {
    if (!(error instanceof BackpropError)) throw error;
    const { code, rawMessage, violations, reason, metadata } = error;
    write({ id, error: { code, message: rawMessage, violations, reason, metadata } });
  } finally {
    running.delete(id);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as Request;
  const done = execute(request);
  if (request.async !== true) await done;
}
for (const abort of running.values()) abort.abort();
for (const client of clients.values()) client.close();
