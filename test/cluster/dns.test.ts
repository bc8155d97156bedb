// The DNS of pods whose port 53 is captured by the node agent's rules: real proxies, real name servers, Node's own
// resolver and a raw socket as clients.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { buildPodRules, DEFAULT_POD_RULES } from '../../cni/rules/pod-rules.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { openDnsUpstream } from '../support/dns-upstream.ts';
import type { DnsUpstream } from '../support/dns-upstream.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'a' },
  { name: 'upstream', ip: '10.77.0.53', node: 'none' },
];
/** Nobody is there: only the redirection makes it answer. */
const CLUSTER_DNS = '10.77.0.54';
const bytesOf = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();

async function putService(name: string, hostname: string, vip?: string): Promise<void> {
  await mesh.putAddress(`default/${hostname}`, {
    type: {
      case: 'service',
      value: {
        name,
        namespace: 'default',
        hostname,
        addresses: vip === undefined ? [] : [{ network: '', address: bytesOf(vip) }],
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    },
  });
}

async function ask(type: string, ...names: string[]): Promise<string[]> {
  const args = ['test/support/dns-client.ts', CLUSTER_DNS, type, ...names];
  return (await mesh.runScript('client', args)).split('\n');
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

/** On this machine's loopback: a name server that only the proxies reach, and that knows little. */
const OWN_DNS = '127.0.77.53';
let own: DnsUpstream;

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.startScript('upstream', ['test/support/dns-upstream.ts', '10.77.0.53', '53']);
  const resolvConf = mesh.writeFile(
    'resolv.conf',
    `nameserver ${OWN_DNS}\nnameserver 10.77.0.53\n`,
  );
  mesh.proxyEnv['RESOLV_CONF'] = resolvConf;
  own = await openDnsUpstream(OWN_DNS, 53, { onlyFor: '.own.test' });
  await mesh.startNode('a', 'holder');
  await mesh.serve('server');
  await putService('web', 'web.default.svc.cluster.local', '10.96.0.1');
  await putService('db', 'db.default.svc.cluster.local');
  await putService('api', 'api.example.com', '240.240.0.1');
  const services = {
    'default/web.default.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8080 }] },
    'default/db.default.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8080 }] },
    'default/api.example.com': { ports: [{ servicePort: 80, targetPort: 8080 }] },
  };
  await mesh.putPod('client');
  await mesh.putPod('server', { services });
  for (const name of ['client', 'server']) {
    await mesh.enrol(name);
    mesh.applyRules(name, 'delete table inet test\n');
    mesh.applyRules(name, buildPodRules({ ...DEFAULT_POD_RULES, dnsCapture: true }));
  }
});

after(async () => {
  own.close();
  await mesh.close();
});

