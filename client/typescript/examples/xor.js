// XOR: creates a model, trains it, predicts and checks the gradients.
//
// node examples/xor.js HOST:PORT
import { BackpropError, Client } from '@backprop/client';

// Returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
function xor() {
  const data = new Float32Array(400);
  const labels = new Int32Array(200);
  for (let row = 0; row < 200; ++row) {
    const x = (Math.floor(row / 10) + 0.5) / 10 - 1;
    const y = ((row % 10) + 0.5) / 5 - 1;
    data.set([x, y], 2 * row);
    labels[row] = x * y > 0 ? 1 : 0;
  }
  return { inputs: { shape: [200, 2], data }, labels };
}

async function main(address) {
  const client = new Client(address);
  const { name, parameterCount } = await client.createModel({
    inputSize: 2,
    layers: [{ units: 16 }, { units: 2 }],
    optimizer: { adam: { learningRate: 0.01 } },
    seed: 1,
  });
  console.log(`created ${name} with ${parameterCount} parameters`);

  const run = client.train(name, xor(), { iterations: 2000, reportEvery: 500 });
  for await (const event of run) {
    if (event.kind !== 'progress') continue;
    const { iteration, metrics } = event.progress;
    const [loss, accuracy] = [metrics.loss.toFixed(4), metrics.accuracy.toFixed(3)];
    console.log(`iteration ${String(iteration).padStart(4)}: loss ${loss}, accuracy ${accuracy}`);
  }
  const summary = await run;
  console.log(summary.stopReason);

  const corners = new Float32Array([-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5]);
  const { classes } = await client.predict(name, corners);
  console.log('corners:', classes.join(' '));

  const check = await client.gradCheck(name, xor());
  console.log(`gradients: ${check.verdict}`);

  let fields = [];
  try {
    await client.createModel({ inputSize: 2, layers: [{ units: 0 }] });
  } catch (error) {
    if (!(error instanceof BackpropError)) throw error;
    fields = error.violations;
    for (const { field, description } of fields) {
      console.log(`${error.code}: ${field}: ${description}`);
    }
  }

  await client.deleteModel(name);
  client.close();
  if (summary.metrics.accuracy < 0.95 || classes.join(' ') !== '1 0 0 1' || !check.passed) {
    throw new Error('the model did not learn XOR');
  }
  if (fields.length !== 1 || fields[0].field !== 'spec.layers[0].units') {
    throw new Error('the error does not name its field');
  }
}

await main(process.argv[2] ?? 'localhost:50051');
