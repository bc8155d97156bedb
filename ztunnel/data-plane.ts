// A data thread's state and the requests it serves: pods with their listeners, the part of the model they need,
// policies, certificates. Everything runs on one reactor.
import { errorMessage } from '../common/errors.ts';
import type { Policy } from '../common/policy/model.ts';
import type { WorkloadCertificate } from '../common/identity/secret-manager.ts';
import type { LoggerRoot } from '../common/telemetry/logger.ts';
import { Profiler } from '../common/telemetry/profiler.ts';
import { SeriesTable } from '../common/telemetry/series-table.ts';
import type { Workload } from '../common/workload/model.ts';
import { WorkloadStore } from '../common/workload/store.ts';
import { Netns } from '../engine/reactor/netns.ts';
import type { Reactor } from '../engine/reactor/reactor.ts';
import { CertificateStore } from './identity/certificate-store.ts';
import { closePodSockets } from './inpod/pod-sockets.ts';
import type {
  ConnectionReport,
  DataEvent,
  DataRequest,
  DataThreadOptions,
  PodDump,
} from './messages.ts';
import { AddressResolver } from './proxy/address-resolver.ts';
import { HostAddresses } from './proxy/host-addresses.ts';
import { ConnectionRecorder } from './proxy/connection-result.ts';
import { L7_SIGHT_FAMILIES } from './proxy/l7-series.ts';
import { L7Sight } from './proxy/l7-sight.ts';
import { reportConnections } from './proxy/connection-report.ts';
import { PolicyGate } from './proxy/policy-gate.ts';
import { openPodShare } from './proxy/pod-share.ts';
import { PACE_WINDOW_MS, PodPacer } from './proxy/pod-pacer.ts';
import { PodProxy } from './proxy/pod-proxy.ts';
import type { ProxyContext } from './proxy/proxy-context.ts';
import { STALE_SERIES_MS } from './proxy/series-groups.ts';
import { TRAFFIC_FAMILIES } from './proxy/traffic-families.ts';

const LAST_TURN_MS = 20;

type Emit = (event: DataEvent) => void;

/** Answer of a request. */
interface Answer {
  readonly pods?: readonly PodDump[];
  readonly report?: ConnectionReport;
  readonly profile?: string;
}

/** Serves the control thread's requests. */
export class DataPlane {
  readonly #thread: number;
  readonly #reactor: Reactor;
  readonly #loggers: LoggerRoot;
  readonly #context: ProxyContext;
  readonly #store = new WorkloadStore();
  readonly #policies = new Map<string, Policy>();
  readonly #gate: PolicyGate;
  readonly #certificates: CertificateStore;
  readonly #resolver: AddressResolver;
  readonly #hosts: HostAddresses;
  readonly #recorder: ConnectionRecorder;
  readonly #sight: L7Sight;
  readonly #profiler: Profiler;
  readonly #pods = new Map<string, PodProxy>();
  /** The proxy's own pod: served as the others, but not reported, nor waited for. */
  #own: PodProxy | undefined;

