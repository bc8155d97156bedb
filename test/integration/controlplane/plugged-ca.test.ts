// What the control plane's CA signs with, followed in Secrets of a real API server: self-signed, plugged in, rotated,
// spoilt, removed; and the root certificate in every namespace.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../../common/clock.ts';
import { createRoot } from '../../../common/identity/ca.ts';
import type { RootMaterial } from '../../../common/identity/ca.ts';
import type { KubeClient } from '../../../common/kube/client.ts';
import { KINDS } from '../../../common/kube/resource.ts';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { AuthoritySource } from '../../../controlplane/ca/authority-source.ts';
import {
  ConfigMapDistributor,
  REVOCATIONS,
  ROOTS,
} from '../../../controlplane/ca/config-map-distributor.ts';
import type { Distributed } from '../../../controlplane/ca/config-map-distributor.ts';
import { startApiServer } from '../../support/local-api-server.ts';
import type { LocalApiServer } from '../../support/local-api-server.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

const NAMESPACE = 'istio-system';
const stop = new AbortController();
let api: LocalApiServer;
let kube: KubeClient;
let source: AuthoritySource;
let roots: ConfigMapDistributor;
let revocations: ConfigMapDistributor;
let changes = 0;
const next = createRoot('next', systemClock);

const options = {
  clock: systemClock,
  logger: quietLogger(),
  namespace: NAMESPACE,
  trustDomain: 'cluster.local',
};

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await check())) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What `kubectl create secret generic cacerts --from-file=...` and `kubectl apply` do. */
async function plugIn(
  signer: RootMaterial,
  roots: readonly RootMaterial[],
  crlPem?: string,
): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const secret = {
    metadata: { name: 'cacerts', namespace: NAMESPACE },
    data: {
      'ca-cert.pem': base64(signer.certPem),
      'ca-key.pem': base64(signer.keyPem),
      'cert-chain.pem': base64(signer.certPem),
      'root-cert.pem': base64(roots.map(({ certPem }) => certPem).join('')),
      ...(crlPem === undefined ? {} : { 'ca-crl.pem': base64(crlPem) }),
    },
  };
  await kube.apply(KINDS.secrets, secret, 'operator');
}

async function selfSigned(): Promise<RootMaterial> {
  const ref = { kind: KINDS.secrets, namespace: NAMESPACE, name: 'istio-ca-secret' };
  const secret = await kube.get<{ data: Record<string, string> }>(ref);
  const text = (key: string): string =>
    Buffer.from(secret?.data[key] ?? '', 'base64').toString('utf8');
  return { certPem: text('ca-cert.pem'), keyPem: text('ca-key.pem') };
}

/** The configmap of a namespace; undefined where there is none. */
async function distributed(namespace: string, what: Distributed): Promise<string | undefined> {
  const ref = { kind: KINDS.configMaps, namespace, name: what.name };
  const found = await kube.get<{ data: Record<string, string> }>(ref);
  return found?.data[what.key];
}

async function inForce(what: string, roots: readonly RootMaterial[]): Promise<void> {
  const bundle = roots.map(({ certPem }) => certPem).join('');
  await until(what, () => source.current.rootsPem === bundle);
  for (const namespace of [NAMESPACE, 'shop']) {
    await until(
      `${what} in ${namespace}`,
      async () => (await distributed(namespace, ROOTS)) === bundle,
    );
  }
}

before(async () => {
  api = await startApiServer();
  ({ kube } = api);
  const namespaces = new Map<string, KubeObject>();
  for (const name of [NAMESPACE, 'shop']) {
    namespaces.set(name, await kube.create(KINDS.namespaces, { metadata: { name } }));
  }
  const onChange = (): void => {
    changes++;
    roots.noteAll();
  };
  const onRevocations = (): void => revocations.noteAll();
  source = await AuthoritySource.open({ ...options, client: kube, onChange, onRevocations });
  const distribute = (what: Distributed, text: () => string): ConfigMapDistributor => {
    const distributor = new ConfigMapDistributor({
      ...options,
      client: kube,
      what,
      text,
      fieldManager: 'test',
      namespaces: () => namespaces,
    });
    distributor.noteAll();
    void distributor.run(stop.signal);
    return distributor;
  };
  roots = distribute(ROOTS, () => source.current.rootsPem);
  revocations = distribute(REVOCATIONS, () => source.revocationsPem);
  void source.run(stop.signal);
});

after(async () => {
  stop.abort();
  await api.stop();
});

describe('the signer and the roots of the mesh', () => {
  it('are a self-signed root until others are plugged in', async () => {
    await inForce('the self-signed root', [await selfSigned()]);
  });

  it('follow the secret cacerts: both roots, then the new signer, then the new root only', async () => {
    const old = await selfSigned();
    await plugIn(old, [old, next]);
    await inForce('both roots', [old, next]);
    await plugIn(next, [old, next]);
    // The signer's comes first: a change of the signer alone shows in what the proxies watch.
    await inForce('the new signer', [next, old]);
    await plugIn(next, [next]);
    await inForce('the new root only', [next]);
    assert.equal(changes, 3);
  });

  it('stay when the secret is not usable, or is removed', async () => {
    const other = createRoot('other', systemClock);
    await plugIn({ certPem: other.certPem, keyPem: next.keyPem }, [next, other]);
    await plugIn(next, [other]);
    await kube.json({ method: 'DELETE', path: `/api/v1/namespaces/${NAMESPACE}/secrets/cacerts` });
    await plugIn(next, [next, other]);
    await inForce('what is usable again', [next, other]);
    assert.equal(changes, 4);
  });

  it('revocation lists beside them reach every namespace, and are emptied when they are taken away', async () => {
    assert.equal(await distributed('shop', REVOCATIONS), undefined);
    const lists = '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n';
    for (const crlPem of [lists, undefined]) {
      await plugIn(next, [next], crlPem);
      for (const namespace of [NAMESPACE, 'shop']) {
        await until(`the lists in ${namespace}`, async () => {
          return (await distributed(namespace, REVOCATIONS)) === (crlPem ?? '');
        });
      }
    }
    await inForce('the ca beside them', [next]);
  });

  it('a control plane that starts uses what is plugged in, and none that is spoilt', async () => {
    const open = (): Promise<AuthoritySource> =>
      AuthoritySource.open({
        ...options,
        client: kube,
        onChange: () => undefined,
        onRevocations: () => undefined,
      });
    assert.equal((await open()).current.rootsPem, source.current.rootsPem);
    await plugIn(createRoot('stranger', systemClock), [next]);
    await assert.rejects(open(), { code: 'invalid_root' });
  });
});
