// config_dump in the schema that istioctl's ztunnel-config reads: objects have the shapes of the local
// file (5.4), whose reader refuses unknown keys, so that each must survive the way back.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { streamJson } from '../../../../common/telemetry/json-stream.ts';
import type { Policy } from '../../../../common/policy/model.ts';
import { parseLocalState } from '../../../../common/workload/local-file.ts';
import type { Service, Workload } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { buildConfigDump } from '../../../../ztunnel/admin/config-dump.ts';
import { readConfig } from '../../../../ztunnel/config.ts';
import {
  makeMatch,
  makePolicy,
  makeService,
  makeWorkload,
  memberOf,
} from '../../../support/mesh-builders.ts';

type Item = Record<string, unknown>;

function dump(
  workloads: readonly Workload[],
  services: readonly Service[] = [],
  policies: readonly Policy[] = [],
  env: Readonly<Record<string, string>> = {},
): Record<string, unknown> {
  const store = new WorkloadStore();
  for (const workload of workloads) store.upsertWorkload(workload);
  for (const service of services) store.upsertService(service);
  const sources = {
    config: readConfig({ NODE_NAME: 'node-a', AUTH_TOKEN: 'a-secret-token', ...env }),
    store,
    policies: new Map(policies.map((policy) => [policy.key, policy])),
    secrets: [
      { identity: 'spiffe://cluster.local/ns/a/sa/b', certificate: undefined, error: 'refused' },
      { identity: 'spiffe://cluster.local/ns/a/sa/c', certificate: undefined, error: undefined },
    ],
    pods: [
      { uid: 'u1', pod: { name: 'a', namespace: 'n', serviceAccount: 's' }, state: 'Up' as const },
      {
        uid: 'u2',
        pod: { name: 'b', namespace: 'n', serviceAccount: 's' },
        state: 'Pending' as const,
      },
    ],
    connections: [
      {
        uid: 'u1',
        pod: { name: 'a', namespace: 'n', serviceAccount: 's' },
        inbound: [
          {
            src: '10.0.0.1:1',
            originalDst: null,
            actualDst: '10.0.0.2:80',
            protocol: 'HBONE' as const,
          },
        ],
        outbound: [],
      },
    ],
  };
  return JSON.parse([...streamJson(buildConfigDump(sources))].join('')) as Record<string, unknown>;
}

const plain = makeWorkload('plain', '10.0.0.1', { services: memberOf('web') });
const full = makeWorkload('full', '10.0.0.2', {
  protocol: 'TCP',
  isHostNetwork: true,
  isHealthy: false,
  isNativeTunnel: true,
  capacity: 5,
  hostname: 'full.example.org',
  network: 'net',
  locality: { region: '', zone: 'z', subzone: 's' },
  waypoint: { kind: 'hostname', namespace: 'default', hostname: 'w.default.svc', port: 15008 },
  networkGateway: { kind: 'address', network: 'net', ip: '10.9.9.9', port: 15008 },
  applicationTunnel: { protocol: 'PROXY', port: 15088 },
  authorizationPolicies: ['default/allow'],
});
const web = makeService('web', '10.96.0.1');
const rich = makeService('rich', '10.96.0.2', {
  cidrVips: [{ network: 'net', ip: '10.100.0.0', length: 16 }],
  subjectAltNames: ['spiffe://other/ns/x/sa/y'],
  waypoint: { kind: 'address', network: '', ip: '10.0.0.9', port: 15008 },
  weightedWaypoints: [
    {
      destination: {
        kind: 'hostname',
        namespace: 'default',
        hostname: 'v2.default.svc',
        port: 15008,
      },
      weight: 3,
    },
  ],
  loadBalancer: {
    mode: 'FAILOVER',
    routingPreferences: ['NETWORK', 'REGION', 'ZONE'],
    healthPolicy: 'ALLOW_ALL',
  },
  ipFamilies: 'IPV6_ONLY',
  isCanonical: true,
  visibility: 'NAMESPACE',
});
const policy = makePolicy('mixed', {
  scope: 'WORKLOAD_SELECTOR',
  action: 'DENY',
  isDryRun: true,
  rules: [
    [
      [
        makeMatch({
          namespaces: [{ kind: 'exact', value: 'a' }],
          notPrincipals: [{ kind: 'presence' }, { kind: 'suffix', value: '/x' }],
          sourceIps: [{ bytes: Uint8Array.of(10, 0, 0, 0), length: 8 }],
          destinationPorts: [80, 443],
          serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }],
        }),
        makeMatch({ principals: [{ kind: 'prefix', value: 'cluster.local/' }] }),
      ],
    ],
  ],
});

