import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BackpropError, Client } from '../src/node.js';
import { batch, XOR, xor } from './data.js';
import { Server } from './server.js';

let server: Server;
let client: Client;

before(async () => {
  server = await Server.start();
  client = new Client(server.address);
});

after(async () => {
  client.close();
  await server.stop();
});

function rejects(
  promise: Promise<unknown> | PromiseLike<unknown>,
  want: Partial<BackpropError>,
): Promise<BackpropError> {
  return Promise.resolve(promise).then(
    () => assert.fail('the call did not fail'),
    (error: unknown) => {
      assert.ok(error instanceof BackpropError, String(error));
      assert.deepEqual(
        Object.fromEntries(
          Object.keys(want).map((key) => [key, error[key as keyof BackpropError]]),
        ),
        want,
      );
      return error;
    },
  );
}

test('a model is created, read, listed and deleted', async () => {
  const created = await client.createModel(
    { ...XOR, seed: 2n ** 64n - 1n, layers: [{ units: 8, activation: 'TANH' }, { units: 2 }] },
    { modelId: 'life', labels: { purpose: 'life' }, ttlMs: 3_600_500.5 },
  );
  assert.equal(created.name, 'models/life');
  assert.equal(created.parameterCount, 42);
  assert.equal(created.step, 0);
  assert.equal(created.ttlMs, 3_600_500.5);
  assert.equal(created.spec.seed, 2n ** 64n - 1n);
  assert.equal(created.spec.layers[0]?.activation, 'TANH');
  assert.equal(created.spec.optimizer?.adam?.learningRate, 0.01);
  assert.ok(created.spec.optimizer.sgd === undefined);
  assert.ok(Math.abs(created.createTime.getTime() - Date.now()) < 60_000);
  assert.equal(created.durability, 'NONE');
  const read = await client.getModel('models/life');
  assert.deepEqual(read.spec, created.spec);
  for (let i = 0; i < 5; ++i)
    await client.createModel(XOR, { modelId: `list-${String(i)}`, labels: { purpose: 'list' } });
  const names = [];
  for await (const { name } of client.listModels({ pageSize: 2, labels: { purpose: 'list' } }))
    names.push(name);
  assert.deepEqual(
    names,
    [0, 1, 2, 3, 4].map((i) => `models/list-${String(i)}`),
  );
  await client.deleteModel('life');
  await rejects(client.getModel('life'), { code: 'NOT_FOUND', reason: 'MODEL_NOT_FOUND' });
});

test('a model learns XOR while its progress streams in', async () => {
  await client.createModel(XOR, { modelId: 'learns' });
  const run = client.train('learns', xor(), { iterations: 1500, reportEvery: 500 });
  const seen: string[] = [];
  const losses: number[] = [];
  for await (const event of run) {
    seen.push(event.kind);
    assert.equal(event.run, 'models/learns/runs/1');
    if (event.kind === 'progress') losses.push(event.progress.metrics.loss);
  }
  assert.equal(seen[0], 'started');
  assert.equal(seen.at(-1), 'summary');
  assert.ok(losses.length >= 4 && (losses.at(-1) ?? 1) < (losses[0] ?? 0) / 2, String(losses));
  const summary = await run;
  assert.equal(summary.stopReason, 'COMPLETED');
  assert.equal(summary.iterations, 1500);
  assert.ok((summary.metrics?.accuracy ?? 0) > 0.95);
  const corners = new Float32Array([-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5]);
  const prediction = await client.predict('learns', { shape: [4, 2], data: corners });
  assert.deepEqual(prediction.classes, [1, 0, 0, 1]);
  assert.equal(prediction.step, 1500);
  assert.ok(prediction.probabilities?.data instanceof Float32Array);
  assert.deepEqual(prediction.probabilities.shape, [4, 2]);
  // The same numbers without a shape, as rows, and in float64 give the same bits.
  for (const inputs of [
    corners,
    [
      [-0.5, -0.5],
      [-0.5, 0.5],
      [0.5, -0.5],
      [0.5, 0.5],
    ],
    Float64Array.from(corners),
  ]) {
    const same = await client.predict('learns', inputs);
    assert.deepEqual([...(same.probabilities?.data ?? [])], [...prediction.probabilities.data]);
  }
  const evaluation = await client.evaluate('learns', xor());
  assert.deepEqual(evaluation.metrics, summary.metrics);
  assert.equal(evaluation.classification?.confusionMatrix.length, 4);
  const check = await client.gradCheck('learns', xor(20));
  assert.equal(check.verdict, 'PASSED');
  assert.equal(check.tensors.length, 4);
  assert.equal(check.tensors[0]?.name, 'layers[0].weights');
});

