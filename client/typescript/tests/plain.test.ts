// Conversions, without a server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { crc32 as zlibCrc32 } from 'node:zlib';
import { create, type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import ts from 'typescript';
import * as admin from '../src/gen/backprop/v1/admin_service_pb.js';
import { CheckpointSchema } from '../src/gen/backprop/v1/checkpoint_pb.js';
import { DatasetSchema } from '../src/gen/backprop/v1/dataset_pb.js';
import * as check from '../src/gen/backprop/v1/grad_check_pb.js';
import * as model from '../src/gen/backprop/v1/model_pb.js';
import { DataType, TensorSchema } from '../src/gen/backprop/v1/tensor_pb.js';
import * as training from '../src/gen/backprop/v1/training_pb.js';
import { EvaluateResponseSchema } from '../src/gen/backprop/v1/training_service_pb.js';
import { toMessage, toNumber, toPlain } from '../src/plain.js';
import { fromTensor, swapped, toTensor } from '../src/tensor.js';
import { crc32 } from '../src/upload.js';
import { VERSION } from '../src/node.js';

test('a spec with everything set survives the way there and back', () => {
  const spec = {
    inputSize: 3,
    layers: [
      {
        units: 4,
        activation: 'ELU',
        initializer: 'CONSTANT',
        alpha: 2,
        dropout: 0.5,
        initialValue: 0.1,
      },
      { units: 2, biasInitializer: 'CONSTANT', initialBias: -1 },
    ],
    loss: { softmaxCrossEntropy: { labelSmoothing: 0.1, classWeights: [1, 2] } },
    optimizer: {
      rmsprop: {
        learningRate: 0.1,
        alpha: 0.9,
        epsilon: 1e-7,
        momentum: 0.5,
        centered: true,
        weightDecay: 1,
      },
      schedule: {
        step: { stepSize: 2 ** 53 - 1, gamma: 0.5 },
        warmupSteps: 3,
        warmupStartFactor: 0.25,
      },
      l1: 0.25,
      clipValue: 3,
    },
    seed: 2n ** 63n,
    dataType: 'FLOAT64',
    classNames: ['a', 'b'],
    featureNames: ['x', 'y', 'z'],
    inputStandardization: { mean: [1, 2, 3], std: [1, 1, 1] },
  };
  const sent = toBinary(model.ModelSpecSchema, toMessage(model.ModelSpecSchema, spec, 'spec'));
  assert.deepEqual(toPlain(model.ModelSpecSchema, fromBinary(model.ModelSpecSchema, sent)), spec);
});

test('durations and dates keep their parts', () => {
  const message = toMessage(
    model.ModelSchema,
    { ttlMs: -1500.25, createTime: new Date(1.7e12) },
    '',
  );
  const plain = toPlain<{ ttlMs: number; createTime: Date }>(model.ModelSchema, message);
  assert.equal(plain.ttlMs, -1500.25);
  assert.equal(plain.createTime.getTime(), 1.7e12);
});

test('an int64 that no number holds is an error, not another number', () => {
  assert.equal(toNumber(2n ** 53n - 1n), 2 ** 53 - 1);
  assert.throws(() => toNumber(2n ** 53n), { name: 'BackpropError', code: 'OUT_OF_RANGE' });
  assert.throws(() => toMessage(model.ScheduleSchema, { warmupSteps: 2 ** 53 }, 'schedule'), {
    message: /^INVALID_ARGUMENT: schedule\.warmup_steps: must be a whole number/,
  });
});

test('tensors are sent and received without a copy where memory allows it', () => {
  const data = new Float32Array([1, 2, 3, 4, 5, 6]).subarray(2);
  const sent = toTensor({ shape: [2, 2], data }, 'inputs');
  assert.equal(sent.raw.buffer, data.buffer);
  assert.equal(sent.raw.byteOffset, 8);
  for (const shift of [0, 1, 4]) {
    const bytes = new Uint8Array(64);
    bytes.set(new Uint8Array(Float64Array.of(0.1, -0).buffer), shift);
    const raw = bytes.subarray(shift, shift + 16);
    const got = fromTensor(create(TensorSchema, { shape: [2], dataType: DataType.FLOAT64, raw }));
    assert.deepEqual(got, { shape: [2], data: Float64Array.of(0.1, -0) });
    assert.equal(got.data.buffer === bytes.buffer, shift === 0);
  }
  assert.deepEqual(
    [...swapped(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 4)],
    [4, 3, 2, 1, 8, 7, 6, 5],
  );
});

test('the checksum is that of zlib', () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * 31) & 255);
  assert.equal(crc32(bytes.subarray(0, 300), bytes.subarray(300)), zlibCrc32(bytes));
});

