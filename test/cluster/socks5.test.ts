// SOCKS5 in a pod: through the mesh as if redirected, names, our own ports, and not from outside the pod.
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const ANSWER = '050005000001000000000000';

before(async () => {
  mesh.proxyEnv['UNSTABLE_ENABLE_SOCKS5'] = 'true';
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', secondIp: 'fd77::1', node: 'a' });
  mesh.addPod({ name: 'server', ip: '10.77.0.3', secondIp: 'fd77::3', node: 'a' });
  mesh.addPod({ name: 'outside', ip: '10.77.0.5', node: 'none' });
  await mesh.serve('server');
  await mesh.serve('outside');
  await mesh.startNode('a');
  for (const name of ['client', 'server']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

const served = (): Promise<number> =>
  mesh.metric(
    'a',
    'istio_tcp_connections_closed_total',
    'reporter="source"',
    'destination_service_name="web"',
  );
const ask = (host: string, port: number): Promise<string> =>
  mesh.runScript('client', ['test/support/socks5-client.ts', host, String(port)]);

it('socks5: a destination in the mesh is reached by mutual TLS, with what the client sent early', async () => {
  assert.equal(await ask('10.77.0.3', 8080), `${ANSWER} server saw 10.77.0.1: hello`);
  const labels = ['reporter="source"', 'connection_security_policy="mutual_tls"'];
  await eventually('it is counted', async () => {
    const received = await mesh.metric('a', 'istio_tcp_received_bytes_total', ...labels);
    return received === 6;
  });
});

it('socks5: a destination out of the mesh is reached in plaintext', async () => {
  const plain = (): Promise<number> =>
    mesh.metric(
      ...(['a', 'istio_tcp_connections_closed_total', 'reporter="source"'] as const),
      'connection_security_policy="unknown"',
    );
  const before = await plain();
  assert.equal(await ask('10.77.0.5', 8080), `${ANSWER} outside saw 10.77.0.1: hello`);
  await eventually('it is counted', async () => (await plain()) - before === 1);
});

it('socks5: a destination of IPv6 is reached as the pod’s address of that family', async () => {
  assert.equal(await ask('fd77::3', 8080), `${ANSWER} server saw fd77::1: hello`);
});

it('socks5: a name is what the pod’s DNS says, short ones in its namespace', async () => {
  const ports = [{ servicePort: 80, targetPort: 8080 }];
  const hostname = 'web.default.svc.cluster.local';
  await mesh.putAddress(`default/${hostname}`, {
    type: {
      case: 'service',
      value: {
        ...{ name: 'web', namespace: 'default', hostname, ports },
        addresses: [{ network: '', address: Uint8Array.of(10, 96, 0, 1) }],
      },
    },
  });
  await mesh.putPod('server', { services: { [`default/${hostname}`]: { ports } } });
  const before = await served();
  for (const name of ['web', 'web.default', hostname]) {
    assert.equal(await ask(name, 80), `${ANSWER} server saw 10.77.0.1: hello`);
  }
  await eventually('by the service', async () => (await served()) - before === 3);
});

it('socks5: a name that does not resolve is answered as such', async () => {
  assert.match(await ask('nobody.invalid', 80), /^05000504/);
});

it('socks5: what is not supported is answered 7, what cannot be dialled 1', async () => {
  const rows: readonly (readonly [what: string, sent: string, answer: string])[] = [
    ['version 4', '0401', '05070001000000000000'],
    ['only with a password', '050102', '05070001000000000000'],
    ['BIND', '050100' + '05020001', '050005070001000000000000'],
    ['UDP ASSOCIATE', '050100' + '05030001', '050005070001000000000000'],
    ['another type of address', '050100' + '05010002', '050005070001000000000000'],
    ['port 0', '050100' + '050100010a4d00030000', '050005010001000000000000'],
  ];
  for (const [what, sent, answer] of rows) {
    const script = `const s = require('node:net').connect(15080, '127.0.0.1');
      s.write(Buffer.from('${sent}', 'hex'));
      let all = ''; s.on('data', (d) => (all += d.toString('hex')));
      s.on('end', () => console.log(all));`;
    assert.equal(await mesh.runScript('client', ['--eval', script]), answer, what);
  }
});

it('socks5: success is said before anything is dialled', async () => {
  // Then its connection breaks, as that to the server did.
  assert.match(await ask('10.77.0.3', 9), new RegExp(`${ANSWER}$`));
});

it('socks5: our own ports are refused', async () => {
  await ask('127.0.0.1', 15080);
  await eventually('it has its reason', async () => {
    const reason = 'reason="recursive_call"';
    return (await mesh.metric('a', 'ambient_connections_refused_total', reason)) >= 1;
  });
});
