// Pods and services to Istio's workload API.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput, Pod, Service, ServicePort } from '../../../../common/compile/types.ts';
import {
  AppProtocol,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  TunnelProtocol,
  WorkloadStatus,
  type Service as WdsService,
  type Workload,
} from '../../../../common/workload/gen/workload_pb.ts';
import { MESH, makeConfig, makePod, makeService } from '../../../support/kube-objects.ts';

function workloads(input: Partial<CompileInput>): Workload[] {
  const { addresses } = compile({ mesh: MESH, ...input });
  return [...addresses.values()].flatMap(({ type }) =>
    type.case === 'workload' ? [type.value] : [],
  );
}

function workloadOf(pod: Pod, input: Partial<CompileInput> = {}): Workload {
  const [workload] = workloads({ ...input, pods: [pod] });
  assert.ok(workload);
  return workload;
}

function serviceOf(service: Service, input: Partial<CompileInput> = {}): WdsService {
  const { addresses } = compile({ mesh: MESH, ...input, services: [service] });
  const [found] = [...addresses.values()].flatMap(({ type }) =>
    type.case === 'service' ? [type.value] : [],
  );
  assert.ok(found);
  return found;
}

describe('a pod', () => {
  it('has the uid, addresses and identity that node proxies look up', () => {
    const pod = makePod('a', { ip: '10.1.2.3', spec: { serviceAccountName: 'sa' } });
    const workload = workloadOf(pod);
    assert.equal(workload.uid, 'Kubernetes//Pod/app/a');
    assert.deepEqual(workload.addresses, [Uint8Array.of(10, 1, 2, 3)]);
    assert.equal(workload.serviceAccount, 'sa');
    assert.equal(workload.trustDomain, '');
    assert.equal(workload.clusterId, 'Kubernetes');
    assert.equal(workload.status, WorkloadStatus.HEALTHY);
  });

  it('carries a trust domain that is not the default', () => {
    const { trustDomain } = workloadOf(makePod('a'), { mesh: { ...MESH, trustDomain: 'td' } });
    assert.equal(trustDomain, 'td');
  });

  const tunnels: readonly (readonly [string, Pod, boolean, boolean])[] = [
    ['captured', makePod('a'), true, false],
    ['not captured', makePod('a', { annotations: {} }), false, false],
    [
      'pending',
      makePod('a', { annotations: { 'ambient.istio.io/redirection': 'pending' } }),
      false,
      false,
    ],
    ['leaving', makePod('a', { annotations: { 'ambient-mesh.io/leaving': '1' } }), false, false],
    [
      'a waypoint',
      makePod('a', {
        annotations: {},
        labels: { 'gateway.istio.io/managed': 'istio.io-mesh-controller' },
      }),
      true,
      true,
    ],
    [
      'speaking HBONE itself',
      makePod('a', { annotations: {}, labels: { 'networking.istio.io/tunnel': 'http' } }),
      true,
      true,
    ],
  ];
  for (const [name, pod, hbone, native] of tunnels) {
    it(`${name}: ${hbone ? 'HBONE' : 'no tunnel'}`, () => {
      const workload = workloadOf(pod);
      assert.equal(workload.tunnelProtocol, hbone ? TunnelProtocol.HBONE : TunnelProtocol.NONE);
      assert.equal(workload.nativeTunnel, native);
    });
  }

  it('is unhealthy when not ready and when being deleted', () => {
    assert.equal(workloadOf(makePod('a', { isReady: false })).status, WorkloadStatus.UNHEALTHY);
    const leaving = makePod('a', { meta: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
    assert.equal(workloadOf(leaving).status, WorkloadStatus.UNHEALTHY);
  });

  it('is left out when finished or without an address', () => {
    const done: Pod = { ...makePod('a'), status: { phase: 'Succeeded', podIP: '10.0.0.1' } };
    const pending: Pod = { ...makePod('b'), status: { phase: 'Pending' } };
    assert.deepEqual(workloads({ pods: [done, pending] }), []);
  });

  it('on the host network is marked so', () => {
    const workload = workloadOf(makePod('a', { spec: { hostNetwork: true } }));
    assert.equal(workload.networkMode, NetworkMode.HOST_NETWORK);
  });

  it('takes its locality from the node', () => {
    const labels = { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': 'z' };
    const workload = workloadOf(makePod('a'), {
      nodes: [{ metadata: { name: 'node-a', labels } }],
    });
    assert.equal(workload.locality?.region, 'r');
    assert.equal(workload.locality.zone, 'z');
  });

  const owner = (kind: string, name: string): object => ({
    ownerReferences: [{ kind, name, controller: true }],
  });
  const names: readonly (readonly [string, Pod, string, string, string])[] = [
    ['alone', makePod('a-1'), 'a-1', 'a-1', 'latest'],
    [
      'of a deployment',
      makePod('web-5d4-x', {
        labels: { 'pod-template-hash': '5d4', app: 'shop', version: 'v2' },
        meta: owner('ReplicaSet', 'web-5d4'),
      }),
      'web',
      'shop',
      'v2',
    ],
    [
      'of a stateful set',
      makePod('db-0', { meta: owner('StatefulSet', 'db') }),
      'db',
      'db',
      'latest',
    ],
    [
      'of a cron job',
      makePod('j', { meta: owner('Job', 'tick-28000000') }),
      'tick',
      'tick',
      'latest',
    ],
    [
      'with overrides',
      makePod('a', {
        labels: {
          'service.istio.io/workload-name': 'w',
          'service.istio.io/canonical-name': 'n',
          'service.istio.io/canonical-revision': 'r',
          app: 'x',
        },
      }),
      'w',
      'n',
      'r',
    ],
  ];
  for (const [name, pod, workloadName, canonical, revision] of names) {
    it(`${name} is called ${workloadName}, ${canonical}, ${revision}`, () => {
      const workload = workloadOf(pod);
      assert.deepEqual(
        [workload.workloadName, workload.canonicalName, workload.canonicalRevision],
        [workloadName, canonical, revision],
      );
    });
  }
});

describe('endpoints', () => {
  const pod = makePod('a', {
    labels: { app: 'web' },
    spec: {
      containers: [{ name: 'c', ports: [{ name: 'web', containerPort: 8080 }] }],
      initContainers: [
        { name: 's', restartPolicy: 'Always', ports: [{ name: 'side', containerPort: 9090 }] },
        { name: 'i', ports: [{ name: 'init', containerPort: 7070 }] },
      ],
    },
  });
  const portsFor = (ports: readonly ServicePort[]): unknown => {
    const [workload] = workloads({ pods: [pod], services: [makeService('web', { ports })] });
    const list = workload?.services['app/web.app.svc.cluster.local']?.ports ?? [];
    return list.map(({ servicePort, targetPort }) => [servicePort, targetPort]);
  };

  it('numbers, names, sidecars and defaults resolve; unknown names are left out', () => {
    assert.deepEqual(portsFor([{ port: 80, targetPort: 8081 }]), [[80, 8081]]);
    assert.deepEqual(portsFor([{ port: 80, targetPort: 'web' }]), [[80, 8080]]);
    assert.deepEqual(portsFor([{ port: 80, targetPort: 'side' }]), [[80, 9090]]);
    assert.deepEqual(portsFor([{ port: 80 }]), [[80, 80]]);
    assert.deepEqual(portsFor([{ port: 80, targetPort: 'init' }]), []);
    assert.deepEqual(portsFor([{ port: 80, targetPort: 'nope' }]), []);
  });

  it('are of the same namespace and have every label of the selector', () => {
    const services = [
      makeService('web', { namespace: 'other' }),
      makeService('web', { spec: { selector: { app: 'web', tier: 'x' } } }),
      makeService('empty', { spec: { selector: {} } }),
    ];
    const [workload] = workloads({ pods: [pod], services });
    assert.deepEqual(Object.keys(workload?.services ?? {}), []);
  });

  const slice = (endpoint: object): CompileInput['endpointSlices'] => [
    {
      metadata: {
        name: 'ext-1',
        namespace: 'app',
        labels: { 'kubernetes.io/service-name': 'ext' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 9000 }],
      endpoints: [{ addresses: ['10.9.9.9'], ...endpoint }],
    },
  ];
  const selectorless: Service = {
    metadata: { name: 'ext', namespace: 'app' },
    spec: { clusterIP: '10.96.0.9', ports: [{ name: 'http', port: 80 }] },
  };

  it('of a service without selector are read from its slices', () => {
    const [workload] = workloads({ services: [selectorless], endpointSlices: slice({}) ?? [] });
    assert.equal(workload?.uid, 'Kubernetes/discovery.k8s.io/EndpointSlice/app/ext-1/10.9.9.9');
    assert.equal(workload.networkMode, NetworkMode.HOST_NETWORK);
    assert.equal(workload.services['app/ext.app.svc.cluster.local']?.ports[0]?.targetPort, 9000);
  });

  it('in a slice that name a pod are that pod', () => {
    const targetRef = { kind: 'Pod', name: 'a', namespace: 'app' };
    const found = workloads({
      pods: [pod],
      services: [selectorless],
      endpointSlices: slice({ targetRef }) ?? [],
    });
    assert.deepEqual(
      found.map(({ uid }) => uid),
      ['Kubernetes//Pod/app/a'],
    );
    assert.deepEqual(Object.keys(found[0]?.services ?? {}), ['app/ext.app.svc.cluster.local']);
  });

  it('of a static ServiceEntry are workloads of its hosts', () => {
    const entry = makeConfig('db', {
      hosts: ['db.example.com'],
      addresses: ['240.0.0.1'],
      ports: [{ number: 5432, name: 'tcp', protocol: 'TCP', targetPort: 5433 }],
      resolution: 'STATIC',
      endpoints: [{ address: '192.0.2.1' }],
    });
    const [workload] = workloads({ serviceEntries: [entry] });
    assert.equal(workload?.uid, 'Kubernetes/networking.istio.io/ServiceEntry/app/db/192.0.2.1');
    assert.equal(workload.services['app/db.example.com']?.ports[0]?.targetPort, 5433);
  });

  const selecting = makeConfig('vms', {
    hosts: ['vms.example.com'],
    ports: [
      { number: 80, name: 'http', protocol: 'HTTP', targetPort: 8080 },
      { number: 90, name: 'admin', protocol: 'HTTP' },
    ],
    resolution: 'STATIC',
    workloadSelector: { labels: { app: 'vm' } },
  });
  const portsOf = (workload: Workload | undefined): Record<string, number> =>
    Object.fromEntries(
      (workload?.services['app/vms.example.com']?.ports ?? []).map((port) => [
        String(port.servicePort),
        port.targetPort,
      ]),
    );

  it('of a ServiceEntry with a selector are pods of its namespace', () => {
    const pods = [
      makePod('a', { labels: { app: 'vm' } }),
      makePod('b', { labels: { app: 'other' } }),
      makePod('c', { labels: { app: 'vm' }, namespace: 'elsewhere' }),
    ];
    const found = workloads({ serviceEntries: [selecting], pods });
    assert.deepEqual(
      found.map((one) => [one.name, portsOf(one)]),
      [
        ['a', { 80: 8080, 90: 90 }],
        ['b', {}],
        ['c', {}],
      ],
    );
  });

  it('of a ServiceEntry with a selector are WorkloadEntries, with what they say of themselves', () => {
    const entry = makeConfig(
      'vm-1',
      {
        address: '192.0.2.7',
        ports: { http: 7070 },
        labels: { app: 'vm', version: 'v2' },
        network: 'far',
        locality: 'r/z/s',
        weight: 3,
        serviceAccount: 'vm',
      },
      { labels: { 'networking.istio.io/tunnel': 'http' } },
    );
    const named = makeConfig('vm-2', { address: 'vm.example.com', labels: { app: 'vm' } });
    const idle = makeConfig('vm-3', { address: '192.0.2.9' });
    const entries = { serviceEntries: [selecting], workloadEntries: [entry, named, idle] };
    const found = new Map(workloads(entries).map((one) => [one.name, one]));
    assert.partialDeepStrictEqual(found.get('vm-1'), {
      uid: 'Kubernetes/networking.istio.io/WorkloadEntry/app/vm-1',
      addresses: [Uint8Array.of(192, 0, 2, 7)],
      network: 'far',
      locality: { region: 'r', zone: 'z', subzone: 's' },
      capacity: 3,
      serviceAccount: 'vm',
      canonicalName: 'vm',
      canonicalRevision: 'v2',
      tunnelProtocol: TunnelProtocol.HBONE,
      nativeTunnel: true,
      status: WorkloadStatus.HEALTHY,
    });
    assert.deepEqual(portsOf(found.get('vm-1')), { 80: 7070, 90: 90 });
    assert.equal(found.get('vm-2')?.hostname, 'vm.example.com');
    assert.equal(found.get('vm-2')?.tunnelProtocol, TunnelProtocol.NONE);
    assert.deepEqual(portsOf(found.get('vm-2')), { 80: 8080, 90: 90 });
    assert.deepEqual(found.get('vm-3')?.services, {});
  });

  it('a Service selects WorkloadEntries too; an entry that cannot be used has its verdict', () => {
    const service = makeService('web', { spec: { selector: { app: 'vm' } } });
    const good = makeConfig('vm', { address: '192.0.2.7', labels: { app: 'vm' } });
    const bad = makeConfig('bad', { address: 'no name', labels: { app: 'vm' } });
    const input = { mesh: MESH, services: [service], workloadEntries: [good, bad] };
    const { addresses, verdicts } = compile(input);
    const [vm] = [...addresses.values()].flatMap(({ type }) =>
      type.case === 'workload' ? [type.value] : [],
    );
    assert.ok(Object.hasOwn(vm?.services ?? {}, 'app/web.app.svc.cluster.local'));
    const reasons = verdicts.filter(({ kind }) => kind === 'WorkloadEntry');
    assert.deepEqual(reasons.map(({ name, reason }) => `${name} ${reason}`).sort(), [
      'bad Invalid',
      'vm Accepted',
    ]);
  });

  it('a ServiceEntry does not both select and list, nor take two names in turn', () => {
    const of = (spec: object): string[] => {
      const ports = [{ number: 80, name: 'http', protocol: 'HTTP' }];
      const entry = makeConfig('x', { hosts: ['x.example.com'], ports, ...spec });
      const { verdicts } = compile({ mesh: MESH, serviceEntries: [entry] });
      return verdicts.filter(({ reason }) => reason === 'Invalid').map(({ message }) => message);
    };
    const one = { address: '192.0.2.1' };
    const workloadSelector = { labels: { a: 'b' } };
    assert.match(
      of({ resolution: 'STATIC', endpoints: [one], workloadSelector }).join(),
      /both set/,
    );
    const names = [{ address: 'a.example.com' }, { address: 'b.example.com' }];
    assert.match(of({ resolution: 'DNS_ROUND_ROBIN', endpoints: names }).join(), /at most one/);
    assert.deepEqual(of({ resolution: 'DNS', endpoints: names }), []);
    assert.deepEqual(of({ resolution: 'DNS_ROUND_ROBIN' }), []);
  });
});

describe('a service', () => {
  it('has its host name, address and ports', () => {
    const service = serviceOf(makeService('web', { ip: '10.96.0.5' }));
    assert.equal(service.hostname, 'web.app.svc.cluster.local');
    assert.deepEqual(service.addresses[0]?.address, Uint8Array.of(10, 96, 0, 5));
    assert.equal(service.canonical, true);
    assert.equal(service.ports[0]?.targetPort, 8080);
  });

  it('that is headless has no address; an external name is no service', () => {
    assert.deepEqual(serviceOf(makeService('web', { ip: 'None' })).addresses, []);
    const external = makeService('x', { spec: { type: 'ExternalName' } });
    assert.equal(compile({ mesh: MESH, services: [external] }).addresses.size, 0);
  });

  const protocols: readonly (readonly [ServicePort, AppProtocol])[] = [
    [{ port: 80, name: 'http' }, AppProtocol.HTTP11],
    [{ port: 80, name: 'http-web' }, AppProtocol.HTTP11],
    [{ port: 80, name: 'http2' }, AppProtocol.HTTP2],
    [{ port: 80, name: 'grpc-echo' }, AppProtocol.GRPC],
    [{ port: 80, name: 'grpc-web' }, AppProtocol.HTTP11],
    [{ port: 80, name: 'tcp-x' }, AppProtocol.TCP],
    [{ port: 443, name: 'https' }, AppProtocol.TLS],
    [{ port: 80, name: 'web' }, AppProtocol.UNKNOWN],
    [{ port: 3306 }, AppProtocol.TCP],
    [{ port: 80, name: 'tcp', appProtocol: 'kubernetes.io/h2c' }, AppProtocol.HTTP2],
    [{ port: 80, name: 'web', appProtocol: 'GRPC' }, AppProtocol.GRPC],
  ];
  for (const [port, expected] of protocols) {
    it(`port ${JSON.stringify(port)} is protocol ${expected}`, () => {
      const service = serviceOf(makeService('web', { ports: [port] }));
      assert.equal(service.ports[0]?.appProtocol, expected);
    });
  }

  it('prefers endpoints as its traffic distribution says', () => {
    const { loadBalancing } = serviceOf(
      makeService('web', { spec: { trafficDistribution: 'PreferSameNode' } }),
    );
    assert.equal(loadBalancing?.mode, LoadBalancing_Mode.FAILOVER);
    assert.equal(loadBalancing.routingPreference.at(-1), LoadBalancing_Scope.NODE);
    const annotations = { 'networking.istio.io/traffic-distribution': 'PreferClose' };
    const close = serviceOf(makeService('web', { annotations }));
    assert.equal(close.loadBalancing?.routingPreference.at(-1), LoadBalancing_Scope.ZONE);
    const local = serviceOf(makeService('web', { spec: { internalTrafficPolicy: 'Local' } }));
    assert.equal(local.loadBalancing?.mode, LoadBalancing_Mode.STRICT);
    assert.equal(serviceOf(makeService('web')).loadBalancing, undefined);
  });

  it('that publishes unready addresses allows all of them', () => {
    const service = serviceOf(makeService('web', { spec: { publishNotReadyAddresses: true } }));
    assert.equal(service.loadBalancing?.healthPolicy, LoadBalancing_HealthPolicy.ALLOW_ALL);
  });
});
