// The server is killed (-9) and started again under calls.
import assert from 'node:assert/strict';
import { createServer, type Socket, connect as connectTcp } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BackpropError, type Batch, Client, type StepBatch } from '../src/node.js';
import { batch, XOR, xor } from './data.js';
import { freePort, Server } from './server.js';

let server: Server;
let client: Client;
// A restart may take longer on a busy machine than the default retries last.
const PATIENT = { retry: { maxAttempts: 100 } };

before(async () => {
  server = await Server.durable();
  client = new Client(server.address, PATIENT);
});

after(async () => {
  client.close();
  await server.stop();
});

/** A TCP link to the server, which can be cut. */
class Link {
  readonly #sockets = new Set<Socket>();
  #accepted = 0;
  #sent = 0;

  private constructor(
    readonly port: number,
    private readonly listener: ReturnType<typeof createServer>,
  ) {}

  static async to(address: string): Promise<Link> {
    const port = await freePort();
    const listener = createServer();
    const link = new Link(port, listener);
    listener.on('connection', (near) => {
      const far = connectTcp(Number(address.split(':')[1]), '127.0.0.1');
      ++link.#accepted;
      near.on('data', (bytes) => (link.#sent += bytes.length));
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        link.#sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          link.#sockets.delete(one);
          other.destroy();
        });
      }
      near.pipe(far);
      far.pipe(near);
    });
    await new Promise<void>((resolve) => {
      listener.listen(port, '127.0.0.1', resolve);
    });
    return link;
  }

  get address(): string {
    return `127.0.0.1:${String(this.port)}`;
  }

  /** Number of connections so far. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Bytes that clients have sent. */
  get sent(): number {
    return this.#sent;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.listener.close();
    this.cut();
  }
}

test('steps across a crash are each made once', async () => {
  await client.createModel(XOR, { modelId: 'steps' });
  const steps: number[] = [];
  let crashed = false;
  const crash = sleep(50)
    .then(() => server.crash())
    .then(() => {
      crashed = true;
    });
  for (let i = 0; i < 20 || !crashed; ++i) {
    steps.push((await client.step('steps', batch(i))).step);
  }
  await crash;
  assert.deepEqual(
    steps,
    steps.map((_, i) => i + 1),
  );
  assert.equal((await client.getModel('steps')).step, steps.length);
});

test('a run resumes after a crash, delivers each event once, and ends with the bits of an undisturbed one', async () => {
  const options = { iterations: 150_000, reportEvery: 500 };
  for (const modelId of ['undisturbed', 'crashed']) await client.createModel(XOR, { modelId });
  await client.train('undisturbed', xor(), options);
  const sequences: number[] = [];
  let crash: Promise<void> | undefined;
  const run = client.train('crashed', xor(), options);
  for await (const event of run) {
    sequences.push(event.sequence);
    if (event.kind === 'progress' && event.progress.iteration >= 5000) crash ??= server.crash();
  }
  await crash;
  assert.ok(crash !== undefined, 'the run was too short');
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  );
  assert.equal((await run).stopReason, 'COMPLETED');
  assert.equal((await run).iterations, options.iterations);
  assert.deepEqual(
    await client.getParameters('crashed'),
    await client.getParameters('undisturbed'),
  );
});

test('a watch goes on by sequence after a crash', async () => {
  await client.createModel(XOR, { modelId: 'watched' });
  await client
    .train('watched', xor(), { iterations: 1_000_000_000, reportEvery: 1000, detach: true })
    [Symbol.asyncIterator]()
    .next();
  const sequences: number[] = [];
  let crash: Promise<void> | undefined;
  const run = client.watchTraining('watched');
  for await (const event of run) {
    sequences.push(event.sequence);
    if (sequences.length === 20) crash = server.crash();
    if (sequences.length === 60) await client.stopTraining('watched');
  }
  await crash;
  assert.ok(crash !== undefined && sequences.length > 60);
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  );
  assert.equal((await run).stopReason, 'STOPPED');
});