test('an await of a run trains without a loop, and a second loop is refused', async () => {
  await client.createModel(XOR, { modelId: 'awaited' });
  const run = client.train('awaited', xor(), { epochs: 3, batchSize: 50 });
  assert.equal((await run).iterations, 12);
  await assert.rejects(async () => {
    for await (const event of run) assert.fail(event.kind);
  }, TypeError);
  await rejects(client.train('awaited', xor(), { iterations: 0 }), { code: 'INVALID_ARGUMENT' });
});

test('leaving the loop stops the run and rejects its summary', async () => {
  await client.createModel(XOR, { modelId: 'left' });
  const run = client.train('left', xor(), { iterations: 1_000_000_000, reportEvery: 100 });
  let events = 0;
  for await (const event of run) {
    assert.ok(event.sequence > 0);
    if (++events === 5) break;
  }
  await rejects(run, { code: 'CANCELLED' });
  const watched = await client.watchTraining('left');
  assert.equal(watched.stopReason, 'CANCELLED');
  assert.ok(watched.iterations < 1_000_000_000);
});

test('an exception in the loop stops the run', async () => {
  await client.createModel(XOR, { modelId: 'threw' });
  await assert.rejects(async () => {
    for await (const event of client.train('threw', xor(), { iterations: 1_000_000_000 })) {
      throw new RangeError(event.run);
    }
  }, RangeError);
  assert.equal((await client.watchTraining('threw')).stopReason, 'CANCELLED');
});

test('a signal cancels a run, a unary call, and a call that waits for a retry', async () => {
  await client.createModel(XOR, { modelId: 'signal' });
  const abort = new AbortController();
  const run = client.train('signal', xor(), { iterations: 1_000_000_000, signal: abort.signal });
  const stopped = rejects(run, { code: 'CANCELLED' });
  setTimeout(() => {
    abort.abort(new Error('enough'));
  }, 100);
  assert.equal(((await stopped).cause as Error).message, 'enough');
  assert.equal((await client.watchTraining('signal')).stopReason, 'CANCELLED');
  await rejects(client.getModel('signal', { signal: AbortSignal.abort() }), { code: 'CANCELLED' });
  const nobody = new Client('127.0.0.1:1', { retry: { maxAttempts: 1000, firstPauseMs: 60_000 } });
  await rejects(nobody.getModel('signal', { signal: AbortSignal.timeout(100) }), {
    code: 'CANCELLED',
  });
});

test('a deadline ends a run and a call', async () => {
  await client.createModel(XOR, { modelId: 'deadline' });
  const run = client.train('deadline', xor(), { iterations: 1_000_000_000, timeoutMs: 300 });
  await rejects(run, { code: 'DEADLINE_EXCEEDED' });
  assert.equal((await client.watchTraining('deadline')).stopReason, 'CANCELLED');
  await client.train('deadline', xor(), { iterations: 1 });
});

test('a detached run continues, is watched from any event, and is stopped', async () => {
  await client.createModel(XOR, { modelId: 'detached' });
  for await (const event of client.train('detached', xor(), {
    iterations: 1_000_000_000,
    reportEvery: 1000,
    detach: true,
  })) {
    assert.equal(event.kind, 'started');
    break;
  }
  const other = new Client(server.address);
  const sequences = [];
  for await (const event of other.watchTraining('detached', { fromSequence: 3 })) {
    sequences.push(event.sequence);
    if (sequences.length === 3) break;
  }
  assert.ok((sequences[0] ?? 0) >= 3);
  const { run, summary } = await client.stopTraining('detached');
  assert.equal(run, 'models/detached/runs/1');
  assert.equal(summary.stopReason, 'STOPPED');
  assert.deepEqual(await other.watchTraining('detached', { run }), summary);
  await rejects(client.stopTraining('detached'), { code: 'FAILED_PRECONDITION', reason: 'NO_RUN' });
  other.close();
});

