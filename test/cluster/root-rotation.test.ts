// The mesh's root is rotated under load at real node proxies and a real waypoint: new connections all the time, and some that
// live through it all, straight and by the waypoint. Nothing fails, and in the end the old root is trusted by nobody.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import { readCertificate, splitPem } from '../../common/identity/x509.ts';
import { badCertificates } from '../support/bad-certificates.ts';
import { parseIp } from '../../common/workload/ip.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';
import { startWaypoint } from '../support/netns-waypoint.ts';
import type { NetnsWaypoint } from '../support/netns-waypoint.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'shielded', ip: '10.77.0.4', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
  { name: 'waypoint', ip: '10.77.0.8', node: 'none' },
];
const SERVER = '10.77.0.3';
const WAYPOINT = { host: 'waypoint.default.svc.cluster.local', ip: '10.77.0.8', port: 15008 };
const SHIELDED = { host: 'shielded.default.svc.cluster.local', vip: '10.96.0.2', port: 8080 };
const OUTSIDE = 'spiffe://cluster.local/ns/default/sa/outside';
const next = createRoot('next', systemClock);

interface DumpedCertificates {
  readonly certificates: readonly {
    readonly state: string;
    readonly certChain: readonly { readonly pem: string }[];
    readonly rootCerts: readonly { readonly pem: string }[];
  }[];
}

let waypoint: NetnsWaypoint;

const text = (base64: string): string => Buffer.from(base64, 'base64').toString();

/** What the operator's Secret and the kubelet's file do: the CA signs by it, and the proxies' file says so. */
async function step(signer: RootMaterial, roots: readonly RootMaterial[]): Promise<void> {
  const material = { ...signer, rootsPem: roots.map(({ certPem }) => certPem).join('') };
  mesh.replaceCa(material);
  const bundle = new CertificateAuthority(material, systemClock).rootsPem;
  mesh.writeFile('root-cert.pem', bundle);
  const { subject } = readCertificate(signer.certPem);
  await eventually('every proxy has certificates of that signer and those roots', async () => {
    for (const dump of [mesh.configDump('a'), mesh.configDump('b'), waypoint.configDump()]) {
      const { certificates } = (await dump) as unknown as DumpedCertificates;
      for (const { certChain, rootCerts } of certificates) {
        const trusted = rootCerts.map(({ pem }) => text(pem)).join('');
        if (splitPem(trusted).join('') !== splitPem(bundle).join('')) return false;
        if (readCertificate(text(certChain[0]?.pem ?? '')).issuer !== subject) return false;
      }
    }
    return true;
  });
}

const portsOf = (port: number): object => ({ ports: [{ servicePort: port, targetPort: port }] });

/** The service `shielded`, behind the waypoint. */
async function publishShielded(): Promise<void> {
  const put = (host: string, value: object): Promise<void> =>
    mesh.putAddress(`default/${host}`, {
      type: { case: 'service', value: { namespace: 'default', hostname: host, ...value } },
    });
  const bytes = (ip: string): Uint8Array => parseIp(ip) ?? new Uint8Array();
  const address = { case: 'address', value: { address: bytes(WAYPOINT.ip) } } as const;
  await put(SHIELDED.host, {
    ...{ name: 'shielded', addresses: [{ address: bytes(SHIELDED.vip) }] },
    ...{ ...portsOf(SHIELDED.port), waypoint: { destination: address, hboneMtlsPort: 15008 } },
  });
  await put(WAYPOINT.host, { name: 'waypoint', ...portsOf(WAYPOINT.port) });
  await mesh.putPod('waypoint', {
    services: { [`default/${WAYPOINT.host}`]: portsOf(WAYPOINT.port) },
  });
  await mesh.putPod('shielded', {
    services: { [`default/${SHIELDED.host}`]: portsOf(SHIELDED.port) },
  });
}

before(async () => {
  const rootsPath = mesh.writeFile('root-cert.pem', mesh.root.certPem);
  mesh.proxyEnv['CA_ROOT_CA'] = rootsPath;
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  await mesh.serve('server');
  await mesh.serve('shielded');
  await mesh.startNode('a');
  await mesh.startNode('b');
  for (const { name } of PODS.slice(0, 2)) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
  await publishShielded();
  await mesh.enrol('shielded');
  const { host: hostname, vip, port } = SHIELDED;
  const endpoint = { name: 'shielded', ip: '10.77.0.4' };
  const service = { hostname, vip, ports: { [port]: port }, endpoint };
  waypoint = await startWaypoint(mesh, 'waypoint', service, rootsPath);
});

after(() => mesh.close());

/** A connection that stays: lines with their answers, by a server that sees this address. */
function runningConnection(
  host: string,
  sees: string,
): {
  readonly ask: (word: string) => Promise<void>;
  readonly end: () => Promise<number | null>;
} {
  const child = mesh.client('client', host, 8080);
  let answers = '';
  child.stdout?.on('data', (chunk: Buffer) => (answers += chunk.toString()));
  return {
    ask: async (word) => {
      child.stdin?.write(`${word}\n`);
      await eventually(`an answer to ${word}`, () => answers.includes(`saw ${sees}: ${word}`));
    },
    end: async () => {
      const closed = once(child, 'close');
      child.stdin?.end();
      await closed;
      return child.exitCode;
    },
  };
}

describe('rotation of the root', () => {
  it('under load: both roots, the new signer, the new root only; nothing fails, straight or by a waypoint', async () => {
    const old = mesh.root;
    const paths = [
      { host: SERVER, sees: '10.77.0.1' },
      { host: SHIELDED.vip, sees: WAYPOINT.ip },
    ].map(({ host, sees }) => ({
      running: runningConnection(host, sees),
      load: mesh.load('client', host),
    }));
    const go = async (word: string, connections: number): Promise<void> => {
      for (const { running, load } of paths) {
        await load.more(connections);
        await running.ask(word);
      }
    };
    await go('before', 20);
    for (const [name, signer, roots] of [
      ['both', old, [old, next]],
      ['signer', next, [old, next]],
      ['only', next, [next]],
    ] as const) {
      await step(signer, roots);
      await go(name, 40);
    }
    for (const { running, load } of paths) {
      const { served, failures } = await load.end();
      assert.deepEqual(failures, []);
      assert.ok(served > 120, String(served));
      assert.equal(await running.end(), 0);
    }
  });

  it('afterwards a certificate of the old root is worth nothing, one of the new root is', async () => {
    const stale = badCertificates(mesh.root, OUTSIDE).good;
    const fresh = badCertificates(next, OUTSIDE).good;
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, fresh), '200');
    assert.equal(await mesh.misbehave('outside', 'tunnel', SERVER, stale), 'ended');
  });
});
