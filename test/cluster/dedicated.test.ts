// The dedicated mode: a proxy in the network namespace of its only pod, beside node proxies that serve theirs by ZDS.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';
import { DEDICATED_RULES, DEDICATED_USER, POD_RULES } from '../support/pod-rules.ts';

const mesh = new NetnsMesh();
const logs: Record<string, () => string> = {};

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'own', ip: '10.77.0.1', node: 'x' });
  mesh.addPod({ name: 'marked', ip: '10.77.0.2', node: 'x' });
  mesh.addPod({ name: 'shared', ip: '10.77.0.3', node: 'a' });
  mesh.addPod({ name: 'outside', ip: '10.77.0.5', node: 'none' });
  mesh.addPod({ name: 'taken', ip: '10.77.0.6', node: 'x' });
  for (const name of ['own', 'marked', 'shared']) await mesh.serve(name);
  await mesh.startNode('a');
  for (const name of ['own', 'marked', 'shared']) await mesh.putPod(name);
  await mesh.enrol('shared');
  mesh.applyRules('own', DEDICATED_RULES);
  mesh.applyRules('marked', POD_RULES);
  logs['own'] = await mesh.startDedicated('own', {
    user: DEDICATED_USER,
    // Its peers offer other key exchanges first.
    COMPLIANCE_POLICY: 'pqc',
    USER_TIMEOUT_ENABLED: 'true',
  });
  logs['marked'] = await mesh.startDedicated('marked', { PACKET_MARK: 1337 });
});

after(() => mesh.close());

/** Fetches from a port of the pod itself. */
function fetchIn(pod: string, port: number, path: string): Promise<string> {
  const url = `http://127.0.0.1:${port}${path}`;
  return mesh.runScript(pod, ['--eval', `fetch('${url}').then((a) => a.text()).then(console.log)`]);
}

async function complete(pod: string, ...parts: string[]): Promise<void> {
  await eventually(`${pod} logs ${parts.join()}`, () =>
    (logs[pod]?.() ?? '')
      .split('\n')
      .some((line) => ['connection complete', ...parts].every((part) => line.includes(part))),
  );
}

const TLS_OF = (account: string): string => `spiffe://cluster.local/ns/default/sa/${account}`;

describe('dedicated mode', () => {
  it('carries what its pod sends to a pod of a node proxy over mutual TLS, without any right', async () => {
    const { status, stdout } = await mesh.ask('own', '10.77.0.3');
    assert.equal(stdout, 'shared saw 10.77.0.1: hello\n');
    assert.equal(status, 0);
    await complete('own', '"direction":"outbound"', `"dst.identity":"${TLS_OF('shared')}"`);
    const principal = `source_principal="${TLS_OF('own')}"`;
    await eventually('the node proxy has seen the identity', async () => {
      const closed = 'istio_tcp_connections_closed_total';
      return (await mesh.metric('a', closed, 'reporter="destination"', principal)) === 1;
    });
  });

  it('takes tunnels for its pod; without the right to it shows no foreign source', async () => {
    const { stdout } = await mesh.ask('shared', '10.77.0.1');
    assert.equal(stdout, 'own saw 10.77.0.1: hello\n');
    await complete('own', '"direction":"inbound"', `"src.identity":"${TLS_OF('shared')}"`);
    assert.match(logs['own']?.() ?? '', /ENABLE_ORIG_SRC is off/);
  });

  it('with rights and a mark it serves as a node proxy does: source kept, plaintext too', async () => {
    assert.equal((await mesh.ask('shared', '10.77.0.2')).stdout, 'marked saw 10.77.0.3: hello\n');
    assert.equal((await mesh.ask('outside', '10.77.0.2')).stdout, 'marked saw 10.77.0.5: hello\n');
    await complete('marked', '"direction":"inbound"', `"src.identity":"${TLS_OF('shared')}"`);
    await complete('marked', '"direction":"inbound"', '"src.addr":"10.77.0.5:');
  });

  it('two dedicated proxies reach each other, and policy holds for their pods', async () => {
    assert.equal((await mesh.ask('own', '10.77.0.2')).stdout, 'marked saw 10.77.0.1: hello\n');
    await complete('marked', '"direction":"inbound"', `"src.identity":"${TLS_OF('own')}"`);
    await mesh.putPolicy('default/none', {
      name: 'none',
      namespace: 'default',
      scope: 1,
      action: 1,
      rules: [{}],
    });
    assert.equal((await mesh.ask('own', '10.77.0.2')).status, 3);
    await mesh.putPolicy('default/none', undefined);
    assert.equal((await mesh.ask('own', '10.77.0.2')).status, 0);
  });

  it('is ready, and asks for the certificate of its own pod only', async () => {
    assert.equal(await fetchIn('own', 15_021, '/healthz/ready'), 'ready');
    const dump = JSON.parse(await fetchIn('own', 15_000, '/config_dump')) as {
      certificates: { identity: string }[];
      workloadState: Record<string, { state: string }>;
    };
    assert.deepEqual(
      dump.certificates.map(({ identity }) => identity),
      [TLS_OF('own')],
    );
    assert.equal(dump.workloadState['default/own']?.state, 'Up');
  });

  for (const [what, port] of [
    ['outbound', 15_001],
    ['inbound_plaintext', 15_006],
    ['inbound', 15_008],
    ['dns', 15_053],
  ] as const) {
    it(`test_conflicting_bind_error_${what}: does not start when ${port} is taken, and says so`, async () => {
      const other = await mesh.serve('taken', port);
      const address = await mesh.controlPlaneFor('taken');
      const child = mesh.script('taken', ['ztunnel/main.ts'], {
        ...{ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'default/taken/taken' },
        ...{ XDS_ADDRESS: address, CA_ADDRESS: address },
      });
      let log = '';
      const keep = (chunk: Buffer): void => void (log += chunk.toString());
      child.stdout?.on('data', keep);
      child.stderr?.on('data', keep);
      const [code] = (await once(child, 'close')) as [number | null];
      other.kill('SIGKILL');
      await once(other, 'exit');
      assert.equal(code, 1, log);
      const said = log.split('\n').find((line) => /EADDRINUSE|in use/.test(line)) ?? log;
      assert.match(said, new RegExp(`\\b${port}\\b`));
    });
  }
});