test('a step names its step, and a wrong expected step says which one it is', async () => {
  await client.createModel(XOR, { modelId: 'step' });
  const first = await client.step('step', batch(1), { expectedStep: 0 });
  assert.equal(first.step, 1);
  assert.equal(first.metrics.rows, 4);
  const error = await rejects(client.step('step', batch(1), { expectedStep: 0 }), {
    code: 'ABORTED',
    reason: 'STEP_MISMATCH',
  });
  assert.equal(error.metadata['current_step'], '1');
  const once = { requestId: 'once' };
  const step = await client.step('step', batch(2), once);
  assert.deepEqual(await client.step('step', batch(2), once), step);
  assert.equal((await client.getModel('step')).step, 2);
});

test('pipelined steps give the bits of single ones', async () => {
  await client.createModel(XOR, { modelId: 'single' });
  await client.createModel(XOR, { modelId: 'piped' });
  const expected = [];
  for (let i = 0; i < 200; ++i) expected.push(await client.step('single', batch(i)));
  const results = [];
  for await (const result of client.steps(
    'piped',
    Array.from({ length: 200 }, (_, i) => batch(i)),
  ))
    results.push(result);
  assert.deepEqual(results, expected);
  const [single, piped] = [
    await client.getParameters('single'),
    await client.getParameters('piped'),
  ];
  assert.deepEqual(single, piped);
});

test('pipelined steps take no more batches than may be in flight, and end at a rejected one', async () => {
  await client.createModel(XOR, { modelId: 'bounded' });
  let taken = 0;
  let received = 0;
  const source = function* () {
    for (let i = 0; i < 50; ++i) {
      assert.ok(++taken <= received + 5, `${String(taken)} taken, ${String(received)} received`);
      yield { ...batch(i), expectedStep: i === 30 ? 7 : i };
    }
  };
  await rejects(
    (async () => {
      for await (const { step } of client.steps('bounded', source(), { inFlight: 4 })) {
        assert.equal(step, ++received);
      }
    })(),
    { code: 'ABORTED', reason: 'STEP_MISMATCH' },
  );
  assert.equal(received, 30);
  await rejects(client.steps('bounded', [], { inFlight: 65 }).next(), { code: 'INVALID_ARGUMENT' });
  // What the source throws reaches the caller, after the steps before it.
  const broken = function* () {
    yield batch(1);
    throw new RangeError('no more');
  };
  let made = 0;
  await assert.rejects(async () => {
    for await (const { step } of client.steps('bounded', broken())) made += step;
  }, RangeError);
  assert.ok(made > 0);
});

test('gradients of two replicas make the step of both batches', async () => {
  await client.createModel({ ...XOR, dataType: 'FLOAT64' }, { modelId: 'replica' });
  const gradients = await client.computeGradients('replica', batch(1));
  assert.deepEqual(gradients.tensors['layers[0].weights']?.shape, [2, 8]);
  assert.ok(gradients.tensors['layers[0].weights']?.data instanceof Float64Array);
  assert.equal(gradients.weight, 4);
  const applied = await client.applyGradients('replica', gradients.tensors, { expectedStep: 0 });
  assert.equal(applied.step, 1);
  assert.equal(applied.gradientNorm, gradients.gradientNorm);
});

