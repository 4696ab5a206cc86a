// How calls are made: credentials, deadlines, cancellation, retries.
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { ConnectError, Transport } from '@connectrpc/connect';
import { BackpropError, fromTransport, invalid } from './error.js';
import type { CallOptions, RetryOptions } from './types.js';

/** What a client needs of the platform it runs on. */
export interface Connection {
  readonly transport: Transport;
  /** Whether both sides of a call can send messages in turn. Fetch of browsers cannot. */
  readonly bidirectional: boolean;
  /**
   * The most bytes of one call of a client stream; undefined: no bound. Fetch of browsers sends a
   * body that is complete.
   */
  readonly maxUploadBytes: number | undefined;
  /** Whether an error holds an answer of the server, in contrast to a failed connection. */
  readonly answered: (error: ConnectError) => boolean;
  /** The token of the next call. Throws if it cannot be had, or must not be sent. */
  readonly token: () => Promise<string | undefined> | string | undefined;
  readonly close: () => void;
}

/** A method with its types, as generated: `TrainingService.method.step`. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** The deadline of unary calls. */
const UNARY_TIMEOUT_MS = 60_000;
// setTimeout() fires at once above this value.
const MAX_TIMER_MS = 2 ** 31 - 1;

/** A random id: 128 bits, in hexadecimal. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The id of a call that changes something. All attempts of the call use it. */
export function requestIdOf(options: CallOptions): string {
  return options.requestId ?? randomId();
}

/** `models` and `xor` become `models/xor`, and so does `models/xor`. */
export function nameOf(collection: string, id: string, field: string): string {
  if (typeof id !== 'string' || id === '' || id === `${collection}/`) {
    throw invalid({ field, description: 'must not be empty' });
  }
  return id.startsWith(`${collection}/`) ? id : `${collection}/${id}`;
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}

const NEVER = new AbortController().signal;

/** Counts the attempts of a call and pauses between them, within the deadline of the call. */
export class Attempts {
  readonly #max: number;
  readonly #first: number;
  readonly #last: number;
  readonly #deadline: number;
  readonly #signal: AbortSignal;
  #made = 0;
  #pause: number;

  constructor(retry: RetryOptions, options: CallOptions, timeoutMs: number) {
    this.#max = retry.maxAttempts ?? 8;
    this.#first = retry.firstPauseMs ?? 50;
    this.#last = retry.lastPauseMs ?? 1000;
    this.#pause = this.#first;
    this.#signal = options.signal ?? NEVER;
    const timeout = options.timeoutMs ?? timeoutMs;
    if (!(timeout >= 0))
      throw invalid({
        field: 'timeoutMs',
        description: `must be at least 0, got ${String(timeout)}`,
      });
    this.#deadline = timeout === 0 ? Infinity : Date.now() + timeout;
  }

  /** The time that is left, for a transport; undefined: no limit. */
  remainingMs(): number | undefined {
    if (this.#deadline === Infinity) return undefined;
    const left = Math.ceil(this.#deadline - Date.now());
    if (left <= 0) throw new BackpropError('DEADLINE_EXCEEDED', 'the deadline of the call passed');
    return Math.min(left, MAX_TIMER_MS);
  }

  /**
   * Returns after a pause if the call may be made again after `error`; otherwise throws it. Only
   * UNAVAILABLE is retried, and RESOURCE_EXHAUSTED if the server says when.
   */
  async again(error: BackpropError): Promise<void> {
    const asked = error.retryDelayMs;
    const retried =
      error.code === 'UNAVAILABLE' || (error.code === 'RESOURCE_EXHAUSTED' && asked !== undefined);
    if (!retried || ++this.#made >= this.#max || this.#signal.aborted) throw error;
    // The whole pause is random, so that clients do not all retry at the same time.
    const pause = (asked ?? 0) + Math.random() * this.#pause;
    if (Date.now() + pause >= this.#deadline) throw error;
    await sleep(pause, this.#signal);
    if (this.#signal.aborted) {
      throw new BackpropError('CANCELLED', 'the caller cancelled the call', { cause: error });
    }
    this.#pause = Math.min(this.#pause * 2, this.#last);
  }

  /** Called after progress: the next failure is the first again. */
  reset(): void {
    this.#made = 0;
    this.#pause = this.#first;
  }
}

/** Makes calls on one connection. */
export class Calls {
  constructor(
    readonly connection: Connection,
    readonly retry: RetryOptions,
  ) {}

  /** Attempts of a unary call. */
  attempts(options: CallOptions): Attempts {
    return new Attempts(this.retry, options, UNARY_TIMEOUT_MS);
  }

  /** Attempts of a run or a file, which has no deadline by default. */
  longAttempts(options: CallOptions): Attempts {
    return new Attempts(this.retry, options, 0);
  }

  async #headers(): Promise<Headers> {
    const headers = new Headers();
    const token = await this.connection.token();
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    return headers;
  }

  /** Makes a unary call. All attempts send the same message. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    message: MessageInitShape<I>,
    options: CallOptions,
  ): Promise<MessageShape<O>> {
    const attempts = this.attempts(options);
    for (;;) {
      try {
        return await this.#once(method, message, options.signal, attempts.remainingMs());
      } catch (thrown) {
        await attempts.again(
          fromTransport(thrown, this.connection.answered, options.signal ?? NEVER),
        );
      }
    }
  }

  async #once<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    message: MessageInitShape<I>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
  ): Promise<MessageShape<O>> {
    const { transport } = this.connection;
    const headers = await this.#headers();
    const response = await transport.unary(
      method as never,
      signal,
      timeoutMs ?? 0, // 0: no limit
      headers,
      message as never,
    );
    return response.message as MessageShape<O>;
  }

  /**
   * Makes one attempt of a streaming call. Every error is a BackpropError. Leaving the loop over the
   * responses cancels the call.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    messages: AsyncIterable<MessageInitShape<I>>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const ours = new AbortController();
    const leave = (): void => {
      ours.abort(signal?.reason);
    };
    signal?.addEventListener('abort', leave);
    if (signal?.aborted === true) leave();
    try {
      const { transport } = this.connection;
      const headers = await this.#headers();
      const response = await transport.stream(
        method as never,
        ours.signal,
        timeoutMs ?? 0,
        headers,
        messages as never,
      );
      for await (const message of response.message) yield message as MessageShape<O>;
    } catch (thrown) {
      throw fromTransport(thrown, this.connection.answered, signal ?? NEVER);
    } finally {
      signal?.removeEventListener('abort', leave);
      ours.abort();
    }
  }

  /** Makes one attempt of a call with a stream of requests and one response. */
  async upload<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    messages: AsyncIterable<MessageInitShape<I>>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
  ): Promise<MessageShape<O>> {
    let response: MessageShape<O> | undefined;
    // Read to its end: the status of the call comes last.
    for await (const message of this.stream(method, messages, signal, timeoutMs))
      response = message;
    if (response !== undefined) return response;
    throw new BackpropError('UNAVAILABLE', 'the call ended without a response');
  }
}

/** One request of a call whose responses are a stream. */
// eslint-disable-next-line @typescript-eslint/require-await
export async function* only<T>(message: T): AsyncGenerator<T, void, undefined> {
  yield message;
}
