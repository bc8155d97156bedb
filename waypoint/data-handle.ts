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

/** Starts the data thread and waits until its reactor runs. */
export function startDataThread(
  workerData: DataThreadOptions,
  events: ReactorThreadEvents<Event>,
): Promise<DataThread> {
  // Requests leave little behind: a larger young generation only keeps more garbage resident (10 MB, measured).
  const resourceLimits = { maxYoungGenerationSizeMb: 12 };
  return ReactorThread.start(
    new URL('./data-thread.ts', import.meta.url),
    { workerData, resourceLimits },
    events,
  );
}