test('parameters are read and set exactly, with the state of the optimiser', async () => {
  await client.createModel(XOR, { modelId: 'from' });
  await client.train('from', xor(), { iterations: 20 });
  const parameters = await client.getParameters('from');
  assert.equal(parameters.step, 20);
  assert.equal(parameters.tensors['layers[1].bias']?.data.length, 2);
  assert.ok(parameters.optimizerState?.['layers[0].weights/exp_avg']);
  await client.createModel(XOR, { modelId: 'to', initialParameters: parameters });
  assert.deepEqual(await client.getParameters('to'), parameters);
  await client.step('to', batch(1));
  assert.equal((await client.setParameters('to', parameters, { expectedStep: 21 })).step, 20);
  assert.deepEqual(await client.getParameters('to'), parameters);
  assert.equal(
    (await client.getParameters('to', { omitOptimizerState: true })).optimizerState?.[
      'layers[0].weights/exp_avg'
    ],
    undefined,
  );
});

test('checkpoints bring a model back', async () => {
  await client.createModel(XOR, { modelId: 'kept' });
  await client.step('kept', batch(1));
  const saved = await client.createCheckpoint('kept', 'one');
  assert.equal(saved.name, 'models/kept/checkpoints/one');
  await client.step('kept', batch(2));
  assert.equal((await client.restoreCheckpoint('kept', 'one', { expectedStep: 2 })).step, 1);
  const names = [];
  for await (const { name } of client.listCheckpoints('kept')) names.push(name);
  assert.deepEqual(names, ['models/kept/checkpoints/one']);
  await client.deleteCheckpoint('kept', saved.name);
  await rejects(client.restoreCheckpoint('kept', 'one'), {
    code: 'NOT_FOUND',
    reason: 'CHECKPOINT_NOT_FOUND',
  });
});

test('errors name their fields, in the words of the server', async () => {
  const error = await rejects(client.createModel({ inputSize: 0, layers: [{ units: 0 }] }), {
    code: 'INVALID_ARGUMENT',
  });
  assert.deepEqual(error.violations.map(({ field }) => field).sort(), [
    'spec.input_size',
    'spec.layers[0].units',
  ]);
  assert.match(error.message, /^INVALID_ARGUMENT: .*must be at least 1, got 0/);
  await client.createModel(XOR, { modelId: 'twice' });
  await rejects(client.createModel(XOR, { modelId: 'twice' }), {
    code: 'ALREADY_EXISTS',
    reason: 'MODEL_EXISTS',
  });
});

test('what cannot be sent is refused with its field', async () => {
  const fields = async (promise: Promise<unknown>): Promise<string> => {
    const { violations } = await rejects(promise, { code: 'INVALID_ARGUMENT' });
    return violations.map(({ field, description }) => `${field}: ${description}`).join('; ');
  };
  const wrong = (spec: unknown) => fields(client.createModel(spec as typeof XOR));
  assert.equal(
    await wrong({ inputSize: 2.5, layers: [{ units: 2, activation: 'Relu' }], sead: 1 }),
    'spec.input_size: must be a whole number of 32 bits, got 2.5; ' +
      'spec.layers[0].activation: must be one of IDENTITY, RELU, TANH, SIGMOID, LEAKY_RELU, ELU, GELU, SILU, SOFTPLUS, got "Relu"; ' +
      'spec.sead: is unknown',
  );
  assert.match(
    await wrong({ ...XOR, optimizer: { sgd: {}, adam: {} } }),
    /^spec.optimizer.adam: cannot be set together with sgd/,
  );
  assert.match(await wrong({ ...XOR, seed: 2 ** 53 }), /^spec.seed: must be a whole number from 0/);
  const data = new Float32Array(7);
  assert.equal(
    await fields(client.predict('x', { shape: [4, 2], data })),
    'inputs: has 7 numbers, which do not fill the shape [4, 2]',
  );
  assert.match(
    await fields(client.predict('x', [[1, 2], [3]])),
    /^inputs: row 1 has 1 numbers, row 0 has 2/,
  );
  assert.match(
    await fields(client.step('x', { inputs: [[1, 2]], labels: [0, 1] })),
    /^batch.labels: has 2 rows, inputs has 1/,
  );
  assert.match(
    await fields(client.step('x', { inputs: [[1, 2]], labels: [0.5] })),
    /^batch.labels: element 0 is not a class index: 0.5/,
  );
  assert.match(await fields(client.getModel('')), /^name: must not be empty/);
  assert.throws(() => new Client('nowhere'), /address: must be host:port/);
});
