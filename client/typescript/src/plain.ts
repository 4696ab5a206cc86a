// Converts between messages of the contract and plain objects, by the descriptors of the messages.
//
// A plain object has the fields of its message in camelCase. Differences from the message:
// - int64 is a number. A uint64 above 2^53 - 1 is a bigint.
// - An enum is the name of its value without the prefix, such as 'RELU'; the zero value is left out.
// - A oneof is the one of its fields that is set.
// - A Timestamp is a Date. A Duration `ttl` is the number `ttlMs`, in milliseconds.
// - Unset fields are left out.
import { create, isFieldSet, ScalarType } from '@bufbuild/protobuf';
import type { DescEnum, DescField, DescMessage, Message } from '@bufbuild/protobuf';
import type { GenMessage } from '@bufbuild/protobuf/codegenv2';
import {
  type Duration,
  DurationSchema,
  durationFromMs,
  FeatureSet_FieldPresence,
  type Timestamp,
  timestampDate,
  timestampFromDate,
  TimestampSchema,
} from '@bufbuild/protobuf/wkt';
import { BackpropError, type FieldViolation, invalid } from './error.js';

type Fields = Record<string, unknown>;

const DURATION = DurationSchema.typeName;
const TIMESTAMP = TimestampSchema.typeName;

function isDuration(field: DescField): boolean {
  return field.fieldKind === 'message' && field.message.typeName === DURATION;
}

function keyOf(field: DescField): string {
  return isDuration(field) ? `${field.localName}Ms` : field.localName;
}

// --- From plain objects.

/** Thrown by the functions below, and collected by their callers. */
class Wrong extends Error {
  constructor(readonly violation: FieldViolation) {
    super();
  }
}

function wrong(field: string, expected: string, value: unknown): Wrong {
  const got = typeof value === 'string' ? `"${value}"` : String(value);
  return new Wrong({ field, description: `must be ${expected}, got ${got}` });
}

const INT32_MAX = 2 ** 31 - 1;
const UINT64_MAX = 2n ** 64n - 1n;
const INT64_MAX = 2n ** 63n - 1n;

function toBigInt(value: unknown, unsigned: boolean, path: string): bigint {
  const [low, high] = unsigned ? [0n, UINT64_MAX] : [-INT64_MAX - 1n, INT64_MAX];
  let number: bigint | undefined;
  if (typeof value === 'bigint') number = value;
  else if (typeof value === 'number' && Number.isSafeInteger(value)) number = BigInt(value);
  else if (typeof value === 'string' && /^-?\d{1,20}$/.test(value)) number = BigInt(value);
  if (number === undefined || number < low || number > high) {
    const text = unsigned ? 'a whole number from 0 to 2^64 - 1' : 'a whole number';
    throw wrong(path, `${text} (above 2^53 - 1: a bigint)`, value);
  }
  return number;
}

function toScalar(type: ScalarType, value: unknown, path: string): unknown {
  switch (type) {
    case ScalarType.STRING:
      if (typeof value === 'string') return value;
      throw wrong(path, 'a string', value);
    case ScalarType.BOOL:
      if (typeof value === 'boolean') return value;
      throw wrong(path, 'true or false', value);
    case ScalarType.DOUBLE:
      if (typeof value === 'number') return value;
      throw wrong(path, 'a number', value);
    case ScalarType.INT32:
      if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= INT32_MAX)
        return value;
      throw wrong(path, 'a whole number of 32 bits', value);
    case ScalarType.INT64:
      return toBigInt(value, false, path);
    case ScalarType.UINT64:
      return toBigInt(value, true, path);
    default:
      throw wrong(path, 'left out', value);
  }
}

function toEnum(desc: DescEnum, value: unknown, path: string): number {
  const found = desc.values.find(({ name, localName }) => value === name || value === localName);
  if (found) return found.number;
  const names = desc.values.filter(({ number }) => number !== 0).map(({ localName }) => localName);
  throw wrong(path, `one of ${names.join(', ')}`, value);
}

function toDuration(value: unknown, path: string): Duration {
  if (typeof value === 'number' && Number.isFinite(value)) {
    const whole = Math.trunc(value);
    const duration = durationFromMs(whole);
    duration.nanos += Math.round((value - whole) * 1e6);
    return duration;
  }
  throw wrong(path, 'a number of milliseconds', value);
}

function toElement(
  field: DescField,
  value: unknown,
  path: string,
  violations: FieldViolation[],
): unknown {
  if (field.scalar !== undefined) return toScalar(field.scalar, value, path);
  if (field.enum) return toEnum(field.enum, value, path);
  if (!field.message) throw wrong(path, 'left out', value);
  if (field.message.typeName === DURATION) return toDuration(value, path);
  if (field.message.typeName === TIMESTAMP) {
    if (value instanceof Date) return timestampFromDate(value);
    throw wrong(path, 'a Date', value);
  }
  return fill(field.message, value, path, violations);
}

