// Our node proxy with XDS_ON_DEMAND under istiod, which a double plays from transcripts: what is asked for, when, and
// what is said again after a restart. Needs a network namespace of its own (test/run.ts).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { textOf } from './hbone-peers.ts';
import { Istiod } from './istiod.ts';
import { dial, ProxyProcess } from './proxy.ts';
import { play } from './transcript.ts';

const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const istiod = new Istiod();
const proxy = new ProxyProcess();
const apps: Server[] = [];

/** An application without a mesh that greets and hangs up. */
async function greetAt(ip: string): Promise<void> {
  const app = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`from ${ip}`);
  });
  apps.push(app);
  app.listen(8080, ip);
  await once(app, 'listening');
}

before(async () => {
  const port = await istiod.listen();
  const address = `https://127.0.0.1:${port}`;
  const root = proxy.file('root.pem', istiod.root.certPem);
  proxy.start({
    ...{ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'default/client/client' },
    ...{ XDS_ADDRESS: address, XDS_ROOT_CA: root, ALT_XDS_HOSTNAME: 'istiod.test' },
    ...{ CA_ADDRESS: address, CA_ROOT_CA: root, ALT_CA_HOSTNAME: 'istiod.test' },
    ...{ AUTH_TOKEN: proxy.file('token', 'the-token'), NODE_NAME: 'node-1' },
    ...{ INSTANCE_IP: '10.1.2.3', ISTIO_META_CLUSTER_ID: 'east', POD_NAME: 'ztunnel-x' },
    ...{ POD_NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel', NETWORK: 'here' },
    ...{ UNSTABLE_ENABLE_SOCKS5: 'true', ENABLE_ORIG_SRC: 'false' },
    ...{ XDS_ON_DEMAND: 'true', ISTIO_META_DNS_CAPTURE: 'false' },
  });
  for (const ip of ['127.0.0.2', '127.0.0.3']) await greetAt(ip);
});

after(async () => {
  for (const app of apps) app.close();
  await proxy.close();
  istiod.close();
});

describe('istiod, asked on demand', () => {
  it('is subscribed to no address and all policies; a first answer that was refused leaves the proxy unready, and its own pod is asked for then', () =>
    play('on demand, first policies refused', istiod, proxy));

  it('sends the pod of the proxy, and nothing else is known', () =>
    play('on demand, the pod of the proxy', istiod, proxy));

  it('is asked for an address that is dialled, once, and the connection waits for the answer', async () => {
    const socket = await dial('127.0.0.2', 8080);
    await play('on demand, an address', istiod, proxy);
    assert.equal(await textOf(socket), 'from 127.0.0.2');
    assert.equal(await textOf(await dial('127.0.0.2', 8080)), 'from 127.0.0.2');
    assert.deepEqual(istiod.left, []);
  });

  it('says that nobody has an address by removing it: it is passed by, and not asked for again', async () => {
    const socket = await dial('127.0.0.3', 8080);
    await play('on demand, an address of nobody', istiod, proxy);
    assert.equal(await textOf(socket), 'from 127.0.0.3');
    assert.equal(await textOf(await dial('127.0.0.3', 8080)), 'from 127.0.0.3');
    assert.deepEqual(istiod.left, []);
  });

  it('is told names and versions when it is back, and is not asked again for what is known', async () => {
    await play('on demand, a restart of istiod', istiod, proxy);
    assert.equal(await textOf(await dial('127.0.0.2', 8080)), 'from 127.0.0.2');
    assert.deepEqual(
      istiod.left.filter(({ type }) => type === ADDRESS),
      [],
    );
  });
});
