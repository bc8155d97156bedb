// Explains the decision about a connection without making one: the functions of the data plane are asked with the
// control thread's model, first for the source, then (behind a waypoint) for the waypoint, then for the destination's
// policies. Pure. What only a real connect can tell (is anyone listening) is not here.
import { parseIp, joinHostPort } from '../../../common/workload/ip.ts';
import { listCandidates, chooseEndpoint } from '../../../common/workload/load-balance.ts';
import { serviceKey, workloadIdentity } from '../../../common/workload/model.ts';
import type { Service, Workload } from '../../../common/workload/model.ts';
import type { WorkloadStore } from '../../../common/workload/store.ts';
import type { Policy } from '../../../common/policy/model.ts';
import { buildInboundRequest } from '../../proxy/inbound-request.ts';
import { buildRequest } from '../../proxy/request.ts';
import type { OriginalDst, RequestDecision } from '../../proxy/request.ts';
import type {
  Explanation,
  WhyCandidate,
  WhyDecision,
  WhyPolicy,
  WhyStep,
} from '../../../common/admin/explanation.ts';
import { findDestination, findSource } from './names.ts';
import { explainPolicies } from './policies.ts';

/** What the explanation is made from. */
export interface WhySources {
  readonly store: WorkloadStore;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly network: string;
  /** Of pods that this node serves. */
  podState(namespace: string, name: string): 'Up' | 'Pending' | undefined;
  /** Undefined: this node does not hold that identity. */
  certificateState(identity: string): string | undefined;
}

/** Who knocks at a destination. */
interface Caller {
  readonly ip: string;
  readonly identity: string | undefined;
}

/** Explains. Throws `why_query` where src or dst mean nothing. */
export function explain(sources: WhySources, src: string, dst: string): Explanation {
  return new Explainer(sources).run(src, dst);
}

const nameOf = ({ namespace, name }: Workload): string => `${namespace}/${name}`;
const NO_IP = new Uint8Array(0);

class Explainer {
  readonly #sources: WhySources;
  readonly #steps: WhyStep[] = [];
  #candidates: readonly WhyCandidate[] = [];
  #policies: WhyPolicy[] = [];
  #decision: RequestDecision | undefined;
  #reason: string | undefined;

  constructor(sources: WhySources) {
    this.#sources = sources;
  }

  run(src: string, dst: string): Explanation {
    const { store, network } = this.#sources;
    const source = findSource(store, network, src);
    const destination = findDestination(store, source.workload, dst);
    if (source.workload?.protocol === 'HBONE') this.#fromMesh(source.workload, destination);
    else this.#fromOutside(source.workload, source.ip, destination);
    return this.#finish(src, dst, source.workload, destination);
  }