// The types are written by hand. They must have the fields of the contract, all of them.
const WITHOUT: Readonly<Record<string, readonly string[]>> = {
  // Never set by the server.
  GradCheckResult: ['epsilon', 'floor', 'kernelRowsSetAside'],
};
const WITH: Readonly<Record<string, readonly string[]>> = {
  GradCheckResult: ['step'],
  TrainOptions: ['validation', 'detach', 'wait'],
};
const MESSAGES: Readonly<Record<string, DescMessage>> = {
  Layer: model.LayerSchema,
  Loss: model.LossSchema,
  Schedule: model.ScheduleSchema,
  Optimizer: model.OptimizerSchema,
  InputStandardization: model.InputStandardizationSchema,
  ModelSpec: model.ModelSpecSchema,
  Model: model.ModelSchema,
  PlateauState: model.PlateauStateSchema,
  Parameters: model.ParametersSchema,
  Metrics: training.MetricsSchema,
  EarlyStopping: training.EarlyStoppingSchema,
  RunCheckpoints: training.CheckpointConfigSchema,
  TrainOptions: training.TrainingConfigSchema,
  RunStarted: training.RunStartedSchema,
  Progress: training.ProgressSchema,
  TrainingSummary: training.TrainingSummarySchema,
  ClassMetrics: training.ClassMetricsSchema,
  AverageMetrics: training.AverageMetricsSchema,
  ClassificationMetrics: training.ClassificationMetricsSchema,
  RegressionMetrics: training.RegressionMetricsSchema,
  Evaluation: EvaluateResponseSchema,
  TensorGradCheck: check.TensorGradCheckSchema,
  GradCheckResult: check.GradCheckResultSchema,
  Checkpoint: CheckpointSchema,
  Dataset: DatasetSchema,
  Project: admin.ProjectSchema,
  ServerStatus: admin.ServerStatusSchema,
};

test('the types have the fields of the contract', () => {
  const path = new URL('../../src/types.ts', import.meta.url);
  const source = ts.createSourceFile(
    'types.ts',
    readFileSync(path, 'utf8'),
    ts.ScriptTarget.ES2022,
  );
  const interfaces = new Map<string, ts.InterfaceDeclaration>();
  source.forEachChild((node) => {
    if (ts.isInterfaceDeclaration(node)) interfaces.set(node.name.text, node);
  });
  const members = (name: string): string[] => {
    const declaration = interfaces.get(name);
    if (name === 'CallOptions' || !declaration) return [];
    const own = declaration.members.map((member) => (member.name as ts.Identifier).text);
    const bases = (declaration.heritageClauses ?? []).flatMap(({ types }) =>
      types.map(({ expression }) => expression),
    );
    return [...own, ...bases.flatMap((base) => members((base as ts.Identifier).text))];
  };
  for (const [name, desc] of Object.entries(MESSAGES)) {
    const fields = desc.fields.map((field) =>
      field.message?.typeName === 'google.protobuf.Duration'
        ? `${field.localName}Ms`
        : field.localName,
    );
    const expected = [...fields, ...(WITH[name] ?? [])].filter(
      (field) => !WITHOUT[name]?.includes(field),
    );
    assert.deepEqual(members(name).sort(), expected.sort(), name);
  }
});

test('the version is that of the project', () => {
  const project = readFileSync(new URL('../../../../CMakeLists.txt', import.meta.url), 'utf8');
  assert.ok(project.includes(`VERSION ${VERSION} `), VERSION);
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  assert.equal((JSON.parse(manifest) as { version: string }).version, VERSION);
});
