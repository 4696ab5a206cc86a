// Tensors over typed arrays. Their bytes are sent and received as they are.
import { create } from '@bufbuild/protobuf';
import { invalid } from './error.js';
import {
  type Batch as BatchMessage,
  BatchSchema,
  DataType,
  type NamedTensor,
  NamedTensorSchema,
  type Tensor as TensorMessage,
  TensorSchema,
} from './gen/backprop/v1/tensor_pb.js';

/** Numbers of a tensor. */
export type FloatArray = Float32Array | Float64Array;

/** A row-major array of one or two dimensions. */
export interface Tensor {
  /** Dimensions, outermost first: [rows, columns], or [n] for a vector. */
  readonly shape: readonly number[];
  /** The elements, row by row. */
  readonly data: FloatArray;
}

/**
 * Rows of numbers. A typed array alone has no shape: the server divides it into rows of as many
 * numbers as the model has inputs. Arrays of numbers are converted; for many rows use typed arrays,
 * whose bytes are sent as they are.
 */
export type Matrix = Tensor | FloatArray | readonly (readonly number[])[];

/** One number for each row. */
export type Vector = FloatArray | readonly number[];

/** One class for each row: indices, or names of classes of the model. */
export type Labels = Int32Array | BigInt64Array | readonly number[] | readonly string[];

/**
 * Rows of data. Exactly one of `labels` and `targets` must be set. Arrays are read until the call
 * ends: do not change them before.
 */
export interface Batch {
  /** Inputs, shape [n, d]. */
  readonly inputs: Matrix;
  /** Class of each row. */
  readonly labels?: Labels | undefined;
  /** Targets, shape [n, k]. */
  readonly targets?: Matrix | undefined;
  /** Weight of each row, at least 0. Default: 1. */
  readonly sampleWeights?: Vector | undefined;
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

type Raw = FloatArray | Int32Array | BigInt64Array;

/** Returns bytes in the other byte order of elements of `size` bytes, in a new array. */
export function swapped(bytes: Uint8Array, size: number): Uint8Array {
  const copy = bytes.slice();
  for (let at = 0; at < copy.length; at += size) copy.subarray(at, at + size).reverse();
  return copy;
}

function bytesOf(data: Raw): Uint8Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return LITTLE_ENDIAN ? bytes : swapped(bytes, data.BYTES_PER_ELEMENT);
}

function typeOf(data: Raw): DataType {
  if (data instanceof Float32Array) return DataType.FLOAT32;
  if (data instanceof Float64Array) return DataType.FLOAT64;
  return data instanceof Int32Array ? DataType.INT32 : DataType.INT64;
}

function message(shape: readonly number[], data: Raw): TensorMessage {
  return create(TensorSchema, {
    shape: [...shape],
    raw: bytesOf(data) as Uint8Array<ArrayBuffer>,
    dataType: typeOf(data),
  });
}

function isFloats(value: unknown): value is FloatArray {
  return value instanceof Float32Array || value instanceof Float64Array;
}

/** Checks a matrix and returns its parts. The shape is empty if the caller gave none. */
export function partsOf(
  matrix: Matrix,
  field: string,
): { shape: readonly number[]; data: FloatArray } {
  if (isFloats(matrix)) return { shape: [], data: matrix };
  if (isTensor(matrix)) {
    const { shape, data } = matrix;
    if (!isFloats(data)) {
      throw invalid({ field, description: 'data must be a Float32Array or a Float64Array' });
    }
    const count = shape.reduce((product, dimension) => product * dimension, 1);
    if (
      !shape.every((dimension) => Number.isInteger(dimension) && dimension >= 1) ||
      count !== data.length
    ) {
      const description = `has ${String(data.length)} numbers, which do not fill the shape [${shape.join(', ')}]`;
      throw invalid({ field, description });
    }
    return { shape, data };
  }
  if (!Array.isArray(matrix) || !matrix.every((row) => Array.isArray(row))) {
    throw invalid({
      field,
      description: 'must be a tensor, a Float32Array, a Float64Array or an array of rows',
    });
  }
  const rows: readonly (readonly number[])[] = matrix;
  const columns = rows[0]?.length ?? 0;
  const ragged = rows.findIndex((row) => row.length !== columns);
  if (ragged !== -1) {
    const description = `row ${String(ragged)} has ${String(rows[ragged]?.length)} numbers, row 0 has ${String(columns)}`;
    throw invalid({ field, description });
  }
  return { shape: [rows.length, columns], data: numbers(rows.flat(), field) };
}

function isTensor(value: object): value is Tensor {
  return 'shape' in value && 'data' in value;
}