  constructor(
    { config, thread }: DataThreadOptions,
    reactor: Reactor,
    loggers: LoggerRoot,
    emit: Emit,
  ) {
    this.#thread = thread;
    this.#reactor = reactor;
    this.#loggers = loggers;
    this.#profiler = new Profiler((delayMs, fn) => reactor.after(delayMs, fn));
    const families = [...TRAFFIC_FAMILIES, ...L7_SIGHT_FAMILIES];
    const table = new SeriesTable(families, (message) => emit({ kind: 'series', message }));
    this.#sight = new L7Sight(table, config.l7Sight, () => reactor.now());
    this.#recorder = new ConnectionRecorder(table, loggers.scope('access'), Date.now, thread);
    this.#certificates = new CertificateStore(
      reactor,
      (identity) => emit({ kind: 'needCertificate', identity }),
      config.tlsGroups === undefined ? {} : { groups: config.tlsGroups },
    );
    this.#resolver = new AddressResolver((key) => emit({ kind: 'lookup', key }));
    this.#gate = new PolicyGate(reactor, this.#policies);
    this.#hosts = new HostAddresses(
      (question) => emit({ kind: 'resolveHost', ...question }),
      () => reactor.now(),
    );
    this.#context = {
      reactor,
      config,
      store: this.#store,
      gate: this.#gate,
      certificates: this.#certificates,
      recorder: this.#recorder,
      sight: this.#sight,
      logger: loggers.scope('proxy'),
      findPod: (workload) => this.#findPod(workload),
      hosts: this.#hosts,
      resolve: (network, ip) => this.#resolver.resolve(network, ip),
    };
    this.#sweepLater();
    if (config.podLimits.fairPerSec > 0) this.#paceLater(new PodPacer(this.#context, this.#pods));
  }

  #paceLater(pacer: PodPacer): void {
    this.#reactor.after(PACE_WINDOW_MS, () => {
      pacer.look();
      this.#paceLater(pacer);
    });
  }

  #sweepLater(): void {
    this.#reactor.after(STALE_SERIES_MS, () => {
      this.#recorder.groups.sweep();
      this.#sight.sweep();
      this.#sweepLater();
    });
  }

  /** Serves one request. Rejects with the reason for the control thread. */
  async handle(request: DataRequest): Promise<Answer> {
    switch (request.kind) {
      case 'state':
        this.#applyState(request);
        return {};
      case 'policies':
        for (const policy of request.upserts) this.#policies.set(policy.key, policy);
        for (const key of request.removed) this.#policies.delete(key);
        this.#gate.changed();
        for (const pod of this.#served()) pod.reevaluate();
        return {};
      case 'certificate':
        this.#putCertificate(request.certificate);
        return {};
      case 'revocations':
        this.#certificates.setRevocations(request.revocations);
        for (const pod of this.#served()) pod.closeRevoked();
        return {};
      case 'certificateFailed':
        this.#certificates.fail(request.identity, request.error);
        return {};
      case 'forgetCertificate':
        this.#certificates.forget(request.identity);
        return {};
      case 'addPod': {
        this.#addPod(request);
        return {};
      }
      case 'removePod':
        this.#pods.get(request.uid)?.close('pod_removed', 'the pod has left the mesh');
        this.#pods.delete(request.uid);
        if (this.#own?.uid === request.uid) {
          this.#own.close('pod_removed', 'it is not served in all threads');
          this.#own = undefined;
        }
        return {};
      case 'hostAddresses':
        this.#hosts.answer(request);
        return {};
      case 'dump':
        return { pods: [...this.#pods.values()].map((pod) => pod.dump()) };
      case 'connections':
        return { report: reportConnections([...this.#pods.values()], request, Date.now()) };
      case 'cpuProfile':
        return { profile: await this.#profiler.cpu(request) };
      case 'heapProfile':
        return { profile: await this.#profiler.heap(request.action) };
      case 'logLevel':
        this.#loggers.setLevels(request.levels, true);
        return {};
      case 'drain':
        await this.#drain(request.deadlineMs, request.isReplaced);
        return {};
    }
  }

  #putCertificate(certificate: WorkloadCertificate): void {
    if (!this.#certificates.put(certificate)) return;
    for (const pod of this.#served()) pod.certificateRenewed(certificate.identity);
  }

  #served(): PodProxy[] {
    return [...this.#pods.values(), ...(this.#own === undefined ? [] : [this.#own])];
  }

  #addPod(request: Extract<DataRequest, { kind: 'addPod' }>): void {
    const { uid, pod, netnsFd, sockets, shared, ownIdentity } = request;
    const share = shared && openPodShare(shared, this.#thread);
    let netns: Netns;
    try {
      netns = Netns.duplicate(netnsFd);
    } catch (err) {
      closePodSockets(sockets);
      throw err;
    }
    const handles = { netns, sockets, share, ownIdentity };
    const proxy = PodProxy.open(this.#context, uid, pod, handles);
    if (ownIdentity === undefined) this.#pods.set(uid, proxy);
    else this.#own = proxy;
  }

  #findPod(workload: Workload): PodProxy | undefined {
    for (const pod of this.#pods.values()) if (pod.local.current === workload) return pod;
    return undefined;
  }

  #applyState(request: Extract<DataRequest, { kind: 'state' }>): void {
    if (request.isReset) this.#store.clear();
    for (const resource of request.upserts) this.#store.upsert(resource);
    for (const name of request.removed) this.#store.remove(name);
    this.#recorder.groups.forget();
    this.#recorder.groups.markStale(request.removed);
    this.#sight.markStale(request.removed);
    this.#sight.recordsChanged(
      request.upserts.flatMap((one) => (one.kind === 'workload' ? one.workload : [])),
    );
    this.#resolver.answer(request);
    const changed = new Set(
      request.upserts.map((one) => (one.kind === 'workload' ? one.workload.uid : '')),
    );
    for (const pod of this.#served()) pod.stateChanged(changed);
    this.#gate.changed();
  }

  async #drain(deadlineMs: number, isReplaced: boolean): Promise<void> {
    const pods = [...this.#pods.values()];
    // What scrapes has its tunnel open for ever. Without a successor it may go on until the end.
    if (isReplaced) void this.#own?.drain(true);
    const drained = Promise.all(pods.map((pod) => pod.drain(isReplaced)));
    const deadline = new Promise<void>((resolve) => {
      this.#reactor.after(deadlineMs, resolve);
    });
    await Promise.race([drained, deadline]);
    for (const pod of this.#served()) pod.close('drained', 'the proxy is shutting down');
    this.#pods.clear();
    this.#own = undefined;
    // Their ends are told in the reactor's next turn.
    await new Promise<void>((resolve) => {
      this.#reactor.after(LAST_TURN_MS, resolve);
    });
    this.#loggers.flush();
  }
}

/** Turns what a request threw into an answer's error. */
export function answerError(err: unknown): string {
  return errorMessage(err);
}