  #say(step: string, detail: string, outcome: WhyStep['outcome'] = 'ok'): void {
    this.#steps.push({ step, outcome, detail });
  }

  #refuse(step: string, reason: string, detail: string): void {
    this.#say(step, detail, 'refuse');
    this.#reason = reason;
  }

  #fromMesh(source: Workload, destination: OriginalDst & { note: string | undefined }): void {
    const identity = workloadIdentity(source);
    this.#say('source', `${nameOf(source)} is in the mesh as ${identity}`);
    const state = this.#sources.podState(source.namespace, source.name);
    if (state === undefined) {
      this.#say(
        'capture',
        `its node ${source.node} captures its traffic; this is another node`,
        'info',
      );
    } else if (state === 'Up') this.#say('capture', 'this node captures its traffic');
    else this.#say('capture', 'its listeners are not open yet: it cannot connect', 'refuse');
    if (destination.note !== undefined) this.#say('name', destination.note, 'info');
    const decision = this.#decide(source, destination);
    this.#decision = decision;
    const certificate = this.#sources.certificateState(identity);
    const isTunnelled = decision.kind === 'hbone' || decision.kind === 'double_hbone';
    if (isTunnelled && certificate !== undefined) {
      const isThere = certificate === 'Available';
      const detail = `the certificate of ${identity}: ${certificate}`;
      if (isThere) this.#say('certificate', detail);
      else this.#refuse('certificate', 'certificate_unavailable', detail);
    }
    this.#arrive(source, decision, destination);
  }

  /** Decides for a source in the mesh, and tells how. */
  #decide(source: Workload, destination: OriginalDst): RequestDecision {
    const { store } = this.#sources;
    const { ip, port } = destination;
    const decision = buildRequest({ store, source, destination: { ip, port }, random: () => 0 });
    const service = store.findServiceByVip(source.network, ip, source.namespace);
    const workload = store.findWorkload(source.network, ip);
    if (service !== undefined) {
      this.#say('lookup', `${ip} is a virtual address of ${serviceKey(service)}`);
    } else if (workload !== undefined) {
      this.#say('lookup', `${ip} is the address of ${nameOf(workload)}`);
    } else this.#say('lookup', `${ip} is no address the mesh knows`, 'info');
    this.#sayWaypoint(decision, service?.waypoint ?? workload?.waypoint);
    const isWaypoint =
      decision.kind === 'refuse'
        ? decision.reason.endsWith('_waypoint')
        : decision.kind === 'hbone' && decision.hop === 'waypoint';
    if (service !== undefined && !isWaypoint) {
      this.#balance(source, service, port, decision);
    }
    this.#sayTransport(decision);
    return decision;
  }

  #sayWaypoint(decision: RequestDecision, waypoint: Workload['waypoint']): void {
    if (decision.kind === 'hbone' && decision.hop === 'waypoint') {
      const name = decision.workload === undefined ? decision.address : nameOf(decision.workload);
      this.#say('waypoint', `the destination has a waypoint: its pod ${name} is connected to`);
    } else if (waypoint !== undefined && decision.kind !== 'refuse') {
      this.#say(
        'waypoint',
        'the source is the waypoint itself: it is not sent to it again',
        'info',
      );
    } else if (waypoint === undefined)
      this.#say('waypoint', 'the destination has no waypoint', 'info');
  }

  #balance(source: Workload, service: Service, port: number, decision: RequestDecision): void {
    const { store } = this.#sources;
    const query = { service, servicePort: port, source };
    const eligible = new Set(listCandidates(store, query).map(({ workload }) => workload.uid));
    const shares = sharesOf(store, query);
    const chosen = decision.workload?.uid;
    this.#candidates = [...store.endpoints(serviceKey(service)).values()].map((workload) => ({
      workload: nameOf(workload),
      uid: workload.uid,
      isEligible: eligible.has(workload.uid),
      isChosen: workload.uid === chosen,
      detail: eligible.has(workload.uid)
        ? shareText(shares.get(workload.uid) ?? 0)
        : whyNot(workload, service, port),
    }));
    const mode = service.loadBalancer.mode === 'STANDARD' ? '' : ` (${service.loadBalancer.mode})`;
    const count = `${eligible.size} of ${this.#candidates.length} endpoints can take port ${port}`;
    this.#say('balance', `${count}${mode}`, eligible.size > 0 ? 'ok' : 'info');
  }

  #sayTransport(decision: RequestDecision): void {
    switch (decision.kind) {
      case 'refuse':
        this.#refuse('decision', decision.reason, decision.detail);
        return;
      case 'hbone':
        this.#say(
          'transport',
          `mutual TLS to ${joinHostPort(decision.address, decision.port)} for ${decision.authority}, which must prove to be ${decision.expectedIdentities.join(' or ')}`,
        );
        return;
      case 'double_hbone':
        this.#say(
          'transport',
          `mutual TLS to the network gateway ${joinHostPort(decision.address, decision.port)}, which must prove to be ${decision.expectedIdentities.join(' or ')}, and within it to ${decision.authority}, which must prove to be ${decision.innerIdentities.join(' or ') || 'nobody known'}`,
        );
        return;
      case 'resolve':
        this.#say('transport', `${decision.hostname} is resolved when connecting`, 'info');
        return;
      default: {
        const to = joinHostPort(decision.address, decision.port);
        const why =
          decision.workload === undefined
            ? 'nothing is known of it'
            : 'the workload is not in the mesh';
        this.#say('transport', `plain TCP to ${to}: ${why}`);
      }
    }
  }

  /** A caller that no node proxy serves: plaintext, without an identity. */
  #fromOutside(source: Workload | undefined, ip: string, destination: OriginalDst): void {
    const { store, network } = this.#sources;
    const who = source === undefined ? ip : nameOf(source);
    this.#say(
      'source',
      `${who} is not in the mesh: it connects in plain text, without an identity`,
      'info',
    );
    const service = store.findServiceByVip(network, destination.ip);
    const [first] =
      service === undefined
        ? []
        : listCandidates(store, {
            service,
            servicePort: destination.port,
            source: source ?? {
              network,
              node: '',
              clusterId: '',
              locality: { region: '', zone: '', subzone: '' },
            },
          });
    if (service !== undefined && first === undefined) {
      const detail = `no healthy upstream for ${service.hostname}:${destination.port}`;
      this.#refuse('lookup', 'no_healthy_upstream', detail);
      return;
    }
    const workload = first?.workload ?? store.findWorkload(network, destination.ip);
    if (workload === undefined) {
      this.#say(
        'lookup',
        `${destination.ip} is no address the mesh knows: nothing of the mesh is involved`,
        'info',
      );
      return;
    }
    if (service === undefined)
      this.#say('lookup', `${destination.ip} is the address of ${nameOf(workload)}`);
    else
      this.#say(
        'lookup',
        `${serviceKey(service)}, balanced by Kubernetes: ${nameOf(workload)} for one`,
      );
    this.#enforce(workload, { ip, identity: undefined }, first?.port ?? destination.port);
  }

  /** What happens where the connection arrives. */
  #arrive(source: Workload, decision: RequestDecision, destination: OriginalDst): void {
    if (decision.kind === 'refuse') return;
    const { workload } = decision;
    if (decision.kind === 'double_hbone') {
      this.#say('policy', 'policies of the other network are enforced there', 'info');
      return;
    }
    if (workload === undefined || decision.kind !== 'hbone') {
      const detail = 'there is no node proxy at the other end: no policy is enforced there';
      this.#say('policy', detail, 'info');
      return;
    }
    const caller = { ip: source.ips[0] ?? '', identity: workloadIdentity(source) };
    if (decision.hop === 'workload') {
      this.#receive(workload, caller, decision);
      return;
    }
    // A waypoint's port is its own listener; the authority is the application's destination.
    if (!this.#enforce(workload, caller, decision.port)) return;
    const detail = `the waypoint ${nameOf(workload)} decides about requests (L7 policies and routes), then connects on as ${workloadIdentity(workload)}`;
    this.#say('waypoint', detail, 'info');
    const next = this.#decide(workload, destination);
    if (next.kind !== 'hbone' || next.hop !== 'workload') return;
    const from = { ip: workload.ips[0] ?? '', identity: workloadIdentity(workload) };
    this.#receive(next.workload, from, next);
  }

  /** The destination's own check of a tunnel, then its policies. */
  #receive(
    workload: Workload | undefined,
    caller: Caller,
    { authority, address }: { readonly authority: string; readonly address: string },
  ): void {
    if (workload === undefined) return;
    const { store } = this.#sources;
    const found = buildInboundRequest({ store, workload, authority, localIp: address });
    if (found.kind === 'refuse') this.#refuse('inbound', found.reason, found.detail);
    else this.#enforce(workload, caller, found.port);
  }

  /** Whether the policies let it in. */
  #enforce(workload: Workload, caller: Caller, port: number): boolean {
    if (workload.protocol !== 'HBONE') {
      this.#say('policy', `${nameOf(workload)} is not in the mesh: no policy is enforced`, 'info');
      return true;
    }
    const facts = {
      sourceIdentity: caller.identity,
      sourceIp: parseIp(caller.ip) ?? NO_IP,
      destinationIp: parseIp(workload.ips[0] ?? '') ?? NO_IP,
      destinationPort: port,
    };
    const { verdict, policies, missing } = explainPolicies(this.#sources.policies, workload, facts);
    this.#policies.push(...policies);
    for (const name of missing) this.#say('policy', `${name} is named but not known yet`, 'info');
    const who = caller.identity ?? 'a caller without an identity';
    const where = `port ${port} of ${nameOf(workload)}`;
    if (verdict.isAllowed) {
      const by =
        verdict.policy ?? (policies.length === 0 ? 'no policy is in force' : 'nothing denies');
      this.#say('policy', `${who} may reach ${where}: ${by}`);
      return true;
    }
    this.#refuse('policy', 'policy_denied', `${who} may not reach ${where}: ${verdict.reason}`);
    return false;
  }

  #finish(
    src: string,
    dst: string,
    source: Workload | undefined,
    destination: OriginalDst,
  ): Explanation {
    const refusal = this.#steps.find(({ outcome }) => outcome === 'refuse');
    const who = source === undefined ? src : nameOf(source);
    const to = joinHostPort(destination.ip, destination.port);
    return {
      src,
      dst,
      isAllowed: refusal === undefined,
      reason: this.#reason ?? null,
      summary:
        refusal === undefined
          ? `${who} may connect to ${to}`
          : `${who} cannot connect to ${to}: ${refusal.detail}`,
      source: source === undefined ? null : describeSource(source),
      decision: this.#decision === undefined ? null : describeDecision(this.#decision),
      steps: this.#steps,
      candidates: this.#candidates,
      policies: this.#policies,
    };
  }
}

