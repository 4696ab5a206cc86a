// Uploads of datasets and files.
import { create } from '@bufbuild/protobuf';
import { type Attempts, type Calls, nameOf, requestIdOf } from './calls.js';
import { BackpropError, invalid } from './error.js';
import {
  type DatasetChunk,
  DatasetChunkSchema,
  type DatasetHeader,
  DatasetHeaderSchema,
  type Dataset as DatasetMessage,
} from './gen/backprop/v1/dataset_pb.js';
import {
  TrainingService,
  type UploadDatasetRequest,
  UploadDatasetRequestSchema,
} from './gen/backprop/v1/training_service_pb.js';
import { toMessage, toNumber } from './plain.js';
import {
  type Batch,
  type FloatArray,
  type Labels,
  type Matrix,
  partsOf,
  toBatch,
  type Vector,
} from './tensor.js';
import type { ByteSource, RowSource, UploadOptions } from './types.js';

const CHUNK_BYTES = 2 ** 20;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; ++bit) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** CRC-32 as in zlib, of parts one after the other. */
export function crc32(...parts: readonly Uint8Array[]): number {
  let crc = ~0;
  for (const part of parts) {
    for (const byte of part) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 255] ?? 0);
  }
  return ~crc >>> 0;
}

/** The checksum of a chunk whose classes are indices, as the server stores its rows. */
function checksum(rows: Batch, wide: boolean): number {
  const stored = (data: FloatArray): Uint8Array => {
    const numbers = wide ? Float64Array.from(data) : Float32Array.from(data);
    const exact = data instanceof Float64Array === wide ? data : numbers;
    return new Uint8Array(exact.buffer, exact.byteOffset, exact.byteLength);
  };
  const parts = [stored(partsOf(rows.inputs, 'inputs').data)];
  if (rows.labels !== undefined) {
    parts.push(
      new Uint8Array(Int32Array.from(rows.labels as ArrayLike<number | bigint>, Number).buffer),
    );
  }
  if (rows.targets !== undefined) parts.push(stored(partsOf(rows.targets, 'targets').data));
  if (rows.sampleWeights !== undefined) parts.push(stored(Float64Array.from(rows.sampleWeights)));
  return crc32(...parts);
}

/** Returns a function that cuts rows out of a batch. Typed arrays are not copied. */
function slicer(rows: Batch): {
  readonly count: number;
  readonly slice: (first: number, end: number) => Batch;
} {
  const parts = (
    matrix: Matrix,
    field: string,
  ): { data: FloatArray; columns: number; count: number } => {
    const { shape, data } = partsOf(matrix, field);
    // A typed array alone has as many rows as there are labels.
    const count = shape[0] ?? rows.labels?.length;
    const columns = shape.length === 1 ? 1 : (shape[1] ?? data.length / (count ?? NaN));
    if (count === undefined || !Number.isInteger(columns) || columns < 1) {
      throw invalid({ field, description: 'must have a shape' });
    }
    return { data, columns, count };
  };
  const inputs = parts(rows.inputs, 'rows.inputs');
  const targets = rows.targets && parts(rows.targets, 'rows.targets');
  const cut = <T extends Labels | Vector>(values: T, first: number, end: number): T =>
    (ArrayBuffer.isView(values) ? values.subarray(first, end) : values.slice(first, end)) as T;
  const matrix = (
    { data, columns }: { data: FloatArray; columns: number },
    first: number,
    end: number,
  ): Matrix => ({
    shape: [end - first, columns],
    data: data.subarray(first * columns, end * columns),
  });
  return {
    count: inputs.count,
    slice: (first, end) => ({
      inputs: matrix(inputs, first, end),
      labels: rows.labels && cut(rows.labels, first, end),
      targets: targets && matrix(targets, first, end),
      sampleWeights: rows.sampleWeights && cut(rows.sampleWeights, first, end),
    }),
  };
}

function sourceOf(rows: Batch, chunkRows: number | undefined): RowSource {
  toBatch(rows, 'rows'); // checks the batch before anything is sent
  const { count, slice } = slicer(rows);
  const width = partsOf(rows.inputs, 'rows.inputs').data.byteLength / count;
  const targets = rows.targets ? partsOf(rows.targets, 'rows.targets').data.byteLength / count : 0;
  const atOnce = chunkRows ?? Math.max(1, Math.floor(CHUNK_BYTES / (width + targets + 16)));
  return (first) => (first < count ? slice(first, Math.min(first + atOnce, count)) : undefined);
}

/** One call of an upload. */
class UploadCall {
  // The first row that was not sent, and whether the source has no more.
  row: number;
  committed = false;
  // What the source or the caller's progress function threw.
  thrown: { readonly error: unknown } | undefined;

  constructor(
    private readonly header: DatasetHeader,
    private readonly source: RowSource,
    private readonly options: UploadOptions,
    private readonly maxBytes: number | undefined,
    first: number,
  ) {
    this.row = first;
  }

