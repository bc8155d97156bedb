// Profiles of the calling thread for V8's tools: CPU (.cpuprofile), and what code allocated what is still alive
// (.heapprofile). No heap snapshots: they would carry private keys out of the process. The inspector is loaded when it is
// asked for; it is not free.
import type { Session } from 'node:inspector/promises';
import { MeshError } from '../errors.ts';

/** What to record. */
export interface CpuProfileRequest {
  readonly durationMs: number;
  /** Samples a second. */
  readonly frequencyHz: number;
}

/** What to do about the thread's allocations: sample them, stop, or tell what was found so far. */
export type HeapProfileAction = 'activate' | 'deactivate' | 'read';

/** One sample for so many bytes, on average: cheap enough to leave on. */
const SAMPLE_BYTES = 65_536;

/** The profiler of a thread. */
export class Profiler {
  readonly #after: (delayMs: number, fn: () => void) => unknown;
  #isRecording = false;
  #sampling: Session | undefined;

  /** `after` is the thread's timer. */
  constructor(after: (delayMs: number, fn: () => void) => unknown) {
    this.#after = after;
  }

  /** Records the CPU. Rejects with `profile_busy` while another profile of this thread is recorded. */
  async cpu({ durationMs, frequencyHz }: CpuProfileRequest): Promise<string> {
    if (this.#isRecording) {
      throw new MeshError('profile_busy', 'a profile of this thread is being recorded');
    }
    this.#isRecording = true;
    const session = await openSession().catch((err: unknown) => {
      this.#isRecording = false;
      throw err;
    });
    try {
      const interval = Math.round(1_000_000 / frequencyHz);
      await session.post('Profiler.enable');
      await session.post('Profiler.setSamplingInterval', { interval });
      await session.post('Profiler.start');
      await new Promise<void>((resolve) => {
        this.#after(durationMs, resolve);
      });
      return JSON.stringify((await session.post('Profiler.stop')).profile);
    } finally {
      this.#isRecording = false;
      session.disconnect();
    }
  }

  /** The profile with `read`, which rejects with `profile_inactive` unless activated; else nothing. */
  async heap(action: HeapProfileAction): Promise<string> {
    if (action === 'activate') {
      if (this.#sampling !== undefined) return '';
      this.#sampling = await openSession();
      await this.#sampling.post('HeapProfiler.startSampling', { samplingInterval: SAMPLE_BYTES });
      return '';
    }
    const session = this.#sampling;
    if (action === 'deactivate') {
      this.#sampling = undefined;
      await session?.post('HeapProfiler.stopSampling');
      session?.disconnect();
      return '';
    }
    if (session === undefined) {
      throw new MeshError('profile_inactive', 'heap profiling is not active');
    }
    return JSON.stringify((await session.post('HeapProfiler.getSamplingProfile')).profile);
  }
}

async function openSession(): Promise<Session> {
  const inspector = await import('node:inspector/promises');
  const session = new inspector.Session();
  session.connect();
  return session;
}
