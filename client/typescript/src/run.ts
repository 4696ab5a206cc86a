// A run that a caller follows: Train and WatchTraining.
import type { BackpropError } from './error.js';
import type { TrainingEvent, TrainingSummary } from './types.js';

/**
 * A run of a model.
 *
 * Loop over it to see its events, or await it to get its summary; both may be done, in this order.
 * The call starts with the loop or the await. Leaving the loop cancels the call, which stops a run
 * that is not detached; the model keeps the steps that were made. A run cannot be looped over twice.
 *
 * ```ts
 * const run = client.train('xor', batch, { iterations: 3000 });
 * for await (const event of run) {
 *   if (event.kind === 'progress') console.log(event.progress.metrics.loss);
 * }
 * const summary = await run;
 * ```
 */
export class Run implements AsyncIterable<TrainingEvent>, PromiseLike<TrainingSummary> {
  readonly #events: AsyncGenerator<TrainingEvent, void, undefined>;
  readonly #summary: Promise<TrainingSummary>;
  #settle!: { resolve: (summary: TrainingSummary) => void; reject: (error: unknown) => void };
  #started = false;

  /** For the client: `events` ends after the summary, or throws. */
  constructor(
    events: AsyncGenerator<TrainingEvent, void, undefined>,
    private readonly left: () => BackpropError,
  ) {
    this.#events = events;
    this.#summary = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // A caller that loops sees the error there and need not await the summary.
    this.#summary.catch(() => undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainingEvent, void, undefined> {
    if (this.#started) throw new TypeError('a run can be followed once');
    this.#started = true;
    try {
      for await (const event of this.#events) {
        if (event.kind === 'summary') this.#settle.resolve(event.summary);
        yield event;
      }
    } catch (error) {
      this.#settle.reject(error);
      throw error;
    } finally {
      this.#settle.reject(this.left()); // has no effect after the summary or another error
    }
  }

  async #drain(): Promise<void> {
    try {
      const events = this[Symbol.asyncIterator]();
      while ((await events.next()).done !== true);
    } catch {
      // The summary rejects with it.
    }
  }

  // Awaiting the run awaits its summary.
  then<T = TrainingSummary, E = never>(
    onfulfilled?: ((summary: TrainingSummary) => T | PromiseLike<T>) | null,
    onrejected?: ((error: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    if (!this.#started) void this.#drain();
    return this.#summary.then(onfulfilled, onrejected);
  }
}
