// What /debug/why says of a connection: one case for each way a connection can go.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Policy } from '../../../../../common/policy/model.ts';
import type { GatewayAddress, Service, Workload } from '../../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../../common/workload/store.ts';
import { explain } from '../../../../../ztunnel/admin/why/explain.ts';
import type { Explanation } from '../../../../../common/admin/explanation.ts';
import {
  makeMatch,
  makePolicy,
  makeService,
  makeWorkload,
  memberOf,
} from '../../../../support/mesh-builders.ts';

const WAYPOINT: GatewayAddress = {
  kind: 'hostname',
  namespace: 'default',
  hostname: 'waypoint.default.svc.cluster.local',
  port: 15008,
};
const waypointService = makeService('waypoint', '10.96.0.9', {
  ports: [{ servicePort: 15008, targetPort: 15008 }],
});
const waypointPod = makeWorkload('waypoint-pod', '10.0.0.9', {
  serviceAccount: 'waypoint',
  services: {
    'default/waypoint.default.svc.cluster.local': [{ servicePort: 15008, targetPort: 15008 }],
  },
});
const client = makeWorkload('client', '10.0.0.1');
const server = makeWorkload('server', '10.0.0.2', { services: memberOf('web') });
const web = makeService('web', '10.96.0.1');

const denyClient = makePolicy('deny', {
  action: 'DENY',
  rules: [
    [[makeMatch({ principals: [{ kind: 'exact', value: 'cluster.local/ns/default/sa/nobody' }] })]],
    [[makeMatch({ principals: [{ kind: 'suffix', value: '/sa/client' }] })]],
  ],
});
const strict = makePolicy('strict', {
  action: 'DENY',
  rules: [[[makeMatch({ notPrincipals: [{ kind: 'presence' }] })]]],
});

interface World {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly policies?: readonly Policy[];
  readonly certificate?: string;
  /** Pods of this node. */
  readonly here?: readonly string[];
  readonly isNodeLocal?: boolean;
}

function ask(src: string, dst: string, world: World = {}): Explanation {
  const store = new WorkloadStore();
  for (const workload of world.workloads ?? [client, server]) store.upsertWorkload(workload);
  for (const service of world.services ?? [web]) store.upsertService(service);
  return explain(
    {
      store,
      policies: new Map((world.policies ?? []).map((policy) => [policy.key, policy])),
      network: '',
      isNodeLocal: world.isNodeLocal ?? true,
      isSocks5: false,
      podState: (_namespace, name) =>
        (world.here ?? ['client']).includes(name) ? 'Up' : undefined,
      certificateState: () => world.certificate ?? 'Available',
    },
    src,
    dst,
  );
}

const gatewayHost: GatewayAddress = { ...WAYPOINT, hostname: 'gateway.default.svc.cluster.local' };
const gatewayService = makeService('gateway', '10.96.0.8', {
  ports: [{ servicePort: 15008, targetPort: 15008 }],
});
const gatewayPod = makeWorkload('gateway-pod', '192.0.2.1', {
  serviceAccount: 'gateway',
  services: {
    'default/gateway.default.svc.cluster.local': [{ servicePort: 15008, targetPort: 15008 }],
  },
});
const beyond = { network: 'far', ips: [], networkGateway: gatewayHost };
const allowed = { isNodeLocalAllowed: true };

const stepsOf = (explanation: Explanation): string[] =>
  explanation.steps.map(({ step, outcome }) => `${step}:${outcome}`);

interface Case extends World {
  readonly name: string;
  readonly src?: string;
  readonly dst: string;
  readonly isAllowed: boolean;
  readonly reason?: string;
  readonly summary: RegExp;
  readonly steps: readonly string[];
  readonly decision?: object | null;
}

