// Explains the decision about a connection without making one: the functions of the data plane are asked with the
// control thread's model, first for the source, then (behind a waypoint) for the waypoint, then for the destination's
// policies. Pure. What only a real connect can tell (is anyone listening) is not here.
import { parseIp, joinHostPort } from '../../../common/workload/ip.ts';
import { listCandidates } from '../../../common/workload/load-balance.ts';
import { serviceKey, workloadIdentity } from '../../../common/workload/model.ts';
import type { Service, Workload } from '../../../common/workload/model.ts';
import type { WorkloadStore } from '../../../common/workload/store.ts';
import type { Policy } from '../../../common/policy/model.ts';
import { buildInboundRequest } from '../../proxy/inbound-request.ts';
import { nodeLocalObstacle } from '../../proxy/node-local-rule.ts';
import { buildRequest } from '../../proxy/request.ts';
import type { OriginalDst, RequestDecision } from '../../proxy/request.ts';
import type {
  Explanation,
  WhyCandidate,
  WhyDecision,
  WhyPolicy,
  WhyStep,
} from '../../../common/admin/explanation.ts';
import { explainCandidates } from './candidates.ts';
import { findDestination, findSource } from './names.ts';
import { explainPolicies } from './policies.ts';
import { explainRetries } from './retries.ts';

/** What the explanation is made from. */
export interface WhySources {
  readonly store: WorkloadStore;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly network: string;
  /** Of pods that this node serves. */
  podState(namespace: string, name: string): 'Up' | 'Pending' | undefined;
  /** The same-node path is on. */
  readonly isNodeLocal: boolean;
  readonly isSocks5: boolean;
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
/** Of retries in a text. */
const MAX_NAMES = 3;

function isToWaypoint(decision: RequestDecision): boolean {
  return 'hop' in decision && decision.hop === 'waypoint';
}

class Explainer {
  readonly #sources: WhySources;
  readonly #steps: WhyStep[] = [];
  #candidates: readonly WhyCandidate[] = [];
  #policies: WhyPolicy[] = [];
  #decision: RequestDecision | undefined;
  #reason: string | undefined;
  #path: WhyDecision['path'] = null;
  readonly #retries: string[] = [];

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
    this.#path = this.#pathOf(source, decision);
    const certificate = this.#sources.certificateState(identity);
    const isTunnelled = this.#path === 'tunnel' || this.#path === 'double_tunnel';
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
    const decideWithout = (exclude: ReadonlySet<string>): RequestDecision =>
      buildRequest({
        store,
        source,
        destination: { ip, port },
        random: () => 0,
        exclude,
        isSocks5: this.#sources.isSocks5,
      });
    const decision = decideWithout(new Set());
    const service = store.findServiceByVip(source.network, ip, source.namespace);
    const workload = store.findWorkload(source.network, ip);
    if (service !== undefined) {
      this.#say('lookup', `${ip} is a virtual address of ${serviceKey(service)}`);
    } else if (workload !== undefined) {
      this.#say('lookup', `${ip} is the address of ${nameOf(workload)}`);
    } else this.#say('lookup', `${ip} is no address the mesh knows`, 'info');
    this.#sayWaypoint(decision, service?.waypoint ?? workload?.waypoint);
    const isWaypoint =
      decision.kind === 'refuse' ? decision.reason.endsWith('_waypoint') : isToWaypoint(decision);
    if (service !== undefined && !isWaypoint) {
      this.#balance(source, service, port, decision);
    }
    this.#sayTransport(source, decision);
    // A waypoint has retries of its own.
    if (this.#decision === undefined) this.#sayRetries(source, decision, decideWithout);
    return decision;
  }

  /** How the bytes would go, by the rule of the data plane. */
  #pathOf(source: Workload, decision: RequestDecision): WhyDecision['path'] {
    if (decision.kind === 'refuse' || decision.kind === 'resolve') return null;
    if (decision.kind === 'double_hbone') return 'double_tunnel';
    if (decision.kind !== 'hbone') return 'plain';
    if (!this.#isServedBeside(source, decision.workload)) return 'tunnel';
    const obstacle = nodeLocalObstacle(this.#sources.isNodeLocal, source, decision);
    return obstacle === undefined ? 'node_local' : 'tunnel';
  }

  /** Both are pods of this proxy. */
  #isServedBeside(source: Workload, workload: Workload | undefined): boolean {
    const isUp = ({ namespace, name }: Workload): boolean =>
      this.#sources.podState(namespace, name) === 'Up';
    return workload !== undefined && isUp(source) && isUp(workload);
  }