type BalanceQuery = Pick<
  Parameters<typeof chooseEndpoint>[1],
  'service' | 'servicePort' | 'source'
>;

const SHARE_SAMPLES = 200;

/** How often each endpoint is chosen, found by asking the balancer over the whole range of its random number. */
function sharesOf(store: WorkloadStore, query: BalanceQuery): Map<string, number> {
  const shares = new Map<string, number>();
  for (let i = 0; i < SHARE_SAMPLES; i++) {
    const random = (): number => (i + 0.5) / SHARE_SAMPLES;
    const uid = chooseEndpoint(store, { ...query, random })?.workload.uid;
    if (uid !== undefined) shares.set(uid, (shares.get(uid) ?? 0) + 1 / SHARE_SAMPLES);
  }
  return shares;
}

function shareText(share: number): string {
  if (share === 0) return 'usable, but others come before it (locality, capacity)';
  return `usable, chosen for about ${Math.round(share * 100)} % of connections`;
}

/** The likely reason; that it cannot be used has been decided by the balancer. */
function whyNot(workload: Workload, service: Service, port: number): string {
  if (!workload.isHealthy && service.loadBalancer.healthPolicy !== 'ALLOW_ALL') return 'not ready';
  if (!service.ports.some(({ servicePort }) => servicePort === port)) {
    return `the service has no port ${port}`;
  }
  if (workload.ips.length === 0 && workload.hostname === '') return 'has no address';
  return `cannot take port ${port}`;
}

function describeSource(source: Workload): Explanation['source'] {
  return {
    uid: source.uid,
    name: source.name,
    namespace: source.namespace,
    identity: workloadIdentity(source),
    ips: source.ips,
    node: source.node,
    protocol: source.protocol,
  };
}

function describeDecision(decision: RequestDecision): WhyDecision {
  const { kind, workload, service } = decision;
  return {
    kind,
    hop: kind === 'hbone' ? decision.hop : null,
    address: 'address' in decision ? decision.address : null,
    port: 'port' in decision ? decision.port : null,
    authority: 'authority' in decision ? decision.authority : null,
    workload: workload === undefined ? null : nameOf(workload),
    service: service === undefined ? null : serviceKey(service),
    expectedIdentities: 'expectedIdentities' in decision ? decision.expectedIdentities : [],
  };
}
