// XOR with the .proto files: creates a model, trains it, predicts and checks the gradients.
//
// node xor.js HOST:PORT
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import protobuf from 'protobufjs';

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));
// int64 as numbers instead of Long objects (exact below 2^53), enums by name, and all fields
// present with their defaults.
const LOADING = { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
const service = protoLoader.loadSync('backprop/v1/training_service.proto', LOADING);
const { TrainingService } = grpc.loadPackageDefinition(service).backprop.v1;

const details = new protobuf.Root();
details.resolvePath = (_, file) => (file.startsWith('/') ? file : `${PROTO}/${file}`);
details.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto']);
const RpcStatus = details.lookupType('google.rpc.Status');
const BadRequest = details.lookupType('google.rpc.BadRequest');

// Returns numbers as little-endian bytes, on every machine.
function tensor(numbers, shape, dataType) {
  const raw = Buffer.alloc(numbers.length * 4);
  numbers.forEach((x, i) => (dataType === 'DATA_TYPE_INT32' ? raw.writeInt32LE(x, i * 4) : raw.writeFloatLE(x, i * 4)));
  return { shape, raw, data_type: dataType, byte_order: 'BYTE_ORDER_LITTLE_ENDIAN' };
}

// Returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
function xor() {
  const points = [];
  const labels = [];
  for (let i = 0; i < 20; ++i) {
    for (let j = 0; j < 10; ++j) {
      const [x, y] = [(i + 0.5) / 10 - 1, (j + 0.5) / 5 - 1];
      points.push(x, y);
      labels.push(x * y > 0 ? 1 : 0);
    }
  }
  return { inputs: tensor(points, [200, 2], 'DATA_TYPE_FLOAT32'), labels: tensor(labels, [200], 'DATA_TYPE_INT32') };
}

// Returns the invalid fields of a request: google.rpc.BadRequest in the status details.
function violations(error) {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  if (bytes === undefined) return [];
  for (const detail of RpcStatus.decode(bytes).details) {
    if (detail.type_url.endsWith('/google.rpc.BadRequest')) return BadRequest.decode(detail.value).fieldViolations;
  }
  return [];
}

// Follows a run to its end.
async function train(client, request) {
  const call = client.Train(request);
  let summary;
  try {
    for await (const { event } of call) {
      if (event.event === 'progress') {
        const { iteration, metrics } = event.progress;
        console.log(`iteration ${String(iteration).padStart(4)}: loss ${metrics.loss.toFixed(4)}, ` +
                    `accuracy ${metrics.accuracy.toFixed(3)}`);
      } else if (event.event === 'summary') {
        summary = event.summary;
      }
    }
  } finally {
    call.cancel(); // if the loop ended early, the run would continue
  }
  return summary;
}

async function main(address) {
  // The default limit of a response is 4 MB; the parameters of a large model need more.
  const client = new TrainingService(address, grpc.credentials.createInsecure(),
                                     { 'grpc.max_receive_message_length': 256 << 20 });
  const call = (name, request) => promisify(client[name]).call(client, request);

  const spec = { input_size: 2, layers: [{ units: 16 }, { units: 2 }], optimizer: { adam: { learning_rate: 0.01 } }, seed: 1 };
  const { model } = await call('CreateModel', { spec });
  console.log(`created ${model.name} with ${model.parameter_count} parameters`);

  const summary = await train(client, { model: model.name, data: xor(), config: { iterations: 2000, report_every: 500 } });
  console.log(summary.stop_reason);

  const corners = tensor([-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5], [4, 2], 'DATA_TYPE_FLOAT32');
  const { classes } = await call('Predict', { model: model.name, inputs: corners });
  console.log('corners:', classes.join(' '));

  const { result: check } = await call('GradCheck', { model: model.name, batch: xor() });
  console.log('gradients:', check.passed ? 'PASSED' : `not passed: ${check.explanation}`);

  let fields = [];
  try {
    await call('CreateModel', { spec: { input_size: 2, layers: [{ units: 0 }] } });
  } catch (error) {
    fields = violations(error);
    for (const { field, description } of fields) console.log(`${grpc.status[error.code]}: ${field}: ${description}`);
  }

  await call('DeleteModel', { name: model.name });
  client.close();
  if (summary.metrics.accuracy < 0.95 || classes.join(' ') !== '1 0 0 1' || !check.passed) {
    throw new Error('the model did not learn XOR');
  }
  if (fields.length !== 1 || fields[0].field !== 'spec.layers[0].units') throw new Error('the error does not name its field');
}

await main(process.argv[2]);
