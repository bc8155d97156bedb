// A mesh config where Istio's ztunnel has it, mounted as a container would have it: /etc/istio/config/mesh is read without
// being told of, and variables win over it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { systemClock } from '../../common/clock.ts';
import { createRoot } from '../../common/identity/ca.ts';
import { freePort } from '../support/free-port.ts';
import { eventually } from '../support/netns-mesh.ts';

const dir = mkdtempSync(join(tmpdir(), 'mesh-mount-'));
after(() => rmSync(dir, { recursive: true, force: true }));

it('mesh config: the file at Istio’s place is read, and variables win over it', async () => {
  const ports = { admin: await freePort(), stats: await freePort(), readiness: await freePort() };
  const { certPem, keyPem } = createRoot('test', systemClock);
  writeFileSync(join(dir, 'root.pem'), certPem + keyPem);
  writeFileSync(
    join(dir, 'mesh'),
    `trustDomain: other.example
defaultConfig:
  discoveryAddress: nowhere.invalid:1
  proxyAdminPort: 1
  statsPort: ${ports.stats}
  proxyMetadata: { ISTIO_META_CLUSTER_ID: from-the-file }
`,
  );
  // The place, in a mount namespace of its own.
  const script = `mount -t tmpfs none /etc && mkdir -p /etc/istio/config &&
    cp "$1/mesh" /etc/istio/config/mesh && exec "$2" ztunnel/main.ts`;
  const proxy = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', dir, process.execPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      XDS_ADDRESS: '',
      FAKE_CA: 'true',
      FAKE_CA_ROOT: join(dir, 'root.pem'),
      INPOD_UDS: join(dir, 'zds.sock'),
      ADMIN_PORT: String(ports.admin),
      READINESS_PORT: String(ports.readiness),
    },
  });
  const exited = once(proxy, 'exit');
  let log = '';
  proxy.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
  try {
    await eventually('its metrics are where the file says', async () => {
      if (proxy.exitCode !== null) throw new Error(log);
      return (await fetch(`http://127.0.0.1:${ports.stats}/metrics`)).status === 200;
    });
    const dump = (await (await fetch(`http://127.0.0.1:${ports.admin}/config_dump`)).json()) as {
      readonly config: { readonly clusterId: string };
    };
    assert.equal(dump.config.clusterId, 'from-the-file');
  } finally {
    proxy.kill('SIGKILL');
    await exited;
  }
});
