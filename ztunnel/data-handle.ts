// The control thread's handle on the data thread.
import {
  ReactorThread,
  type DoneMessage,
  type ReactorThreadEvents,
} from '../engine/reactor/reactor-thread.ts';
import type { DataCommand, DataEvent, DataThreadOptions } from './messages.ts';

type Done = Extract<DataEvent, DoneMessage>;
type Event = Exclude<DataEvent, { kind: 'done' } | { kind: 'ready' }>;

export type DataThread = ReactorThread<DataCommand, Done, Event>;

// Short connections leave garbage, not survivors: a larger young generation only costs memory (51 MB by default).
const YOUNG_GENERATION_MB = 8;

/** Starts the data thread and waits until its reactor runs. */
export function startDataThread(
  workerData: DataThreadOptions,
  events: ReactorThreadEvents<Event>,
): Promise<DataThread> {
  return ReactorThread.start(
    new URL('./data-thread.ts', import.meta.url),
    { workerData, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB } },
    events,
  );
}
