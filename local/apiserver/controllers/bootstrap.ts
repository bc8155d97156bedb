// What every cluster has from its first second: the namespaces, the `kubernetes` service and its endpoints.
import { dict } from '../objects.ts';
import type { Dict } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { builtin } from './controller.ts';
import type { ControllerContext } from './controller.ts';

export interface ClusterFacts {
  readonly caPem: string;
  /** Cluster address of the `kubernetes` service. */
  readonly kubernetesIp: string;
  /** Where this server is reached from outside the cluster. */
  readonly apiUrl: string;
}

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];
const HTTPS_PORT = 443;

/** Creates what is missing and corrects the API server's own endpoints. */
export class Bootstrap {
  readonly #context: ControllerContext;
  readonly #facts: ClusterFacts;

  constructor(context: ControllerContext, facts: ClusterFacts) {
    this.#context = context;
    this.#facts = facts;
  }

  run(): void {
    for (const name of NAMESPACES) {
      this.#ensure(BUCKETS.namespaces, undefined, { metadata: { name } });
    }
    const { hostname, port } = new URL(this.#facts.apiUrl);
    const targetPort = port === '' ? HTTPS_PORT : Number(port);
    const address = hostname.replace(/^\[|\]$/g, '');
    this.#ensure(BUCKETS.services, 'default', {
      metadata: {
        name: 'kubernetes',
        labels: { component: 'apiserver', provider: 'kubernetes' },
      },
      spec: {
        clusterIP: this.#facts.kubernetesIp,
        ports: [{ name: 'https', port: HTTPS_PORT, protocol: 'TCP', targetPort }],
      },
    });
    this.#ensure(BUCKETS.endpointSlices, 'default', {
      metadata: { name: 'kubernetes', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
      addressType: 'IPv4',
      ports: [{ name: 'https', port: targetPort, protocol: 'TCP' }],
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
    });
  }

  /** Creates an object, or brings the parts of it that this server owns up to date. */
  #ensure(bucket: string, namespace: string | undefined, body: Dict): void {
    const { lifecycle } = this.#context;
    const resource = builtin(this.#context, bucket);
    const name = String(dict(body['metadata'])['name']);
    const current = lifecycle.store.get(bucket, namespace, name);
    if (current === undefined) {
      lifecycle.create(resource, namespace, body, { manager: 'apiserver' });
      return;
    }
    lifecycle.modify(resource, current, (copy) => {
      for (const member of ['spec', 'ports', 'endpoints']) {
        const wanted = body[member];
        if (Array.isArray(wanted)) copy[member] = wanted;
        else if (wanted !== undefined) copy[member] = { ...dict(copy[member]), ...dict(wanted) };
      }
    });
  }
}
