// Follows runs across broken connections.
import { BackpropError } from './error.js';
import type { Attempts } from './calls.js';
import {
  ProgressSchema,
  RunStartedSchema,
  type TrainingEvent as EventMessage,
  TrainingSummarySchema,
} from './gen/backprop/v1/training_pb.js';
import { toNumber, toPlain } from './plain.js';
import type { Progress, RunStarted, TrainingEvent, TrainingSummary } from './types.js';

function fromEvent(message: EventMessage): TrainingEvent | undefined {
  const head = {
    run: message.run,
    sequence: toNumber(message.sequence),
    dropped: toNumber(message.dropped),
  };
  const { event } = message;
  switch (event.case) {
    case 'started':
      return {
        ...head,
        kind: 'started',
        started: toPlain<RunStarted>(RunStartedSchema, event.value),
      };
    case 'progress':
      return {
        ...head,
        kind: 'progress',
        progress: toPlain<Progress>(ProgressSchema, event.value),
      };
    case 'summary':
      return {
        ...head,
        kind: 'summary',
        summary: toPlain<TrainingSummary>(TrainingSummarySchema, event.value),
      };
    default:
      return undefined; // of a newer server
  }
}

/**
 * Yields the events of a run up to its summary, each once. `open` makes one attempt of the call,
 * from an event of a run on (the first time from the first of any run). After a failure the call is made again; attempts are counted from the last
 * event. `stopsWithCall`: the server stops the run when the connection breaks.
 */
export async function* follow(
  attempts: Attempts,
  stopsWithCall: boolean,
  open: (next: number, run: string) => AsyncIterable<{ readonly event?: EventMessage | undefined }>,
): AsyncGenerator<TrainingEvent, void, undefined> {
  let next = 1;
  let run = '';
  let broke = false;
  for (;;) {
    let failure = new BackpropError('UNAVAILABLE', 'the stream ended without a summary');
    try {
      for await (const response of open(next, run)) {
        const event = response.event && fromEvent(response.event);
        if (event === undefined || event.sequence < next) continue;
        attempts.reset();
        next = event.sequence + 1;
        run = event.run;
        if (event.kind !== 'summary') {
          yield event;
          continue;
        }
        if (broke && stopsWithCall && event.summary.stopReason === 'CANCELLED') {
          const text =
            `the connection broke, which stopped the run after ${String(event.summary.iterations)} ` +
            'iterations; a detached run would have continued';
          throw new BackpropError('UNAVAILABLE', text, { reason: 'CONNECTION_BROKE' });
        }
        yield event;
        return;
      }
    } catch (error) {
      if (!(error instanceof BackpropError) || error.reason === 'CONNECTION_BROKE') throw error;
      failure = error;
    }
    await attempts.again(failure);
    broke = true;
  }
}
