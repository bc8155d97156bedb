// Runs one pod: sandbox (network), volumes, init containers, containers with probes, status, and its end. Each
// step is retried until it works or the pod goes; reasons become Events.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import { containerEnv, ContainerRunner, enterArgv, type ContainerHost } from './container.ts';
import { planLaunch } from './launch-plan.ts';
import { log } from './log.ts';
import type { NodeContext } from './node-context.ts';
import type { Container, ContainerStatus, Pod, PodStatus } from './objects.ts';
import { buildPodStatus, podPhase, waitingStatus, type PodState } from './pod-status.ts';
import { PodSandboxNetwork } from './pod-sandbox.ts';
import { probeHttp } from './probe.ts';
import { runProbes } from './prober.ts';
import { tryCommand } from './run-command.ts';
import { limitLog } from './log-limit.ts';
import { PodVolumes } from './volumes.ts';

const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 5000;
/** A volume's config map is often written moments after the pod. */
const MOUNT_RETRY_MAX_MS = 500;
const VOLUME_REFRESH_MS = 20_000;

export class PodWorker {
  readonly #context: NodeContext;
  readonly #network: PodSandboxNetwork;
  readonly #runners = new Map<string, ContainerRunner>();
  readonly #initRunners = new Map<string, ContainerRunner>();
  readonly #end = new AbortController();
  readonly #startTime = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  readonly #dir: string;
  #pod: Pod;
  #volumes: PodVolumes | undefined;
  #isInitialized = false;
  #isWriting = false;
  #isDirty = false;
  #written: string | undefined;
  #lastStatus: PodStatus | undefined;
  readonly #main: Promise<void>;
  #termination: Promise<void> | undefined;