function toField(
  field: DescField,
  value: unknown,
  path: string,
  violations: FieldViolation[],
): unknown {
  if (field.fieldKind === 'list') {
    if (!Array.isArray(value) && !ArrayBuffer.isView(value)) throw wrong(path, 'an array', value);
    return Array.from(value as ArrayLike<unknown>, (element, i) =>
      toElement(field, element, `${path}[${String(i)}]`, violations),
    );
  }
  if (field.fieldKind === 'map') {
    if (typeof value !== 'object' || value === null) throw wrong(path, 'an object', value);
    return Object.fromEntries(
      Object.entries(value).map(([key, element]) => [
        key,
        toElement(field, element, `${path}.${key}`, violations),
      ]),
    );
  }
  return toElement(field, value, path, violations);
}

function fill(
  desc: DescMessage,
  plain: unknown,
  path: string,
  violations: FieldViolation[],
): Message {
  if (typeof plain !== 'object' || plain === null || Array.isArray(plain)) {
    throw wrong(path, 'an object', plain);
  }
  const message = create(desc);
  const target = message as unknown as Fields;
  for (const [key, value] of Object.entries(plain)) {
    if (value === undefined) continue;
    // The names of the contract are accepted too, so that its JSON can be used as it is.
    const field = desc.fields.find(
      (each) => key === keyOf(each) || (key === each.name && !isDuration(each)),
    );
    const at = path === '' ? (field?.name ?? key) : `${path}.${field?.name ?? key}`;
    try {
      if (!field) throw new Wrong({ field: at, description: 'is unknown' });
      const converted = toField(field, value, at, violations);
      if (!field.oneof) {
        target[field.localName] = converted;
        continue;
      }
      const oneof = target[field.oneof.localName] as { case?: string };
      if (oneof.case !== undefined) {
        throw new Wrong({ field: at, description: `cannot be set together with ${oneof.case}` });
      }
      target[field.oneof.localName] = { case: field.localName, value: converted };
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      violations.push(error.violation);
    }
  }
  return message;
}

/**
 * Converts a plain object. `path` is its field in the request. Throws INVALID_ARGUMENT with every
 * field that is unknown or of a wrong type; ranges are checked by the server.
 */
export function toMessage<T extends Message>(
  schema: GenMessage<T>,
  plain: object,
  path: string,
): T {
  const violations: FieldViolation[] = [];
  let message: Message | undefined;
  try {
    message = fill(schema, plain, path, violations);
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    violations.push(error.violation);
  }
  if (violations.length > 0) throw invalid(...violations);
  return message as T;
}

// --- To plain objects.

/** An int64 of the server as a number. */
export function toNumber(value: bigint): number {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  throw new BackpropError(
    'OUT_OF_RANGE',
    `the server returned ${String(value)}, which no number holds`,
  );
}

function fromElement(field: DescField, value: unknown): unknown {
  if (field.scalar === ScalarType.UINT64) {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (field.scalar === ScalarType.INT64) return toNumber(value as bigint);
  if (field.enum) return field.enum.value[value as number]?.localName ?? String(value);
  if (!field.message) return value;
  if (field.message.typeName === DURATION) {
    const { seconds, nanos } = value as Duration;
    return toNumber(seconds) * 1000 + nanos / 1e6;
  }
  if (field.message.typeName === TIMESTAMP) return timestampDate(value as Timestamp);
  return fromMessage(field.message, value as Message);
}

function fromField(field: DescField, value: unknown): unknown {
  if (field.fieldKind === 'list')
    return (value as unknown[]).map((element) => fromElement(field, element));
  if (field.fieldKind === 'map') {
    return Object.fromEntries(
      Object.entries(value as Fields).map(([key, element]) => [key, fromElement(field, element)]),
    );
  }
  return fromElement(field, value);
}

function fromMessage(desc: DescMessage, message: Message): Fields {
  const source = message as unknown as Fields;
  const plain: Fields = {};
  for (const field of desc.fields) {
    const value = field.oneof
      ? (source[field.oneof.localName] as { value?: unknown }).value
      : source[field.localName];
    // Fields without presence have a value always; the zero of an enum says that there is none.
    const always =
      field.fieldKind === 'scalar' &&
      !field.oneof &&
      field.presence === FeatureSet_FieldPresence.IMPLICIT;
    const listed = field.fieldKind === 'list' || field.fieldKind === 'map';
    if (always || listed || isFieldSet(message, field))
      plain[keyOf(field)] = fromField(field, value);
  }
  return plain;
}

/** Converts a message to its plain object, whose type the caller names. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function toPlain<P, T extends Message = Message>(schema: GenMessage<T>, message: T): P {
  return fromMessage(schema, message) as P;
}