describe('dns of captured pods', () => {
  it('answers services, short names, headless services and service entries from the mesh', async () => {
    const names = ['web.default.svc.cluster.local', 'web', 'db.default', 'api.example.com'];
    assert.deepEqual(await ask('A', ...names), [
      '10.96.0.1',
      '10.96.0.1',
      '10.77.0.3',
      '240.240.0.1',
    ]);
    assert.deepEqual(await ask('AAAA', 'web', 'api.example.com.default.svc.cluster.local'), [
      'ENODATA',
      'ENODATA',
    ]);
    assert.deepEqual(await ask('A', 'api.example.com.default.svc.cluster.local'), ['240.240.0.1']);
  });

  it('forwards the rest to the name servers, from the pod and past its own redirection', async () => {
    assert.deepEqual(await ask('A', 'www.example.org', 'nx.example.org', 'servfail.example.org'), [
      '192.0.2.1',
      'ENOTFOUND',
      'ESERVFAIL',
    ]);
  });

  it('serves TCP: a truncated answer is asked for again', async () => {
    const [found = ''] = await ask('A', 'big.example.org');
    assert.equal(found.split(' ').length, 200);
    const total = await mesh.metric('a', 'istio_dns_upstream_requests_total', 'protocol="tcp"');
    assert.equal(total, 1);
  });

  it('a name that was resolved leads through the mesh', async () => {
    const { stdout } = await mesh.ask('client', '240.240.0.1', 80);
    assert.equal(stdout, 'server saw 10.77.0.1: hello\n');
  });

  it('an endpoint known by name is resolved by the proxy’s own name server', async () => {
    await putService('ext', 'ext.example.com', '240.240.0.2');
    await mesh.putAddress('ext', {
      type: {
        case: 'workload',
        value: {
          uid: 'ext',
          name: 'ext',
          namespace: 'default',
          hostname: 'ip-10-77-0-3.own.test',
          services: {
            'default/ext.example.com': { ports: [{ servicePort: 80, targetPort: 8080 }] },
          },
        },
      },
    });
    const [vip = ''] = await ask('A', 'ext.example.com');
    assert.equal(vip, '240.240.0.2');
    const { stdout } = await mesh.ask('client', vip, 80);
    assert.match(stdout, /^server saw .*: hello\n$/);
    assert.ok(own.seen.some(({ name }) => name === 'ip-10-77-0-3.own.test'));
    const labels = ['hostname="ip-10-77-0-3.own.test"', 'source_workload="client"'];
    assert.equal(await mesh.metric('a', 'istio_on_demand_dns_total', ...labels), 1);
  });

  it('counts queries by type, protocol and asking service', async () => {
    const labels = ['request_query_type="aaaa"', 'source_canonical_service="client"'];
    assert.equal(await mesh.metric('a', 'istio_dns_requests_total', ...labels), 2);
    const upstream = await mesh.metric('a', 'istio_dns_upstream_requests_total', 'type="a"');
    assert.ok(upstream >= 4);
  });

  it('a pod without IPv6 is served over IPv4, its DNS and its connections', async () => {
    mesh.addPod({ name: 'four', ip: '10.77.0.7', node: 'a' });
    for (const link of ['all', 'default', 'lo', 'eth0'])
      await mesh.runProgram('four', 'sysctl', ['-w', `net.ipv6.conf.${link}.disable_ipv6=1`]);
    await mesh.serve('four');
    await mesh.putPod('four');
    await mesh.enrol('four');
    mesh.applyRules('four', 'delete table inet test\n');
    mesh.applyRules('four', buildPodRules({ ...DEFAULT_POD_RULES, dnsCapture: true }));
    const listening = (await mesh.runProgram('four', 'ss', ['-Hltun'])).stdout;
    assert.match(listening, /127\.0\.0\.1:15053/);
    assert.doesNotMatch(listening, /\[::1\]:15053/);
    const args = ['test/support/dns-client.ts', CLUSTER_DNS, 'A', 'web'];
    assert.equal(await mesh.runScript('four', args), '10.96.0.1');
    assert.equal((await mesh.ask('client', '10.77.0.7')).stdout, 'four saw 10.77.0.1: hello\n');
    assert.equal((await mesh.ask('four', '10.77.0.3')).stdout, 'server saw 10.77.0.7: hello\n');
  });

  it('loses no query while its proxy is killed and replaced', async () => {
    const args = ['test/support/dns-client.ts', CLUSTER_DNS, 'repeat', 'web'];
    const child = await mesh.startScript('client', args);
    let stdout = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    const pid = mesh.killProxy('a');
    await eventually('the holder has started another proxy', () => mesh.proxyPid('a') !== pid);
    await eventually('it is ready', () => count(mesh.log('a'), 'proxy is ready') === 2);
    const second = mesh.proxyPid('a');
    await mesh.admin('a', '/replace', 'POST');
    await eventually('the proxy is replaced', () => mesh.proxyPid('a') !== second);
    await mesh.whenReady('a');
    assert.deepEqual(await ask('A', 'web'), ['10.96.0.1']);
    child.stdin?.end();
    await eventually('the client has ended', () => stdout.includes('asked'));
    const { asked, failed } = JSON.parse(stdout) as { asked: number; failed: string[] };
    // How many there are is a matter of how fast the proxies come back.
    assert.ok(asked > 20, `only ${asked} queries`);
    assert.deepEqual(failed, []);
  });

  it('stops with the last answer when it is told to end', async () => {
    assert.deepEqual(await ask('A', 'web'), ['10.96.0.1']);
    assert.equal(await mesh.endProxy('a', 'SIGTERM'), 0);
    assert.ok(!mesh.log('a').includes('dns socket failed'));
  });
});