  /** `after`: the end of an older pod of the same name, whose netns must be gone first. */
  constructor(context: NodeContext, pod: Pod, after?: Promise<void>) {
    this.#context = context;
    this.#pod = pod;
    this.#lastStatus = pod.status;
    this.#dir = join(context.config.dir, 'pods', pod.metadata.uid ?? pod.metadata.name);
    this.#network = new PodSandboxNetwork(context, pod);
    this.#main = this.#run(after).catch((err: unknown) => {
      if (!this.#isEnding()) log.error({ err: errorMessage(err) }, 'pod worker failed');
    });
  }

  get pod(): Pod {
    return this.#pod;
  }

  get podIp(): string | undefined {
    return this.#network.podIp;
  }

  get netns(): string | undefined {
    return this.#network.netns;
  }

  /** A container's runner by name; the first container without one. */
  container(name?: string): ContainerRunner | undefined {
    const wanted = name ?? this.#pod.spec.containers[0]?.name ?? '';
    return this.#runners.get(wanted) ?? this.#initRunners.get(wanted);
  }

  logFile(container: string): string {
    const { namespace = 'default', name } = this.#pod.metadata;
    return join(this.#context.logDir, `${namespace}_${name}_${container}.log`);
  }

  /** The object changed: keeps it, and starts the end when it was deleted. */
  update(pod: Pod): void {
    this.#pod = pod;
    this.#network.update(pod);
    if (pod.metadata.deletionTimestamp === undefined) return;
    const graceSec =
      pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30;
    void this.terminate(graceSec * 1000, true);
  }

  /** Ends containers, network and files; then confirms the deletion when asked. Later calls join the first. */
  terminate(graceMs: number, confirm: boolean): Promise<void> {
    if (this.#termination !== undefined && graceMs === 0) {
      for (const runner of [...this.#runners.values(), ...this.#initRunners.values()]) {
        void runner.kill(0);
      }
    }
    this.#termination ??= this.#terminate(graceMs, confirm).catch((err: unknown) => {
      log.error({ pod: this.#pod.metadata.name, err: errorMessage(err) }, 'pod not ended cleanly');
    });
    return this.#termination;
  }

  async #run(after?: Promise<void>): Promise<void> {
    await after;
    if (['Succeeded', 'Failed'].includes(this.#pod.status?.phase ?? '')) return;
    this.#changed();
    await this.#retry('FailedCreatePodSandBox', () => this.#network.up());
    this.#changed();
    mkdirSync(this.#dir, { recursive: true });
    await this.#retry('FailedMount', () => this.#openVolumes().write());
    if (!(await this.#runInitContainers())) return;
    this.#isInitialized = true;
    for (const container of this.#pod.spec.containers) {
      if (this.#isEnding()) return;
      this.#runners.set(container.name, this.#startContainer(container, false));
    }
    this.#changed();
    while (!this.#isEnding()) {
      await sleep(systemClock, VOLUME_REFRESH_MS, this.#end.signal);
      for (const name of [...this.#runners.keys()]) limitLog(this.logFile(name));
      await this.#volumes?.write().catch((err: unknown) => {
        log.debug({ err: errorMessage(err) }, 'volumes not refreshed');
      });
    }
  }

  #isEnding(): boolean {
    return this.#end.signal.aborted;
  }

  #openVolumes(): PodVolumes {
    this.#volumes ??= new PodVolumes(
      this.#pod,
      { dir: this.#dir, rootfs: this.#context.rootfs },
      this.#context.api,
      this.#context,
      { podIps: this.#network.podIps, hostIp: this.#context.config.address },
    );
    return this.#volumes;
  }

  async #retry(reason: string, step: () => Promise<void>): Promise<void> {
    const maxMs = reason === 'FailedMount' ? MOUNT_RETRY_MAX_MS : RETRY_MAX_MS;
    let delayMs = RETRY_FIRST_MS;
    while (!this.#isEnding()) {
      try {
        await step();
        return;
      } catch (err) {
        if (this.#isEnding()) return;
        const { namespace, name } = this.#pod.metadata;
        log.warn({ namespace, pod: name, reason, err: errorMessage(err) }, 'pod step failed');
        this.#context.events.record(this.#pod, 'Warning', reason, errorMessage(err));
        await sleep(systemClock, delayMs, this.#end.signal);
        delayMs = Math.min(delayMs * 2, maxMs);
      }
    }
  }

  /** False when one failed for good or the pod ends. */
  async #runInitContainers(): Promise<boolean> {
    for (const container of this.#pod.spec.initContainers ?? []) {
      if (this.#isEnding()) return false;
      const runner = this.#startContainer(container, true);
      this.#initRunners.set(container.name, runner);
      this.#changed();
      if (container.restartPolicy === 'Always') continue;
      await runner.done;
      if (runner.exitCode !== 0) return false;
    }
    return !this.#isEnding();
  }

  #startContainer(container: Container, isInit: boolean): ContainerRunner {
    const policy = this.#pod.spec.restartPolicy ?? 'Always';
    const isSidecar = container.restartPolicy === 'Always';
    const initPolicy = isSidecar ? 'Always' : policy === 'Never' ? 'Never' : 'OnFailure';
    const known = policy === 'Never' || policy === 'OnFailure' ? policy : 'Always';
    let probing = new AbortController();
    const host: ContainerHost = {
      logFile: this.logFile(container.name),
      plan: () => this.#planLaunch(container),
      onChange: () => {
        if (runner.pid === undefined) probing.abort();
        this.#changed();
      },
      onStarted: () => {
        probing.abort();
        probing = new AbortController();
        this.#probe(runner, AbortSignal.any([probing.signal, this.#end.signal]));
      },
      onEvent: (type, reason, message) =>
        this.#context.events.record(this.#pod, type, reason, message),
    };
    const runner = new ContainerRunner(container, isInit ? initPolicy : known, host);
    return runner;
  }

  async #planLaunch(container: Container): ReturnType<typeof planLaunch> {
    const volumes = this.#openVolumes();
    return planLaunch({
      context: this.#context,
      pod: this.#pod,
      container,
      dir: join(this.#dir, container.name),
      mounts: volumes.mounts(container),
      netns: this.#network.netns,
      podIps: this.#network.podIps,
    });
  }

  #probe(runner: ContainerRunner, signal: AbortSignal): void {
    const target = {
      podIp: this.#network.podIp ?? '',
      container: runner.container,
      pid: () => runner.pid,
    };
    const { events } = this.#context;
    const host = {
      onChange: () => this.#changed(),
      onFailure: (kind: string, detail: string) =>
        events.record(this.#pod, 'Warning', 'Unhealthy', `${kind} probe failed: ${detail}`),
      onDead: (kind: string) => {
        const message = `Container ${runner.container.name} failed ${kind.toLowerCase()} probe, will be restarted`;
        events.record(this.#pod, 'Normal', 'Killing', message);
        void runner.kill((this.#pod.spec.terminationGracePeriodSeconds ?? 30) * 1000);
      },
    };
    runProbes(runner, target, host, signal).catch((err: unknown) => {
      if (!signal.aborted) log.error({ err: errorMessage(err) }, 'probes failed');
    });
  }

  async #terminate(graceMs: number, confirm: boolean): Promise<void> {
    // The endpoint goes first: readiness is withdrawn as soon as the deletion is known.
    for (const runner of this.#runners.values()) runner.isReady = false;
    this.#end.abort(new Error('the pod ends'));
    this.#changed();
    const deadline = Date.now() + graceMs;
    const stop = async (runner: ContainerRunner): Promise<void> => {
      await this.#preStop(runner, deadline - Date.now());
      await runner.stop(Math.max(0, deadline - Date.now()));
    };
    await Promise.all([...this.#runners.values()].map(stop));
    await Promise.all([...this.#initRunners.values()].toReversed().map(stop));
    await this.#main;
    await this.#network.down();
    rmSync(this.#dir, { recursive: true, force: true });
    if (confirm) await this.#confirmDeletion();
  }

  async #preStop(runner: ContainerRunner, graceMs: number): Promise<void> {
    const hook = runner.container.lifecycle?.preStop;
    const { pid } = runner;
    if (hook === undefined || pid === undefined || graceMs <= 0) return;
    if (hook.sleep !== undefined) {
      const limited = Math.min(hook.sleep.seconds * 1000, graceMs);
      await Promise.race([sleep(systemClock, limited), runner.done]);
    } else if (hook.exec !== undefined) {
      const argv = enterArgv(pid, hook.exec.command ?? []);
      await tryCommand(argv, { timeoutMs: graceMs, env: containerEnv(pid) }).catch(() => undefined);
    } else if (hook.httpGet !== undefined) {
      const target = { podIp: this.podIp ?? '', container: runner.container, pid: () => pid };
      await probeHttp(target, hook.httpGet, graceMs);
    }
  }

  async #confirmDeletion(): Promise<void> {
    const { namespace = 'default', name, uid } = this.#pod.metadata;
    const options = { gracePeriodSeconds: 0, preconditions: { uid } };
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        await this.#context.api.delete(path, options);
        return;
      } catch (err) {
        if (isKubeStatus(err, 404) || isKubeStatus(err, 409)) return;
        await sleep(systemClock, 500);
      }
    }
  }

  #state(): PodState {
    const statusOf =
      (runners: ReadonlyMap<string, ContainerRunner>, reason: string) =>
      (container: Container): ContainerStatus =>
        runners.get(container.name)?.status() ?? waitingStatus(container, reason);
    const reason = this.#isInitialized ? 'ContainerCreating' : 'PodInitializing';
    const { initContainers = [], containers } = this.#pod.spec;
    return {
      hostIp: this.#context.config.address,
      podIps: this.#network.podIps,
      startTime: this.#startTime,
      isInitialized: this.#isInitialized || initContainers.length === 0,
      isTerminating: this.#termination !== undefined,
      initContainers: initContainers.map(statusOf(this.#initRunners, 'PodInitializing')),
      containers: containers.map(
        statusOf(this.#runners, initContainers.length === 0 ? 'ContainerCreating' : reason),
      ),
    };
  }

  /** True when no container of this pod will run again. */
  get isFinished(): boolean {
    return ['Succeeded', 'Failed'].includes(podPhase(this.#pod, this.#state()));
  }

  /** Something visible changed: writes the status now, or again after the write that is under way. */
  #changed(): void {
    this.#isDirty = true;
    if (!this.#isWriting) void this.#writeStatus();
  }

  async #writeStatus(): Promise<void> {
    this.#isWriting = true;
    let delayMs = 100;
    while (this.#isDirty) {
      this.#isDirty = false;
      const status = buildPodStatus(this.#pod, this.#state(), this.#lastStatus);
      const text = JSON.stringify(status);
      if (text === this.#written) continue;
      const { namespace = 'default', name, uid } = this.#pod.metadata;
      try {
        const path = `/api/v1/namespaces/${namespace}/pods/${name}/status`;
        await this.#context.api.patch(path, { metadata: { uid }, status });
        this.#written = text;
        this.#lastStatus = status;
        delayMs = 100;
      } catch (err) {
        if (isKubeStatus(err, 404) || isKubeStatus(err, 409)) break;
        log.warn({ namespace, pod: name, err: errorMessage(err) }, 'pod status not written');
        this.#isDirty = true;
        await sleep(systemClock, delayMs);
        delayMs = Math.min(delayMs * 2, 3000);
      }
    }
    this.#isWriting = false;
  }
}
