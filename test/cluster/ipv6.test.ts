// Pods with IPv6 alone, and with both: tunnels, the path within a node, services, policy, plaintext and DNS, by the rules
// that the node agent writes.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { buildPodRules, DEFAULT_POD_RULES } from '../../cni/rules/pod-rules.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: 'fd77::1', node: 'a' },
  { name: 'near', ip: 'fd77::2', node: 'a' },
  { name: 'server', ip: 'fd77::3', node: 'b' },
  { name: 'dual', ip: '10.77.0.5', secondIp: 'fd77::5', node: 'b' },
  { name: 'both', ip: '10.77.0.6', secondIp: 'fd77::6', node: 'a' },
  { name: 'outside', ip: 'fd77::9', node: 'none' },
];
const HOSTNAME = 'web.default.svc.cluster.local';
const VIPS = ['10.96.0.1', 'fd96::1'];
/** Nobody is there: only the redirection makes it answer. */
const CLUSTER_DNS = '[fd77::54]:53';
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();

const opened = (node: string, reporter: string, security: string): Promise<number> =>
  mesh.metric(
    node,
    'istio_tcp_connections_opened_total',
    `reporter="${reporter}"`,
    `connection_security_policy="${security}"`,
  );

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  for (const name of ['near', 'server', 'dual']) await mesh.serve(name);
  mesh.proxyEnv['RESOLV_CONF'] = mesh.writeFile('resolv.conf', 'nameserver 127.0.77.53\n');
  await mesh.startNode('a');
  await mesh.startNode('b');
  await mesh.putAddress(`default/${HOSTNAME}`, {
    type: {
      case: 'service',
      value: {
        name: 'web',
        namespace: 'default',
        hostname: HOSTNAME,
        addresses: VIPS.map((vip) => ({ network: '', address: bytesOf(vip) })),
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    },
  });
  const services = { [`default/${HOSTNAME}`]: { ports: [{ servicePort: 80, targetPort: 8080 }] } };
  for (const { name, node } of PODS) {
    if (node === 'none') continue;
    const extensions = node === 'a' ? [{ name: NODE_LOCAL_EXTENSION }] : [];
    await mesh.putPod(name, { extensions, ...(name === 'dual' ? { services } : {}) });
    await mesh.enrol(name);
    await mesh.redirectAsAgent(name);
  }
  mesh.applyRules('client', buildPodRules({ ...DEFAULT_POD_RULES, dnsCapture: true }));
});

after(() => mesh.close());

describe('ipv6', () => {
  it('a tunnel between pods of IPv6 alone keeps the source address', async () => {
    const { status, stdout } = await mesh.ask('client', 'fd77::3');
    assert.deepEqual([status, stdout], [0, 'server saw fd77::1: hello\n']);
    for (const [node, reporter] of [
      ['a', 'source'],
      ['b', 'destination'],
    ] as const) {
      await eventually(
        `${reporter} has counted`,
        async () => (await opened(node, reporter, 'mutual_tls')) === 1,
      );
    }
    await eventually('it has a line', () => mesh.log('b').includes('"src.addr":"[fd77::1]:'));
    await eventually('the other node has one', () =>
      mesh.log('a').includes('"dst.hbone_addr":"[fd77::3]:8080"'),
    );
  });

  it('within a node two pods are joined without a tunnel', async () => {
    const { status, stdout } = await mesh.ask('client', 'fd77::2');
    assert.deepEqual([status, stdout], [0, 'near saw fd77::1: hello\n']);
    await eventually(
      'it is counted',
      async () => (await opened('a', 'source', 'node_local')) === 1,
    );
  });

  it('a pod with both families is reached by each, and keeps its address of each', async () => {
    const seen = async (to: string): Promise<string> => (await mesh.ask('both', to)).stdout;
    assert.equal(await seen('10.77.0.5'), 'dual saw 10.77.0.6: hello\n');
    assert.equal(await seen('fd77::5'), 'dual saw fd77::6: hello\n');
    assert.equal(await seen('fd77::3'), 'server saw fd77::6: hello\n');
  });

  it('a service is reached by its address of either family; a pod of IPv6 alone reaches the pod’s IPv6', async () => {
    for (const vip of VIPS) {
      const { status, stdout } = await mesh.ask('both', vip, 80);
      assert.equal(status, 0, vip);
      assert.match(stdout, /^dual saw (10\.77\.0\.6|fd77::6): hello\n$/, vip);
    }
    const { stdout } = await mesh.ask('client', 'fd96::1', 80);
    assert.equal(stdout, 'dual saw fd77::1: hello\n');
  });

  it('plaintext from outside is served and counted as such', async () => {
    const { status, stdout } = await mesh.ask('outside', 'fd77::3');
    assert.deepEqual([status, stdout], [0, 'server saw fd77::9: hello\n']);
    await eventually(
      'it is counted',
      async () => (await opened('b', 'destination', 'unknown')) === 1,
    );
  });

  it('a policy on a range of IPv6 denies who is in it, by tunnel and within the node', async () => {
    const sourceIps = [{ address: bytesOf('fd77::1'), length: 128 }];
    await mesh.putPolicy('default/deny', {
      name: 'deny',
      namespace: 'default',
      scope: Scope.NAMESPACE,
      action: Action.DENY,
      rules: [{ clauses: [{ matches: [{ sourceIps }] }] }],
    });
    for (const to of ['fd77::2', 'fd77::3', 'fd77::5']) {
      await eventually(`${to} refuses`, async () => (await mesh.ask('client', to)).status === 3);
      assert.equal((await mesh.ask('both', to)).status, 0, to);
    }
    await mesh.putPolicy('default/deny', undefined);
    await eventually('all is allowed again', async () => {
      return (await mesh.ask('client', 'fd77::3')).status === 0;
    });
  });

  it('a tunnel by hand: served for us, refused for another address or our loopback', async () => {
    const identity = 'spiffe://cluster.local/ns/default/sa/outside';
    const knock = (authority: string): Promise<string> =>
      mesh.knock('outside', 'fd77::3', identity, authority);
    assert.equal(await knock('[fd77::3]:8080'), '200');
    for (const authority of ['[fd77::2]:8080', '[::1]:8080', '[fd77::3%eth0]:8080']) {
      assert.equal(await knock(authority), '400', authority);
    }
  });

  it('DNS is captured over IPv6, and answers both families', async () => {
    const ask = async (type: string): Promise<string> =>
      mesh.runScript('client', ['test/support/dns-client.ts', CLUSTER_DNS, type, HOSTNAME]);
    assert.equal(await ask('AAAA'), 'fd96::1');
    assert.equal(await ask('A'), '10.96.0.1');
  });
});