const CASES: readonly Case[] = [
  {
    name: 'a pod by its address',
    dst: '10.0.0.2:8080',
    isAllowed: true,
    summary: /^default\/client may connect to 10\.0\.0\.2:8080$/,
    steps: [
      'source:ok',
      'capture:ok',
      'lookup:ok',
      'waypoint:info',
      'transport:ok',
      'retry:info',
      'certificate:ok',
      'policy:ok',
    ],
    decision: {
      kind: 'hbone',
      hop: 'workload',
      authority: '10.0.0.2:8080',
      workload: 'default/server',
    },
  },
  {
    name: 'a service by a short name',
    dst: 'web:80',
    isAllowed: true,
    summary: /may connect to 10\.96\.0\.1:80$/,
    steps: [
      'source:ok',
      'capture:ok',
      'name:info',
      'lookup:ok',
      'waypoint:info',
      'balance:ok',
      'transport:ok',
      'retry:info',
      'certificate:ok',
      'policy:ok',
    ],
    decision: { service: 'default/web.default.svc.cluster.local', authority: '10.0.0.2:8080' },
  },
  {
    name: 'a service without ready endpoints',
    dst: 'web.default.svc.cluster.local:80',
    workloads: [client, { ...server, isHealthy: false }],
    isAllowed: false,
    reason: 'no_healthy_upstream',
    summary: /no healthy upstream for web/,
    steps: [
      'source:ok',
      'capture:ok',
      'name:info',
      'lookup:ok',
      'waypoint:info',
      'balance:info',
      'decision:refuse',
    ],
    decision: { kind: 'refuse', address: null },
  },
  {
    name: 'a policy that denies the client',
    dst: 'default/server:8080',
    policies: [denyClient],
    isAllowed: false,
    reason: 'policy_denied',
    summary: /may not reach port 8080 of default\/server: explicitly denied by: default\/deny$/,
    steps: [
      'source:ok',
      'capture:ok',
      'name:info',
      'lookup:ok',
      'waypoint:info',
      'transport:ok',
      'retry:info',
      'certificate:ok',
      'policy:refuse',
    ],
  },
  {
    name: 'strict mutual TLS, from within',
    dst: '10.0.0.2:8080',
    policies: [strict],
    isAllowed: true,
    summary: /may connect/,
    steps: [
      'source:ok',
      'capture:ok',
      'lookup:ok',
      'waypoint:info',
      'transport:ok',
      'retry:info',
      'certificate:ok',
      'policy:ok',
    ],
  },
  {
    name: 'strict mutual TLS, from outside',
    src: '192.0.2.7',
    dst: '10.0.0.2:8080',
    policies: [strict],
    isAllowed: false,
    reason: 'policy_denied',
    summary: /^192\.0\.2\.7 cannot connect to 10\.0\.0\.2:8080: a caller without an identity/,
    steps: ['source:info', 'lookup:ok', 'policy:refuse'],
    decision: null,
  },
  {
    name: 'an address outside the mesh',
    dst: '203.0.113.5:443',
    isAllowed: true,
    summary: /may connect/,
    steps: [
      'source:ok',
      'capture:ok',
      'lookup:info',
      'waypoint:info',
      'transport:ok',
      'policy:info',
    ],
    decision: { kind: 'passthrough', workload: null },
  },
  {
    name: 'a waypoint: its policies first, then those of the destination for its identity',
    dst: 'web:80',
    workloads: [client, server, waypointPod],
    services: [{ ...web, waypoint: WAYPOINT }, waypointService],
    policies: [denyClient],
    isAllowed: false,
    reason: 'policy_denied',
    summary: /may not reach port 15008 of default\/waypoint-pod/,
    steps: [
      'source:ok',
      'capture:ok',
      'name:info',
      'lookup:ok',
      'waypoint:ok',
      'transport:ok',
      'retry:info',
      'certificate:ok',
      'policy:refuse',
    ],
    decision: {
      kind: 'hbone',
      hop: 'waypoint',
      authority: '10.96.0.1:80',
      workload: 'default/waypoint-pod',
    },
  },
  {
    name: 'a waypoint that lets it through',
    dst: 'web:80',
    workloads: [client, server, waypointPod],
    services: [{ ...web, waypoint: WAYPOINT }, waypointService],
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...[
        'source:ok',
        'capture:ok',
        'name:info',
        'lookup:ok',
        'waypoint:ok',
        'transport:ok',
        'retry:info',
        'certificate:ok',
        'policy:ok',
      ],
      ...['waypoint:info', 'lookup:ok', 'waypoint:info', 'balance:ok', 'transport:ok', 'policy:ok'],
    ],
  },
  {
    name: 'a waypoint that does not exist',
    dst: 'web:80',
    services: [{ ...web, waypoint: WAYPOINT }],
    isAllowed: false,
    reason: 'unknown_waypoint',
    summary: /waypoint waypoint\.default\.svc\.cluster\.local is not known$/,
    steps: ['source:ok', 'capture:ok', 'name:info', 'lookup:ok', 'decision:refuse'],
  },
  {
    name: 'a source without a certificate',
    dst: '10.0.0.2:8080',
    certificate: 'Unavailable: the authority refused',
    isAllowed: false,
    reason: 'certificate_unavailable',
    summary: /the authority refused$/,
    steps: [
      'source:ok',
      'capture:ok',
      'lookup:ok',
      'waypoint:info',
      'transport:ok',
      'retry:info',
      'certificate:refuse',
      'policy:ok',
    ],
  },
  {
    name: 'an endpoint in another network: its gateway, and who ends the tunnel within',
    dst: 'web:80',
    workloads: [client, { ...server, ...beyond }, gatewayPod],
    services: [web, gatewayService],
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...['source:ok', 'capture:ok', 'name:info', 'lookup:ok', 'waypoint:info', 'balance:ok'],
      ...['gateway:ok', 'transport:ok', 'retry:info', 'certificate:ok', 'policy:info'],
    ],
    decision: {
      kind: 'double_hbone',
      hop: 'workload',
      path: 'double_tunnel',
      address: '192.0.2.1',
      workload: 'default/gateway-pod',
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/gateway'],
      innerIdentities: ['spiffe://cluster.local/ns/default/sa/server'],
    },
  },
  {
    name: 'a waypoint in another network',
    dst: 'web:80',
    workloads: [client, server, { ...waypointPod, ...beyond }, gatewayPod],
    services: [{ ...web, waypoint: WAYPOINT }, waypointService, gatewayService],
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...['source:ok', 'capture:ok', 'name:info', 'lookup:ok', 'waypoint:ok', 'gateway:ok'],
      ...['transport:ok', 'retry:info', 'certificate:ok', 'policy:info'],
    ],
    decision: { kind: 'double_hbone', hop: 'waypoint' },
  },
  {
    name: 'another network without a gateway',
    dst: 'web:80',
    workloads: [client, { ...server, network: 'far', networkGateway: gatewayHost }],
    isAllowed: false,
    reason: 'no_healthy_gateway',
    summary: /network far has no usable gateway/,
    steps: [
      ...['source:ok', 'capture:ok', 'name:info', 'lookup:ok', 'waypoint:info', 'balance:ok'],
      'decision:refuse',
    ],
  },
  {
    name: 'two pods of this node: joined, and no certificate is needed',
    dst: '10.0.0.2:8080',
    workloads: [
      { ...client, ...allowed },
      { ...server, ...allowed },
    ],
    here: ['client', 'server'],
    certificate: 'Initializing',
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...['source:ok', 'capture:ok', 'lookup:ok', 'waypoint:info', 'transport:ok', 'retry:info'],
      'policy:ok',
    ],
    decision: { kind: 'hbone', path: 'node_local' },
  },
  {
    name: 'two pods of this node: policies hold as for a tunnel',
    dst: '10.0.0.2:8080',
    workloads: [
      { ...client, ...allowed },
      { ...server, ...allowed },
    ],
    here: ['client', 'server'],
    policies: [denyClient],
    isAllowed: false,
    reason: 'policy_denied',
    summary: /may not reach port 8080 of default\/server/,
    steps: [
      ...['source:ok', 'capture:ok', 'lookup:ok', 'waypoint:info', 'transport:ok', 'retry:info'],
      'policy:refuse',
    ],
  },
  {
    name: 'two pods of this node that must not be joined',
    dst: '10.0.0.2:8080',
    workloads: [{ ...client, ...allowed }, server],
    here: ['client', 'server'],
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...['source:ok', 'capture:ok', 'lookup:ok', 'waypoint:info', 'path:info', 'transport:ok'],
      ...['retry:info', 'certificate:ok', 'policy:ok'],
    ],
    decision: { kind: 'hbone', path: 'tunnel' },
  },
  {
    name: 'two pods of this node, the path being off',
    dst: '10.0.0.2:8080',
    workloads: [
      { ...client, ...allowed },
      { ...server, ...allowed },
    ],
    here: ['client', 'server'],
    isNodeLocal: false,
    isAllowed: true,
    summary: /may connect/,
    steps: [
      ...['source:ok', 'capture:ok', 'lookup:ok', 'waypoint:info', 'path:info', 'transport:ok'],
      ...['retry:info', 'certificate:ok', 'policy:ok'],
    ],
    decision: { path: 'tunnel' },
  },
];