// Number(undefined) and Number('x') are NaN, and Number('') is 0.
function numbers(values: readonly number[], field: string): Float64Array {
  const wrong = values.findIndex((value) => typeof value !== 'number');
  if (wrong !== -1)
    throw invalid({ field, description: `element ${String(wrong)} is not a number` });
  return Float64Array.from(values);
}

export function toTensor(matrix: Matrix, field: string): TensorMessage {
  const { shape, data } = partsOf(matrix, field);
  return message(shape, data);
}

function toVector(vector: Vector, field: string): TensorMessage {
  const data = isFloats(vector) ? vector : numbers(vector, field);
  return message([data.length], data);
}

function isNames(labels: Labels): labels is readonly string[] {
  return Array.isArray(labels) && typeof labels[0] === 'string';
}

function indices(
  labels: Exclude<Labels, readonly string[]>,
  field: string,
): Int32Array | BigInt64Array {
  if (labels instanceof Int32Array || labels instanceof BigInt64Array) return labels;
  if (!Array.isArray(labels)) {
    throw invalid({
      field,
      description: 'must be an Int32Array, a BigInt64Array, or an array of indices or names',
    });
  }
  const wrong = labels.findIndex((label) => !Number.isInteger(label) || label !== (label | 0));
  if (wrong !== -1) {
    throw invalid({
      field,
      description: `element ${String(wrong)} is not a class index: ${String(labels[wrong])}`,
    });
  }
  return Int32Array.from(labels);
}

/** Checks that all parts of a batch have as many rows as its inputs. */
function checkRows(batch: Batch, message: BatchMessage, field: string): void {
  const rows = message.inputs?.shape[0];
  if (rows === undefined) return;
  const counts: [string, number | undefined][] = [
    ['labels', batch.labels?.length],
    ['targets', message.targets?.shape[0]],
    ['sample_weights', batch.sampleWeights?.length],
  ];
  for (const [name, count] of counts) {
    if (count !== undefined && count !== rows) {
      const description = `has ${String(count)} rows, inputs has ${String(rows)}`;
      throw invalid({ field: `${field}.${name}`, description });
    }
  }
}

/** Converts a batch. `field` is its name in the request. */
export function toBatch(batch: Batch, field: string): BatchMessage {
  const { inputs, labels, targets, sampleWeights } = batch;
  if (typeof inputs !== 'object')
    throw invalid({ field: `${field}.inputs`, description: 'must be set' });
  const message = create(BatchSchema, { inputs: toTensor(inputs, `${field}.inputs`) });
  if (labels !== undefined) {
    if (isNames(labels)) {
      const wrong = labels.findIndex((label) => typeof label !== 'string');
      const description = `element ${String(wrong)} is not the name of a class`;
      if (wrong !== -1) throw invalid({ field: `${field}.label_names`, description });
      message.labelNames = [...labels];
    } else {
      const classes = indices(labels, `${field}.labels`);
      message.labels = create(TensorSchema, {
        shape: [classes.length],
        raw: bytesOf(classes) as Uint8Array<ArrayBuffer>,
        dataType: typeOf(classes),
      });
    }
  }
  if (targets !== undefined) message.targets = toTensor(targets, `${field}.targets`);
  if (sampleWeights !== undefined) {
    message.sampleWeights = toVector(sampleWeights, `${field}.sample_weights`);
  }
  checkRows(batch, message, field);
  return message;
}

/** The numbers of a tensor. They share the memory of the response if they are aligned in it. */
export function fromTensor(tensor: TensorMessage): Tensor {
  const wide = tensor.dataType === DataType.FLOAT64;
  const size = wide ? 8 : 4;
  let bytes: Uint8Array = tensor.raw;
  if (!LITTLE_ENDIAN) bytes = swapped(bytes, size);
  else if (bytes.byteOffset % size !== 0) bytes = bytes.slice();
  const length = bytes.byteLength / size;
  const data = wide
    ? new Float64Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, length)
    : new Float32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, length);
  return { shape: tensor.shape, data };
}

export function toNamed(tensors: Readonly<Record<string, Tensor>>, field: string): NamedTensor[] {
  return Object.entries(tensors).map(([name, tensor], i) =>
    create(NamedTensorSchema, { name, tensor: toTensor(tensor, `${field}[${String(i)}].tensor`) }),
  );
}

export function fromNamed(tensors: readonly NamedTensor[]): Record<string, Tensor> {
  return Object.fromEntries(
    tensors.flatMap(({ name, tensor }) => (tensor ? [[name, fromTensor(tensor)]] : [])),
  );
}
