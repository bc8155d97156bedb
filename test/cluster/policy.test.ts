// L4 policy at real node proxies: which rule denied, dry runs, and policies that arrive after the record naming them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const CAPTURED = ['client', 'server'];
const SERVER = '10.77.0.3';
type Rules = NonNullable<NonNullable<Parameters<NetnsMesh['putPolicy']>[1]>['rules']>;
const port = (value: number): Rules[number] => ({
  clauses: [{ matches: [{ destinationPorts: [value] }] }],
});

const to = (ip: string): Rules[number] => ({
  clauses: [
    { matches: [{ destinationIps: [{ address: parseIp(ip) ?? new Uint8Array(), length: 32 }] }] },
  ],
});

const publish = (name: string, authorizationPolicies: string[] = []): Promise<void> =>
  mesh.putPod(name, { authorizationPolicies });

/** The lines of node b's proxy that contain the text. */
function lines(text: string): Record<string, unknown>[] {
  return mesh
    .log('b')
    .split('\n')
    .filter((line) => line.includes(text))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const name of CAPTURED) {
    await publish(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('policies at a node proxy', () => {
  it('a denial names the policy and the rule, in the line but not in the metric', async () => {
    await mesh.putPolicy('default/deny', {
      name: 'deny',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [port(1), port(8080)],
    });
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await eventually('it has a line', () => lines('"policy_denied"').length > 0);
    assert.partialDeepStrictEqual(lines('"policy_denied"')[0], { policy: 'default/deny', rule: 1 });
    assert.equal(await mesh.metric('b', 'ambient_connections_refused_total', 'default/deny'), 0);
    await mesh.putPolicy('default/deny', undefined);
  });

  it('a connection to a virtual address is judged by the pod’s address and port, not by those it dialled', async () => {
    const vip = '10.96.0.1';
    const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();
    const ports = [{ servicePort: 80, targetPort: 8080 }];
    const hostname = 'web.default.svc.cluster.local';
    const addresses = [{ network: '', address: bytesOf(vip) }];
    await mesh.putAddress(`default/${hostname}`, {
      type: {
        case: 'service',
        value: { name: 'web', namespace: 'default', hostname, addresses, ports },
      },
    });
    await mesh.putPod('server', { services: { [`default/${hostname}`]: { ports } } });
    const rows = [
      [port(80), 0],
      [port(8080), 3],
      [port(15008), 0],
      [to(vip), 0],
      [to(SERVER), 3],
    ] as const;
    for (const [rule, wanted] of rows) {
      await mesh.putPolicy('default/vip', {
        ...{ name: 'vip', namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY },
        rules: [rule],
      });
      const { status } = await mesh.ask('client', vip, 80);
      assert.equal(status, wanted, JSON.stringify(rule));
    }
    await mesh.putPolicy('default/vip', undefined);
    await publish('server');
  });

  it('a dry run denies nothing, and is counted and logged', async () => {
    await mesh.putPolicy('default/shadow', {
      name: 'shadow',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      dryRun: true,
      rules: [port(8080)],
    });
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
    await eventually('it has a line', () => lines('policy dry run').length > 0);
    assert.partialDeepStrictEqual(lines('policy dry run')[0], {
      would: 'deny',
      policies: 'default/shadow[0]',
      'src.workload': 'client',
    });
    await eventually(
      'it is counted',
      async () => (await mesh.metric('b', 'ambient_policy_dry_run_total', 'result="deny"')) === 1,
    );
    await mesh.putPolicy('default/shadow', undefined);
  });

  it('a named policy that has not arrived: what runs goes on, what is new waits for it', async () => {
    const running = mesh.client('client', SERVER, 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    await publish('server', ['default/late']);
    const asked = mesh.ask('client', SERVER);
    await mesh.putPolicy('default/late', {
      name: 'late',
      namespace: 'default',
      scope: Scope.WORKLOAD_SELECTOR,
      action: Action.ALLOW,
      rules: [port(8080)],
    });
    assert.equal((await asked).status, 0);
    running.stdin?.end('two\n');
    assert.equal(await nextOutput(running), 'server saw 10.77.0.1: two\n');
  });

  it('one that does not arrive refuses with the reason, and not for longer than it is named', async () => {
    await publish('server', ['default/late', 'default/never']);
    assert.equal((await mesh.ask('client', SERVER)).status, 3);
    await eventually('it has a line', () => lines('"policy_missing"').length > 0);
    assert.match(String(lines('"policy_missing"')[0]?.['error']), /not arrived: default\/never$/);
    await publish('server', ['default/late']);
    assert.equal((await mesh.ask('client', SERVER)).status, 0);
  });

  // What changes while a connection runs, whether the connection survives it, and what there was before.
  const deny = { namespace: 'default', scope: Scope.NAMESPACE, action: Action.DENY };
  const allow = { ...deny, action: Action.ALLOW };
  const of = (account: string): Rules[number] => {
    const principal = `cluster.local/ns/default/sa/${account}`;
    const value = { matchType: { case: 'exact' as const, value: principal } };
    return { clauses: [{ matches: [{ principals: [value] }] }] };
  };
  const many = async (rules: (at: number) => Rules): Promise<void> => {
    for (let at = 1; at <= 100; at++)
      await mesh.putPolicy('default/live', { ...deny, name: 'live', rules: rules(at) });
  };
  type Change = readonly [string, () => Promise<void>, boolean, (() => Promise<void>)?];
  const changes: readonly Change[] = [
    [
      'a policy that denies its identity',
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [of('client')] }),
      false,
    ],
    [
      'a policy that denies another identity',
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [of('other')] }),
      true,
    ],
    [
      'a policy for the whole mesh that denies it',
      () =>
        mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', namespace: 'istio-system', scope: Scope.GLOBAL },
          rules: [port(8080)],
        }),
      false,
    ],
    [
      'a policy of another namespace that denies it',
      () =>
        mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', namespace: 'other' },
          rules: [port(8080)],
        }),
      true,
    ],
    [
      'the removal of the policy that allowed it, while another allows something else',
      () => mesh.putPolicy('default/live', undefined),
      false,
      async () => {
        await mesh.putPolicy('default/live', { ...allow, name: 'live', rules: [port(8080)] });
        await mesh.putPolicy('default/else', { ...allow, name: 'else', rules: [port(1)] });
      },
    ],
    [
      'the removal of the only policy, which allowed it',
      () => mesh.putPolicy('default/live', undefined),
      true,
      () => mesh.putPolicy('default/live', { ...allow, name: 'live', rules: [port(8080)] }),
    ],
    [
      'the removal of a policy that denied another port',
      () => mesh.putPolicy('default/live', undefined),
      true,
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [port(1)] }),
    ],
    [
      'a dry run that is meant now',
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [port(8080)] }),
      false,
      () =>
        mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', dryRun: true },
          rules: [port(8080)],
        }),
    ],
    ['a hundred changes that do not deny it', () => many((at) => [port(at)]), true],
    [
      'a hundred changes, of which the last denies it',
      () => many((at) => [port(7980 + at)]),
      false,
    ],
    [
      'a policy that denies another port',
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [port(1)] }),
      true,
    ],
    [
      'a policy that allows it',
      () =>
        mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', action: Action.ALLOW },
          rules: [port(8080)],
        }),
      true,
    ],
    [
      'a dry run that denies it',
      () =>
        mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', dryRun: true },
          rules: [port(8080)],
        }),
      true,
    ],
    [
      'a policy that denies it',
      () => mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [port(8080)] }),
      false,
    ],
    [
      'a record that begins to name a policy that denies it',
      async () => {
        await mesh.putPolicy('default/live', {
          ...{ ...deny, name: 'live', scope: Scope.WORKLOAD_SELECTOR },
          rules: [port(8080)],
        });
        await publish('server', ['default/live']);
      },
      false,
    ],
  ];
  for (const [name, change, survives, prepare] of changes) {
    it(`${name}: what runs ${survives ? 'goes on' : 'ends'}`, async () => {
      await prepare?.();
      const before = lines('"policy_changed"').length;
      const running = mesh.client('client', SERVER, 8080);
      const ended = once(running, 'close');
      running.stdin?.write('one\n');
      await nextOutput(running);
      await change();
      if (survives) {
        running.stdin?.end('two\n');
        assert.match(await nextOutput(running), /: two\n$/);
      } else {
        await ended;
        await eventually('it has a line', () => lines('"policy_changed"').length > before);
        assert.equal(lines('"policy_changed"').length, before + 1, 'one line');
      }
      await publish('server');
      for (const key of ['default/live', 'default/else']) await mesh.putPolicy(key, undefined);
    });
  }

  it('a policy that denies it ends a running plaintext connection too, as the destination', async () => {
    const running = mesh.client('outside', SERVER, 8080);
    running.stdin?.write('one\n');
    await nextOutput(running);
    const ended = once(running, 'close');
    await mesh.putPolicy('default/live', { ...deny, name: 'live', rules: [port(8080)] });
    await ended;
    await eventually('it is counted', async () => {
      const labels = ['response_flags="DENY"', 'connection_security_policy="unknown"'];
      return (await mesh.metric('b', 'istio_tcp_connections_failed_total', ...labels)) === 1;
    });
    await mesh.putPolicy('default/live', undefined);
  });
});
