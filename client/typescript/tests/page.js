// Runs in a page: trains XOR with the package and reports what happened.
import { BackpropError, Client } from '@backprop/client';

async function main(address) {
  const client = new Client(address);
  const data = new Float32Array([0, 0, 0, 1, 1, 0, 1, 1]);
  const batch = { inputs: { shape: [4, 2], data }, labels: [0, 1, 1, 0] };
  await client.createModel(
    {
      inputSize: 2,
      layers: [{ units: 8, activation: 'TANH' }, { units: 2 }],
      optimizer: { adam: { learningRate: 0.05 } },
      seed: 1,
    },
    { modelId: 'page' },
  );
  let events = 0;
  const run = client.train('page', batch, { iterations: 500, reportEvery: 10 });
  for await (const event of run) events += event.kind === 'progress' ? 1 : 0;
  const { stopReason } = await run;
  const { classes } = await client.predict('page', batch.inputs);
  // Leaving the loop stops the run.
  for await (const event of client.train('page', batch, { iterations: 1e9, reportEvery: 100 })) {
    if (event.sequence >= 3) break;
  }
  const left = await client.watchTraining('page');
  const dataset = await client.uploadDataset('page', batch);
  let violations = [];
  try {
    await client.createModel({ inputSize: 2, layers: [{ units: 0 }] });
  } catch (error) {
    if (error instanceof BackpropError) violations = error.violations;
  }
  const { rows } = dataset;
  return { events, stopReason, classes, left: left.stopReason, rows, violations };
}

const address = new URLSearchParams(location.search).get('server');
const report = await main(address).catch((error) => ({ error: String(error) }));
await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
