// Rows for the tests.
import type { Batch, ModelSpec } from '../src/node.js';

export const XOR: ModelSpec = {
  inputSize: 2,
  layers: [{ units: 8 }, { units: 2 }],
  optimizer: { adam: { learningRate: 0.01 } },
  seed: 1,
};

/** Points of a grid; the class is 1 if their coordinates have the same sign. */
export function xor(rows = 200): {
  inputs: { shape: [number, number]; data: Float32Array };
  labels: Int32Array;
} {
  const data = new Float32Array(2 * rows);
  const labels = new Int32Array(rows);
  for (let i = 0; i < rows; ++i) {
    const x = (((i * 7) % 20) + 0.5) / 10 - 1;
    const y = (((i * 3) % 10) + 0.5) / 5 - 1;
    data.set([x, y], 2 * i);
    labels[i] = x * y > 0 ? 1 : 0;
  }
  return { inputs: { shape: [rows, 2], data }, labels };
}

/** A small batch that differs for each i. */
export function batch(i: number): Batch {
  const data = Float32Array.from({ length: 8 }, (_, j) => Math.sin(i * 8 + j));
  return { inputs: { shape: [4, 2], data }, labels: [0, 1, 1, 0] };
}
