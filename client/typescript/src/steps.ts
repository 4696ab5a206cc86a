// Pipelined steps over StepStream.
import { create } from '@bufbuild/protobuf';
import type { Attempts, Calls } from './calls.js';
import { BackpropError, fromStatus } from './error.js';
import {
  type StepRequest,
  StepStreamRequestSchema,
  TrainingService,
} from './gen/backprop/v1/training_service_pb.js';
import type { StepResponse, StepStreamRequest } from './gen/backprop/v1/training_service_pb.js';

/** The steps of one caller: those that are sent and not answered, and those to come. */
class Pipeline {
  // The oldest first. Never more than `inFlight`.
  readonly unanswered: StepRequest[] = [];
  // Number of answers so far.
  answered = 0;
  // Whether there are no more steps to come.
  ended = false;
  // Number of the current stream: the requests of an earlier one end.
  stream = 0;
  #pull: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    private readonly source: AsyncIterator<StepRequest, unknown, undefined>,
    private readonly inFlight: number,
  ) {}

  /** What the source threw, if it did. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** Takes one step from the source. One that is being taken when a stream breaks is not lost. */
  #take(): Promise<void> {
    this.#pull ??= this.source
      .next()
      .then(
        (step) => {
          if (step.done === true) this.ended = true;
          else this.unanswered.push(step.value);
        },
        (error: unknown) => {
          this.#failure = { error };
          this.ended = true;
        },
      )
      .finally(() => {
        this.#pull = undefined;
      });
    return this.#pull;
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** The requests of a stream: first the steps that were not answered on an earlier one. */
  async *requests(stream: number): AsyncGenerator<StepStreamRequest, void, undefined> {
    let next = this.answered; // number of the next step to send
    while (stream === this.stream) {
      const step = this.unanswered[next - this.answered];
      if (step !== undefined) {
        yield create(StepStreamRequestSchema, { step });
        ++next;
      } else if (this.ended) {
        return;
      } else if (this.unanswered.length < this.inFlight) {
        await this.#take();
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  answer(): void {
    this.unanswered.shift();
    ++this.answered;
    this.wake();
  }
}

/** Yields the answer of each step, in order. Throws at the first step that is rejected. */
export async function* pipeline(
  calls: Calls,
  attempts: Attempts,
  source: AsyncIterator<StepRequest, unknown, undefined>,
  inFlight: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<StepResponse, void, undefined> {
  const steps = new Pipeline(source, inFlight);
  // Steps before the one that the source could not give are sent and answered first.
  const throwFailure = (): void => {
    if (steps.failure !== undefined) throw steps.failure.error;
  };
  try {
    for (;;) {
      ++steps.stream;
      steps.wake();
      let rejected: BackpropError | undefined;
      let failure = new BackpropError(
        'UNAVAILABLE',
        'the stream ended before all steps were answered',
      );
      try {
        const requests = steps.requests(steps.stream);
        const { stepStream } = TrainingService.method;
        for await (const response of calls.stream(
          stepStream,
          requests,
          signal,
          attempts.remainingMs(),
        )) {
          attempts.reset();
          steps.answer();
          if (response.outcome.case === 'error') {
            rejected = fromStatus(response.outcome.value);
            break;
          }
          if (response.outcome.case === 'step') yield response.outcome.value;
        }
        if (rejected === undefined && steps.ended && steps.unanswered.length === 0) {
          throwFailure();
          return;
        }
      } catch (error) {
        if (!(error instanceof BackpropError)) throw error;
        failure = error;
      }
      if (rejected !== undefined) throw rejected;
      throwFailure();
      await attempts.again(failure);
    }
  } finally {
    ++steps.stream;
    steps.wake();
    // The source may be waiting for a step that never comes: it is not waited for.
    source.return?.().catch(() => undefined);
  }
}