test('pipelined steps across crashes are each made once, in order', async () => {
  const batches: StepBatch[] = Array.from({ length: 600 }, (_, i) => batch(i));
  for (const modelId of ['calm', 'stormy']) await client.createModel(XOR, { modelId });
  for await (const { step } of client.steps('calm', batches)) assert.ok(step > 0);
  let received = 0;
  const crashes: Promise<void>[] = [];
  for await (const { step } of client.steps('stormy', batches)) {
    assert.equal(step, ++received);
    // One crash at a time.
    if (received === 100 || received === 400) crashes.push(server.crash());
    if (received === 390) await crashes[0];
  }
  await Promise.all(crashes);
  assert.equal(crashes.length, 2);
  assert.equal(received, batches.length);
  assert.deepEqual(await client.getParameters('stormy'), await client.getParameters('calm'));
});

test('an upload resumes after a crash with the rows that the server has', async () => {
  const rows = 20_000;
  const data = Float32Array.from({ length: 50 * rows }, (_, i) => Math.sin(i));
  const all: Batch = {
    inputs: { shape: [rows, 50], data },
    labels: Int32Array.from({ length: rows }, (_, i) => i % 2),
  };
  const progress: number[] = [];
  let crash: Promise<void> | undefined;
  const dataset = await client.uploadDataset('crashed', all, {
    chunkRows: 200,
    onProgress: (sent) => {
      progress.push(sent);
      if (sent >= rows / 2) crash ??= server.crash();
    },
  });
  await crash;
  assert.ok(crash !== undefined);
  assert.equal(dataset.rows, rows);
  assert.equal(dataset.state, 'READY');
  assert.ok(
    progress.some((sent, i) => sent <= (progress[i - 1] ?? 0)),
    'the upload was not interrupted',
  );
  assert.notEqual(progress.filter((sent) => sent === 200).length, 2, 'the upload began again');
  // A run on the dataset is that on the rows.
  const spec = { inputSize: 50, layers: [{ units: 2 }], seed: 1 };
  for (const modelId of ['named', 'inline']) await client.createModel(spec, { modelId });
  await client.train('named', 'crashed', { iterations: 3 });
  await client.train('inline', all, { iterations: 3 });
  assert.deepEqual(await client.getParameters('named'), await client.getParameters('inline'));
  assert.equal((await client.evaluate('named', 'datasets/crashed')).metrics.rows, rows);
  await client.deleteDataset('crashed');
});

test('a detached run is attached again over a link that is cut often', async () => {
  const link = await Link.to(server.address);
  const far = new Client(link.address, { retry: { maxAttempts: 4 } });
  await far.createModel(XOR, { modelId: 'cut' });
  const sequences: number[] = [];
  const run = far.train('cut', xor(), {
    iterations: 1_000_000_000,
    reportEvery: 1000,
    detach: true,
  });
  let cuts = 0;
  for await (const event of run) {
    sequences.push(event.sequence);
    // Each connection is cut after an event has come through it.
    if (link.accepted > cuts && cuts < 8) {
      cuts = link.accepted;
      link.cut();
      if (cuts >= 8) await client.stopTraining('cut');
    }
  }
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  );
  assert.equal((await run).stopReason, 'STOPPED');
  assert.ok(link.accepted > 8, `${String(link.accepted)} connections`);
  far.close();
  link.close();
});

test('a run that is not detached ends with the connection, and the error says so', async () => {
  const link = await Link.to(server.address);
  const far = new Client(link.address);
  await far.createModel(XOR, { modelId: 'broken' });
  const run = far.train('broken', xor(), { iterations: 1_000_000_000, reportEvery: 100 });
  await assert.rejects(
    async () => {
      for await (const event of run) if (event.sequence === 3) link.cut();
    },
    (error: BackpropError) => {
      assert.equal(error.code, 'UNAVAILABLE');
      assert.equal(error.reason, 'CONNECTION_BROKE');
      return true;
    },
  );
  far.close();
  link.close();
});

test('a call to a server that is gone is made as often as allowed', async () => {
  const link = await Link.to('127.0.0.1:1');
  const far = new Client(link.address, {
    retry: { maxAttempts: 3, firstPauseMs: 1, lastPauseMs: 1 },
  });
  await assert.rejects(far.getModel('x'), { name: 'BackpropError', code: 'UNAVAILABLE' });
  assert.equal(link.accepted, 3);
  // The deadline bounds the pauses.
  const slow = new Client(link.address, { retry: { maxAttempts: 1000, firstPauseMs: 10_000 } });
  const begin = Date.now();
  await assert.rejects(slow.getModel('x', { timeoutMs: 300 }), { name: 'BackpropError' });
  assert.ok(Date.now() - begin < 2000);
  slow.close();
  far.close();
  link.close();
});

