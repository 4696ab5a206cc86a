// The part of the package for browsers, with the fetch of Node.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BackpropError, Client } from '../src/web.js';
import { Client as NodeClient } from '../src/node.js';
import { batch, XOR, xor } from './data.js';
import { type Http, startHttp } from './http.js';

let http: Http;
let client: Client;
let node: NodeClient;

before(async () => {
  http = await startHttp('http://127.0.0.1');
  client = new Client(http.url, { retry: { maxAttempts: 100 } });
  node = new NodeClient(http.server.address, { retry: { maxAttempts: 100 } });
});

after(async () => {
  node.close();
  await http.stop();
});

test('a browser trains, predicts, and gets the bits that Node gets', async () => {
  await client.createModel(XOR, { modelId: 'page' });
  const kinds: string[] = [];
  const run = client.train('page', xor(), { iterations: 1500, reportEvery: 500 });
  for await (const event of run) kinds.push(event.kind);
  assert.deepEqual([kinds[0], kinds.at(-1)], ['started', 'summary']);
  assert.equal((await run).stopReason, 'COMPLETED');
  assert.ok(((await run).metrics?.accuracy ?? 0) > 0.95);
  assert.deepEqual(
    await client.predict('page', xor().inputs),
    await node.predict('page', xor().inputs),
  );
  assert.deepEqual(await client.getParameters('page'), await node.getParameters('page'));
});

test('leaving the loop and a signal stop the run', async () => {
  await client.createModel(XOR, { modelId: 'left' });
  for await (const event of client.train('left', xor(), { iterations: 1e9, reportEvery: 100 })) {
    if (event.sequence >= 3) break;
  }
  assert.equal((await node.watchTraining('left')).stopReason, 'CANCELLED');
  const abort = new AbortController();
  await assert.rejects(
    async () => {
      const run = client.train('left', xor(), {
        iterations: 1e9,
        reportEvery: 100,
        signal: abort.signal,
      });
      for await (const event of run) if (event.sequence >= 3) abort.abort();
    },
    { name: 'BackpropError', code: 'CANCELLED' },
  );
  assert.equal((await node.watchTraining('left')).stopReason, 'CANCELLED');
});

test('errors have fields, reasons and metadata', async () => {
  await assert.rejects(
    client.createModel({ inputSize: 2, layers: [{ units: 0 }] }),
    (error: BackpropError) => {
      assert.equal(error.code, 'INVALID_ARGUMENT');
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        ['spec.layers[0].units'],
      );
      return true;
    },
  );
  await client.createModel(XOR, { modelId: 'errors' });
  await assert.rejects(
    client.step('errors', batch(1), { expectedStep: 5 }),
    (error: BackpropError) => {
      assert.equal(error.reason, 'STEP_MISMATCH');
      assert.equal(error.metadata['current_step'], '0');
      return true;
    },
  );
  const nobody = new Client('http://127.0.0.1:1', { retry: { maxAttempts: 2 } });
  await assert.rejects(nobody.getModel('x'), { code: 'UNAVAILABLE' });
  await assert.rejects(client.getModel('errors', { timeoutMs: 0.001 }), {
    code: 'DEADLINE_EXCEEDED',
  });
  assert.throws(() => new Client('localhost:8080'), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => new Client('http://192.0.2.1', { token: 'secret' }), {
    code: 'FAILED_PRECONDITION',
  });
});

test('steps are made one after the other, with the bits of pipelined ones', async () => {
  for (const modelId of ['one', 'piped']) await client.createModel(XOR, { modelId });
  const batches = Array.from({ length: 50 }, (_, i) => batch(i));
  const steps: number[] = [];
  for await (const { step } of client.steps('one', batches)) steps.push(step);
  for await (const { step } of node.steps('piped', batches)) assert.ok(step > 0);
  assert.equal(steps.at(-1), 50);
  assert.deepEqual(await client.getParameters('one'), await client.getParameters('piped'));
});

test('a run resumes after a crash', async () => {
  await client.createModel(XOR, { modelId: 'crashed' });
  const sequences: number[] = [];
  let crash: Promise<void> | undefined;
  const run = client.train('crashed', xor(), { iterations: 1e9, reportEvery: 1000 });
  for await (const event of run) {
    sequences.push(event.sequence);
    if (sequences.length === 20) crash = http.server.crash();
    if (sequences.length === 60) await client.stopTraining('crashed');
  }
  await crash;
  assert.equal((await run).stopReason, 'STOPPED');
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  );
});

test('datasets and models are uploaded in calls of bounded size', async () => {
  const rows = 100_000;
  const data = Float32Array.from({ length: 30 * rows }, (_, i) => Math.sin(i)); // 12 MB
  const labels = Int32Array.from({ length: rows }, (_, i) => i % 2);
  const progress: number[] = [];
  const dataset = await client.uploadDataset(
    'web',
    { inputs: { shape: [rows, 30], data }, labels },
    {
      onProgress: (sent) => progress.push(sent),
    },
  );
  assert.equal(dataset.rows, rows);
  assert.equal(dataset.state, 'READY');
  assert.deepEqual(
    progress,
    [...progress].sort((a, b) => a - b),
  );
  assert.equal(progress.at(-1), rows);
  const chunks: Uint8Array[] = [];
  for await (const chunk of client.exportModel('page')) chunks.push(chunk);
  const copy = await client.importModel(new Blob(chunks as BlobPart[]), { modelId: 'copy' });
  assert.equal(copy.name, 'models/copy');
  assert.deepEqual(await client.getParameters('copy'), await client.getParameters('page'));
});
