// Runs a container's probes while it runs. Until the first success an attempt follows the last one shortly, so
// that a pod is ready when it is and not at the next full period; failures count once a period as they should.
import { sleep, systemClock } from '../../common/clock.ts';
import type { ContainerRunner } from './container.ts';
import type { Probe } from './objects.ts';
import { attemptProbe, type ProbeTarget } from './probe.ts';

const EAGER_INTERVAL_MS = 150;
const EAGER_MS = 60_000;

export interface ProberHost {
  onChange(): void;
  onFailure(kind: string, detail: string): void;
  /** A liveness or startup probe gave up: the container must be started again. */
  onDead(kind: string): void;
}

interface Loop {
  readonly probe: Probe;
  readonly isEager: boolean;
  /** Told each settled outcome; answering false ends the loop. */
  readonly onSettled: (ok: boolean, detail: string) => boolean;
}

async function runLoop(loop: Loop, target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const { probe } = loop;
  const periodMs = (probe.periodSeconds ?? 10) * 1000;
  const since = Date.now();
  let successes = 0;
  let failures = 0;
  let lastCounted = 0;
  let isEager = loop.isEager;
  await sleep(systemClock, (probe.initialDelaySeconds ?? 0) * 1000, signal);
  while (!signal.aborted) {
    const { ok, detail } = await attemptProbe(probe, target);
    signal.throwIfAborted();
    if (ok) {
      successes++;
      failures = 0;
      isEager = successes < (probe.successThreshold ?? 1) && isEager;
      if (successes >= (probe.successThreshold ?? 1) && !loop.onSettled(true, '')) return;
    } else {
      successes = 0;
      if (!isEager || Date.now() - lastCounted >= periodMs) {
        failures++;
        lastCounted = Date.now();
      }
      if (failures >= (probe.failureThreshold ?? 3) && !loop.onSettled(false, detail)) return;
    }
    const isStillEager = isEager && Date.now() - since < EAGER_MS;
    await sleep(systemClock, isStillEager ? EAGER_INTERVAL_MS : periodMs, signal);
  }
}

/** Probes one run of a container until the signal aborts. */
export async function runProbes(
  runner: ContainerRunner,
  target: ProbeTarget,
  host: ProberHost,
  signal: AbortSignal,
): Promise<void> {
  const { startupProbe, livenessProbe, readinessProbe } = runner.container;
  const dead = (kind: string) => (ok: boolean, detail: string) => {
    if (ok) return true;
    host.onFailure(kind, detail);
    host.onDead(kind);
    return false;
  };
  if (startupProbe !== undefined) {
    const onSettled = (ok: boolean, detail: string): boolean => {
      if (ok) runner.isStarted = true;
      else dead('Startup')(ok, detail);
      return false;
    };
    await runLoop({ probe: startupProbe, isEager: true, onSettled }, target, signal);
    if (!runner.isStarted) return;
  }
  runner.isStarted = true;
  runner.isReady = readinessProbe === undefined;
  host.onChange();
  const loops: Promise<void>[] = [];
  if (livenessProbe !== undefined) {
    const onSettled = dead('Liveness');
    loops.push(runLoop({ probe: livenessProbe, isEager: false, onSettled }, target, signal));
  }
  if (readinessProbe !== undefined) {
    const onSettled = (ok: boolean, detail: string): boolean => {
      if (!ok) host.onFailure('Readiness', detail);
      if (runner.isReady !== ok) {
        runner.isReady = ok;
        host.onChange();
      }
      return true;
    };
    loops.push(runLoop({ probe: readinessProbe, isEager: true, onSettled }, target, signal));
  }
  await Promise.all(loops);
}