test('a model travels through a file, and an import is repeated', async () => {
  await client.createModel(XOR, { modelId: 'travels' });
  await client.train('travels', xor(), { iterations: 10 });
  const path = `${server.dir}/travels.backprop`;
  const { bytes } = await client.saveModel('travels', path);
  assert.ok(bytes > 0);
  const crash = server.crash();
  const arrived = await client.loadModel(path, { modelId: 'arrived' });
  await crash;
  assert.equal(arrived.step, 10);
  assert.deepEqual(await client.getParameters('arrived'), await client.getParameters('travels'));
  const chunks: Uint8Array[] = [];
  for await (const chunk of client.exportModel('arrived')) chunks.push(chunk);
  const file = Buffer.concat(chunks);
  assert.equal((await client.importModel(new Blob([file]), { modelId: 'blob' })).step, 10);
  file[file.length >> 1] = (file[file.length >> 1] ?? 0) ^ 1;
  await assert.rejects(client.importModel(file, { modelId: 'damaged' }), {
    name: 'BackpropError',
    code: 'INVALID_ARGUMENT',
  });
  // An iterable is read once: the call is not repeated.
  const nobody = new Client('127.0.0.1:1');
  let read = 0;
  const once = async function* () {
    ++read;
    yield await Promise.resolve(file);
  };
  await assert.rejects(nobody.importModel(once()), { name: 'BackpropError', code: 'UNAVAILABLE' });
  assert.ok(read <= 1);
  await assert.rejects(client.saveModel('nobody', `${server.dir}/nobody`), { code: 'NOT_FOUND' });
});

test('what the source of an upload throws reaches the caller', async () => {
  const wrong = (): never => {
    throw new RangeError('no rows');
  };
  await assert.rejects(client.uploadDataset('throws', wrong), RangeError);
  await assert.rejects(client.importModel(wrong), RangeError);
  await assert.rejects(client.restoreBackup(wrong), RangeError);
  await assert.rejects(client.loadModel('/nowhere'), { code: 'ENOENT' });
  // An error of the server in the middle of an upload is the server's.
  const ragged = (first: number): Batch =>
    first === 0 ? { inputs: [[1, 2]], labels: [0] } : { inputs: [[1, 2, 3]], labels: [0] };
  await assert.rejects(client.uploadDataset('ragged', ragged), {
    name: 'BackpropError',
    code: 'INVALID_ARGUMENT',
  });
  await client.uploadDataset('taken', { inputs: [[1, 2]], labels: [0] });
  await assert.rejects(client.uploadDataset('taken', { inputs: [[1, 2]], labels: [0] }), {
    name: 'BackpropError',
    code: 'ALREADY_EXISTS',
    reason: 'DATASET_EXISTS',
  });
});

test('a backup restores a server', async () => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of client.createBackup()) chunks.push(chunk);
  const empty = await Server.durable();
  const other = new Client(empty.address);
  const restored = await other.restoreBackup(Buffer.concat(chunks));
  assert.ok(restored.models > 0);
  let models = 0;
  for await (const { name } of other.listModels({ pageSize: 2 })) models += name === '' ? 0 : 1;
  assert.equal(models, restored.models);
  other.close();
  await empty.stop();
});

test('a server names its version, its projects and its health', async () => {
  assert.equal(await client.checkHealth(), true);
  const status = await client.getServerStatus({ view: 'FULL' });
  assert.match(status.version, /^\d+\.\d+\.\d+/);
  assert.ok(status.flags.some(({ name, given }) => name === '--data-dir' && given));
  assert.ok(status.startTime <= status.statusTime);
  const names = [];
  for await (const { name } of client.listProjects()) names.push(name);
  assert.deepEqual(names, ['projects/default']);
  assert.ok((await client.getProject('default')).quotas.length > 0);
});