  async #chunk(): Promise<DatasetChunk | undefined> {
    const rows = await this.source(this.row);
    if (rows === undefined) return undefined;
    const message = toBatch(rows, 'chunk.rows');
    const count = message.inputs?.shape[0];
    if (count === undefined)
      throw invalid({ field: 'chunk.rows.inputs', description: 'must have a shape' });
    const chunk = create(DatasetChunkSchema, { firstRow: BigInt(this.row), rows: message });
    // The server assigns the indices of class names.
    if (message.labelNames.length === 0)
      chunk.crc32 = checksum(rows, this.options.dataType === 'FLOAT64');
    this.row += count;
    return chunk;
  }

  /** Runs code of the caller. What it throws is not an error of the transport. */
  async #callers<T>(code: () => T | Promise<T>): Promise<T> {
    try {
      return await code();
    } catch (error) {
      this.thrown = { error };
      throw error;
    }
  }

  async *messages(): AsyncGenerator<UploadDatasetRequest, void, undefined> {
    const request = (part: UploadDatasetRequest['part']): UploadDatasetRequest =>
      create(UploadDatasetRequestSchema, { part });
    yield request({ case: 'header', value: this.header });
    let bytes = 0;
    for (;;) {
      const chunk = await this.#callers(() => this.#chunk());
      if (chunk === undefined) break;
      const size = (chunk.rows?.inputs?.raw.length ?? 0) + (chunk.rows?.targets?.raw.length ?? 0);
      yield request({ case: 'chunk', value: chunk });
      await this.#callers(() => this.options.onProgress?.(this.row));
      bytes += size;
      if (this.maxBytes !== undefined && bytes >= this.maxBytes) return; // another call goes on
    }
    this.committed = true;
    yield request({
      case: 'commit',
      value: { $typeName: 'backprop.v1.DatasetCommit', rows: BigInt(this.row) },
    });
  }
}

/** How many rows the server has after a failure, and whether more came since `known`. */
async function rowsOf(calls: Calls, name: string, options: UploadOptions): Promise<number> {
  try {
    const { getDataset } = TrainingService.method;
    const { dataset } = await calls.unary(getDataset, { name }, { signal: options.signal });
    return dataset ? toNumber(dataset.rows) : 0;
  } catch (error) {
    if (error instanceof BackpropError && error.code === 'CANCELLED') throw error;
    return 0; // The server skips rows that it has.
  }
}

/** Uploads rows and resumes after the rows that the server has. */
export async function uploadDataset(
  calls: Calls,
  attempts: Attempts,
  id: string,
  rows: Batch | RowSource,
  options: UploadOptions,
): Promise<DatasetMessage> {
  const name = nameOf('datasets', id, 'dataset_id');
  const source = typeof rows === 'function' ? rows : sourceOf(rows, options.chunkRows);
  const { dataType, labels, featureNames } = options;
  const header = toMessage(
    DatasetHeaderSchema,
    {
      datasetId: name.slice('datasets/'.length),
      dataType,
      labels,
      featureNames,
      requestId: requestIdOf(options),
    },
    '',
  );
  const { uploadDataset: method } = TrainingService.method;
  let known = 0;
  for (;;) {
    const call = new UploadCall(header, source, options, calls.connection.maxUploadBytes, known);
    try {
      const messages = call.messages();
      const { dataset } = await calls.upload(
        method,
        messages,
        options.signal,
        attempts.remainingMs(),
      );
      if (dataset === undefined) throw new BackpropError('INTERNAL', 'the response has no dataset');
      if (call.committed) return dataset;
      known = toNumber(dataset.rows);
      attempts.reset();
    } catch (error) {
      if (call.thrown !== undefined) throw call.thrown.error;
      if (!(error instanceof BackpropError)) throw error;
      let now: number;
      if (error.reason === 'ROWS_MISSING' && Number(error.metadata['expected_row']) < known) {
        now = Number(error.metadata['expected_row']);
      } else {
        await attempts.again(error);
        now = await rowsOf(calls, name, options);
        if (now > known) attempts.reset();
      }
      known = now;
    }
  }
}

/** The bytes of a file, and whether they can be read again from the start. */
export function readable(source: ByteSource): {
  readonly again: boolean;
  readonly read: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
} {
  if (source instanceof Uint8Array) return { again: true, read: () => [source] };
  if (typeof source === 'function') return { again: true, read: source };
  if (source instanceof Blob) return { again: true, read: () => chunksOf(source) };
  return { again: false, read: () => source };
}

async function* chunksOf(blob: Blob): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < blob.size; at += CHUNK_BYTES) {
    yield new Uint8Array(await blob.slice(at, at + CHUNK_BYTES).arrayBuffer());
  }
}

/** What a source threw. */
export interface SourceFailure {
  thrown?: { readonly error: unknown };
}

/** Pieces that fit into a message. What the source throws is kept in `failure`. */
export async function* pieces(
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  failure: SourceFailure,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const chunks =
    Symbol.asyncIterator in bytes ? bytes[Symbol.asyncIterator]() : bytes[Symbol.iterator]();
  try {
    for (;;) {
      let chunk;
      try {
        chunk = await chunks.next();
      } catch (error) {
        failure.thrown = { error };
        throw error;
      }
      if (chunk.done === true) return;
      for (let at = 0; at < chunk.value.length; at += CHUNK_BYTES) {
        yield chunk.value.subarray(at, at + CHUNK_BYTES) as Uint8Array<ArrayBuffer>;
      }
    }
  } finally {
    await chunks.return?.();
  }
}
