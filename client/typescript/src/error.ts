// The one error class of the package, and how errors of a transport become one.
import { fromBinary } from '@bufbuild/protobuf';
import type { GenMessage } from '@bufbuild/protobuf/codegenv2';
import type { Message } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from './gen/google/rpc/error_details_pb.js';
import type { Status } from './gen/google/rpc/status_pb.js';

const CODES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

/** A canonical code of gRPC, such as `'INVALID_ARGUMENT'`. */
export type Code = Exclude<(typeof CODES)[number], 'OK'>;

/** A field of a request that was rejected, and why. */
export interface FieldViolation {
  /** Path of the field, such as `spec.layers[0].units`. */
  readonly field: string;
  /** Such as `must be at least 1, got 0`. */
  readonly description: string;
}

/** What an error has besides its code and its text. */
export interface ErrorDetails {
  readonly violations?: readonly FieldViolation[];
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryDelayMs?: number | undefined;
  readonly cause?: unknown;
}

// The longest pause that a server may ask for.
const MAX_RETRY_DELAY_MS = 60_000;

/** Every call that fails rejects with this error. */
export class BackpropError extends Error {
  override readonly name = 'BackpropError';
  /** The canonical code. */
  readonly code: Code;
  /** The text without the code. */
  readonly rawMessage: string;
  /** With INVALID_ARGUMENT: the fields that are wrong. Else empty. */
  readonly violations: readonly FieldViolation[];
  /** Why, such as `RUN_UNDER_WAY`; empty if the server gave no reason. docs/api.md lists them. */
  readonly reason: string;
  /** Details of the reason, such as `current_step`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How long the server asks to wait before a retry. */
  readonly retryDelayMs: number | undefined;

  constructor(code: Code, text: string, details: ErrorDetails = {}) {
    super(`${code}: ${text}`, details.cause === undefined ? {} : { cause: details.cause });
    this.code = code;
    this.rawMessage = text;
    this.violations = details.violations ?? [];
    this.reason = details.reason ?? '';
    this.metadata = details.metadata ?? {};
    this.retryDelayMs = details.retryDelayMs;
  }
}

/** An error about fields, found before anything is sent. */
export function invalid(...violations: FieldViolation[]): BackpropError {
  const text = violations.map(({ field, description }) => `${field}: ${description}`).join('; ');
  return new BackpropError('INVALID_ARGUMENT', text, { violations });
}

interface Detail {
  readonly type: string;
  readonly value: Uint8Array;
}

function detailsOf(details: readonly Detail[]): ErrorDetails {
  const find = <T extends Message>(schema: GenMessage<T>): T | undefined => {
    const detail = details.find(({ type }) => type === schema.typeName);
    try {
      return detail && fromBinary(schema, detail.value);
    } catch {
      return undefined; // A detail that cannot be read must not hide the error.
    }
  };
  const info = find(ErrorInfoSchema);
  const delay = find(RetryInfoSchema)?.retryDelay;
  const ms = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  return {
    violations: (find(BadRequestSchema)?.fieldViolations ?? []).map(({ field, description }) => ({
      field,
      description,
    })),
    reason: info?.reason ?? '',
    metadata: { ...info?.metadata },
    retryDelayMs: ms === undefined ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_DELAY_MS),
  };
}

function codeOf(number: number): Code {
  const name = CODES[number];
  return name === undefined || name === 'OK' ? 'UNKNOWN' : name;
}

/** The error in a response of StepStream. */
export function fromStatus(status: Status): BackpropError {
  const details = status.details.map(({ typeUrl, value }) => ({
    type: typeUrl.slice(typeUrl.lastIndexOf('/') + 1),
    value,
  }));
  return new BackpropError(codeOf(status.code), status.message, detailsOf(details));
}

/**
 * The error of a call.
 *
 * `answered`: whether an error holds an answer of the server. One without an answer means that the
 * connection failed, whatever code the transport has for it: it is UNAVAILABLE, as in gRPC's own
 * libraries. `cancelled`: whether the caller cancelled the call. A server that stops cancels calls
 * too; those are UNAVAILABLE, because they may be retried.
 */
export function fromTransport(
  thrown: unknown,
  answered: (error: ConnectError) => boolean,
  cancelled: AbortSignal,
): BackpropError {
  if (thrown instanceof BackpropError) return thrown;
  const error = ConnectError.from(thrown);
  const code = codeOf(error.code);
  if (cancelled.aborted) {
    const reason: unknown = cancelled.reason;
    if (reason instanceof BackpropError) return reason;
    return new BackpropError('CANCELLED', 'the caller cancelled the call', { cause: reason });
  }
  if (answered(error)) {
    if (code === 'CANCELLED') {
      return new BackpropError('UNAVAILABLE', 'the server cancelled the call', { cause: error });
    }
    const details = error.details.filter(
      (detail): detail is Detail & typeof detail => 'type' in detail,
    );
    return new BackpropError(code, error.rawMessage, { ...detailsOf(details), cause: error });
  }
  if (code === 'DEADLINE_EXCEEDED') {
    return new BackpropError(code, 'the deadline of the call passed', { cause: error });
  }
  return new BackpropError('UNAVAILABLE', `the connection failed: ${error.rawMessage}`, {
    cause: error,
  });
}