/** Type of a field: a word as by `typeof`, `array`, or the fields of an object. */
type Shape = string | { readonly [field: string]: Shape };

function hasFields(value: unknown, shape: Shape, path = ''): void {
  if (typeof shape === 'string') {
    assert.equal(Array.isArray(value) ? 'array' : typeof value, shape, path);
    return;
  }
  assert.ok(typeof value === 'object' && value !== null, path);
  const fields = new Map<string, unknown>(Object.entries(value));
  for (const [name, one] of Object.entries(shape))
    hasFields(fields.get(name), one, `${path}.${name}`);
}

describe('config_dump', () => {
  it('has the keys of ztunnel, in its order', () => {
    assert.deepEqual(Object.keys(dump([])), [
      'workloads',
      'services',
      'policies',
      'stagedServices',
      'staticConfig',
      'version',
      'config',
      'certificates',
      'workloadState',
    ]);
  });

  it('workloads come back as they were', () => {
    const found = dump([full, plain], [web])['workloads'] as Item[];
    assert.deepEqual(
      found.map(({ uid }) => uid),
      [full.uid, plain.uid],
    );
    // A dump names the services of a workload; the file has their ports too.
    const back = parseLocalState(
      JSON.stringify({ workloads: found.map((one) => ({ ...one, services: {} })) }),
    );
    assert.deepEqual(back.workloads, [full, { ...plain, services: {} }]);
    assert.deepEqual(found[1]?.['services'], ['default/web.default.svc.cluster.local']);
  });

  it('services come back as they were, with their endpoints', () => {
    const found = dump([plain], [web, rich])['services'] as Item[];
    assert.deepEqual(parseLocalState(JSON.stringify({ services: found })).services, [rich, web]);
    assert.deepEqual(found[1]?.['endpoints'], {
      [plain.uid]: { workloadUid: plain.uid, port: { 80: 8080 }, status: 'Healthy' },
    });
    assert.deepEqual(found[0]?.['loadBalancer'], {
      routingPreferences: ['Network', 'Region', 'Zone'],
      mode: 'Failover',
      healthPolicy: 'AllowAll',
    });
    const optional = ['loadBalancer', 'ipFamilies', 'waypoint', 'weightedWaypoints'];
    assert.deepEqual(
      found.map((one) => optional.filter((key) => key in one)),
      [optional, []],
    );
  });

  it('shows endpoints of services that have not come', () => {
    const key = 'default/web.default.svc.cluster.local';
    const endpoint = { workloadUid: plain.uid, port: { 80: 8080 }, status: 'Healthy' };
    assert.deepEqual(dump([plain])['stagedServices'], { [key]: { [plain.uid]: endpoint } });
    assert.deepEqual(dump([plain], [web])['stagedServices'], {});
  });

  it('policies come back as they were', () => {
    const found = dump([], [], [policy])['policies'] as Item[];
    assert.deepEqual(parseLocalState(JSON.stringify({ policies: found })).policies, [policy]);
  });

  it('shows pods with their connections, and certificates that are not there', () => {
    const found = dump([]);
    const connection = {
      src: '10.0.0.1:1',
      originalDst: null,
      actualDst: '10.0.0.2:80',
      protocol: 'HBONE',
    };
    assert.deepEqual(found['workloadState'], {
      u1: {
        state: 'Up',
        connections: { inbound: [connection], outbound: [] },
        info: { name: 'a', namespace: 'n', serviceAccount: 's' },
      },
      u2: {
        state: 'Pending',
        connections: { inbound: [], outbound: [] },
        info: { name: 'b', namespace: 'n', serviceAccount: 's' },
      },
    });
    assert.deepEqual(
      (found['certificates'] as Item[]).map(({ state }) => state),
      ['Unavailable: refused', 'Initializing'],
    );
  });

  it('has every field that istioctl reads, in its type', () => {
    const found = dump([full, plain], [web, rich], [policy]);
    const gateway = { destination: 'string' };
    const workload = {
      ...{ uid: 'string', workloadIps: 'array', protocol: 'string', name: 'string' },
      ...{ namespace: 'string', serviceAccount: 'string', workloadName: 'string' },
      ...{ workloadType: 'string', canonicalName: 'string', canonicalRevision: 'string' },
      ...{ clusterId: 'string', trustDomain: 'string', node: 'string', network: 'string' },
      ...{ status: 'string', hostname: 'string', authorizationPolicies: 'array' },
    };
    const [first, second] = found['workloads'] as Item[];
    hasFields(first, {
      ...workload,
      ...{ waypoint: gateway, networkGateway: gateway, locality: { zone: 'string' } },
      applicationTunnel: { protocol: 'string', port: 'number' },
    });
    hasFields(second, workload);
    const service = {
      ...{ name: 'string', namespace: 'string', hostname: 'string', vips: 'array' },
      ...{ ports: 'object', endpoints: 'object', subjectAltNames: 'array' },
    };
    const [richer, simple] = found['services'] as Item[];
    hasFields(richer, {
      ...service,
      ...{ waypoint: gateway, ipFamilies: 'string' },
      loadBalancer: { mode: 'string', routingPreferences: 'array', healthPolicy: 'string' },
    });
    hasFields(simple, { ...service, ports: { 80: 'number' } });
    const endpoint = { workloadUid: 'string', port: { 80: 'number' } };
    hasFields(simple, { endpoints: { [plain.uid]: endpoint } });
    const [rule] = found['policies'] as Item[];
    const scope = { name: 'string', namespace: 'string', scope: 'string', action: 'string' };
    hasFields(rule, { ...scope, rules: { 0: { 0: { 0: 'object' } } } });
    hasFields(found, {
      certificates: { 0: { identity: 'string', state: 'string', certChain: 'array' } },
      workloadState: {
        u1: {
          state: 'string',
          info: { name: 'string', namespace: 'string', serviceAccount: 'string' },
          connections: {
            inbound: { 0: { src: 'string', actualDst: 'string' } },
            outbound: 'array',
          },
        },
      },
    });
  });

  it('shows the local state in its own form, from the text or the file as it is now', () => {
    const text = [
      'workloads:',
      '- {uid: w1, name: a, namespace: n, workloadIps: [127.0.0.1], protocol: TCP,',
      '   services: {"n/web.n.svc": {80: 8080}}}',
      'services:',
      '- {name: web, namespace: n, hostname: web.n.svc, vips: [/127.10.0.1], ports: {80: 8080}}',
      'policies:',
      '- {name: p, namespace: n, scope: Namespace, action: Allow, dryRun: false,',
      '   rules: [[[{principals: [!Prefix cluster.local/]}]]]}',
    ].join('\n');
    const back = (env: Record<string, string>): unknown =>
      parseLocalState(JSON.stringify(dump([], [], [], env)['staticConfig']));
    assert.deepEqual(back({ LOCAL_XDS: text }), parseLocalState(text));
    const dir = mkdtempSync(join(tmpdir(), 'ambient-dump-'));
    const path = join(dir, 'local.yaml');
    writeFileSync(path, text);
    assert.deepEqual(back({ LOCAL_XDS_PATH: path }), parseLocalState(text));
    rmSync(dir, { recursive: true });
    const gone = dump([], [], [], { LOCAL_XDS_PATH: path })['staticConfig'] as Item;
    assert.match(String(gone['error']), /local\.yaml: ENOENT/);
    assert.deepEqual(dump([])['staticConfig'], { workloads: [], policies: [], services: [] });
    const { config } = dump([], [], [], { LOCAL_XDS: text });
    assert.equal((config as Item)['localXds'], undefined);
  });

  it('tells no secret', () => {
    assert.doesNotMatch(JSON.stringify(dump([plain], [web], [policy])), /a-secret-token|PRIVATE/);
  });
});
