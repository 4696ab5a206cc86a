// What every entry of the package exports.
export type { BaseOptions } from './client.js';
export { BackpropError } from './error.js';
export type { Code, ErrorDetails, FieldViolation } from './error.js';
export { Run } from './run.js';
export type { Batch, FloatArray, Labels, Matrix, Tensor, Vector } from './tensor.js';
export type * from './types.js';
export { VERSION } from './version.js';