describe('explain', () => {
  for (const { name, src = 'default/client', dst, ...wanted } of CASES) {
    it(name, () => {
      const found = ask(src, dst, wanted);
      assert.deepEqual(stepsOf(found), wanted.steps);
      assert.equal(found.isAllowed, wanted.isAllowed);
      assert.equal(found.reason, wanted.reason ?? null);
      assert.match(found.summary, wanted.summary);
      if (wanted.decision === null) assert.equal(found.decision, null);
      else assert.partialDeepStrictEqual(found.decision, wanted.decision ?? {});
    });
  }

  it('says of each endpoint whether and how often it is chosen, or why not', () => {
    const members = [
      server,
      makeWorkload('second', '10.0.0.3', { services: memberOf('web'), capacity: 3 }),
      makeWorkload('sick', '10.0.0.4', { services: memberOf('web'), isHealthy: false }),
    ];
    const { candidates } = ask('default/client', 'web:80', { workloads: [client, ...members] });
    assert.deepEqual(
      candidates.map(({ workload, isEligible, detail }) => [workload, isEligible, detail]),
      [
        ['default/server', true, 'usable, chosen for about 25 % of connections'],
        ['default/second', true, 'usable, chosen for about 75 % of connections'],
        ['default/sick', false, 'not ready'],
      ],
    );
    assert.equal(candidates.filter(({ isChosen }) => isChosen).length, 1);
  });

  it('says what is tried when a connect fails, in the order of the retry plan', () => {
    const members = ['b', 'c', 'd'].map((name, at) =>
      makeWorkload(name, `10.0.0.${3 + at}`, { services: memberOf('web') }),
    );
    const retryOf = (found: Explanation): string | undefined =>
      found.steps.find(({ step }) => step === 'retry')?.detail;
    const tunnel = ask('default/client', 'web:80', { workloads: [client, server, ...members] });
    assert.deepEqual(tunnel.retries, ['default/b', 'default/c', 'default/d']);
    assert.match(
      retryOf(tunnel) ?? '',
      /^if that connect fails: default\/b, default\/c, default\/d, then again after 50 ms/,
    );
    const plain = ask('default/client', 'web:80', {
      workloads: [
        client,
        ...[server, ...members].map((one) => ({ ...one, protocol: 'TCP' as const })),
      ],
    });
    assert.deepEqual(plain.retries, ['default/b', 'default/c'], 'two others, and no waiting');
    assert.doesNotMatch(retryOf(plain) ?? '', /again/);
    const joined = ask('default/client', '10.0.0.2:8080', {
      workloads: [
        { ...client, ...allowed },
        { ...server, ...allowed },
      ],
      here: ['client', 'server'],
    });
    assert.match(retryOf(joined) ?? '', /nothing else is tried$/);
    const beside = { ...server, ...beyond, name: 'far', uid: 'far' };
    const remote = ask('default/client', 'web:80', {
      workloads: [client, beside, members[0] ?? server, gatewayPod],
      services: [web, gatewayService],
    });
    assert.deepEqual(remote.decision?.kind, 'double_hbone');
    assert.deepEqual(
      remote.candidates.filter(({ isChosen }) => isChosen).map(({ workload }) => workload),
      ['default/far'],
    );
    assert.deepEqual(remote.retries, ['default/b']);
  });

  it('says of each policy which rule matches and which one decides', () => {
    const shadow = makePolicy('shadow', { ...denyClient, key: 'default/shadow', isDryRun: true });
    const other = makePolicy('other', { action: 'DENY', rules: [] });
    const { policies } = ask('default/client', '10.0.0.2:8080', {
      policies: [shadow, denyClient, other],
    });
    assert.deepEqual(
      policies.map(({ policy, rule, isMatch, isDeciding, detail }) => [
        policy,
        rule,
        isMatch,
        isDeciding,
        detail,
      ]),
      [
        ['default/shadow', 1, true, false, 'rule 1 matches: would deny (dry run)'],
        ['default/deny', 1, true, true, 'rule 1 matches: deny; this decides'],
        ['default/other', null, false, false, 'has no rules, so it matches nothing'],
      ],
    );
  });

  it('finds names as an application would, and says what it cannot find', () => {
    const dump = (src: string, dst: string): unknown => ask(src, dst).summary;
    for (const dst of [
      'web:80',
      'web.default:80',
      'web.default.svc:80',
      'default/web:80',
      '[::ffff:10.96.0.1]:80',
    ]) {
      assert.match(
        String(dump('10.0.0.1', dst)),
        /^default\/client may connect to 10\.96\.0\.1:80/,
        dst,
      );
    }
    for (const [src, dst, text] of [
      ['default/nobody', 'web:80', /^src: no workload/],
      ['default/client', 'nowhere:80', /^dst: no pod or service/],
      ['default/client', 'web', /^dst: "web" is not host:port/],
      ['default/client', 'web:99999', /not a port|not host:port/],
    ] as const) {
      assert.throws(() => dump(src, dst), { code: 'why_query', message: text });
    }
  });
});