  #sayRetries(
    source: Workload,
    decision: RequestDecision,
    decide: (exclude: ReadonlySet<string>) => RequestDecision,
  ): void {
    if (decision.kind === 'refuse' || decision.kind === 'resolve') return;
    if (decision.workload === undefined) return;
    const isJoined = this.#pathOf(source, decision) === 'node_local';
    const { others, pauseMs } = explainRetries(decide, decision, isJoined);
    const names = others.map(({ workload }) => (workload === undefined ? '' : nameOf(workload)));
    this.#retries.push(...names);
    const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
    const next = names.length === 0 ? '' : `${names.slice(0, MAX_NAMES).join(', ')}${more}`;
    const again = pauseMs === undefined ? '' : `again after ${pauseMs} ms, and later`;
    const what = [next, again].filter(Boolean).join(', then ') || 'nothing else is tried';
    this.#say('retry', `if that connect fails: ${what}`, 'info');
  }

  #sayWaypoint(decision: RequestDecision, waypoint: Workload['waypoint']): void {
    if (decision.kind === 'double_hbone' && decision.hop === 'waypoint') {
      const detail = `the destination has a waypoint, in network ${decision.remote.network}`;
      this.#say('waypoint', `${detail}: it is connected to through that network’s gateway`);
    } else if (decision.kind === 'hbone' && decision.hop === 'waypoint') {
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
    const chosen = decision.kind === 'double_hbone' ? decision.remote : decision.workload;
    this.#candidates = explainCandidates(store, query, chosen?.uid);
    const eligible = this.#candidates.filter(({ isEligible }) => isEligible);
    const mode = service.loadBalancer.mode === 'STANDARD' ? '' : ` (${service.loadBalancer.mode})`;
    const count = `${eligible.length} of ${this.#candidates.length} endpoints can take port ${port}`;
    this.#say('balance', `${count}${mode}`, eligible.length > 0 ? 'ok' : 'info');
  }

  #sayTransport(source: Workload, decision: RequestDecision): void {
    switch (decision.kind) {
      case 'refuse':
        this.#refuse('decision', decision.reason, decision.detail);
        return;
      case 'hbone':
        this.#sayPath(source, decision);
        if (this.#pathOf(source, decision) === 'node_local') return;
        this.#say(
          'transport',
          `mutual TLS to ${joinHostPort(decision.address, decision.port)} for ${decision.authority}, which must prove to be ${decision.expectedIdentities.join(' or ')}`,
        );
        return;
      case 'double_hbone':
        this.#say(
          'gateway',
          `${nameOf(decision.remote)} is in network ${decision.remote.network}; its gateway’s pod ${nameOf(decision.workload ?? decision.remote)} is connected to, and chooses there`,
        );
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

  /** Whether two pods of this node are joined without a tunnel. */
  #sayPath(source: Workload, decision: Extract<RequestDecision, { kind: 'hbone' }>): void {
    const { workload } = decision;
    if (workload === undefined || !this.#isServedBeside(source, workload)) return;
    const obstacle = nodeLocalObstacle(this.#sources.isNodeLocal, source, decision);
    if (obstacle === undefined) {
      const detail = `${nameOf(workload)} is on this node: joined in one hop without TLS`;
      this.#say('transport', `${detail}; identities and policies as over a tunnel`);
    } else this.#say('path', `both pods are on this node, but ${obstacle}: a tunnel`, 'info');
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
      decision: this.#decision === undefined ? null : describeDecision(this.#decision, this.#path),
      steps: this.#steps,
      candidates: this.#candidates,
      retries: this.#retries,
      policies: this.#policies,
    };
  }
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

function describeDecision(decision: RequestDecision, path: WhyDecision['path']): WhyDecision {
  const { kind, workload, service } = decision;
  return {
    kind,
    hop: 'hop' in decision ? decision.hop : null,
    path,
    address: 'address' in decision ? decision.address : null,
    port: 'port' in decision ? decision.port : null,
    authority: 'authority' in decision ? decision.authority : null,
    workload: workload === undefined ? null : nameOf(workload),
    service: service === undefined ? null : serviceKey(service),
    expectedIdentities: 'expectedIdentities' in decision ? decision.expectedIdentities : [],
    innerIdentities: 'innerIdentities' in decision ? decision.innerIdentities : [],
  };
}
