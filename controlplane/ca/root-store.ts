// The CA's Secrets with Istio's names and keys, so that replacing Istio's control plane keeps the mesh's trust:
// `cacerts` of an operator, and the self-signed root of `istio-ca-secret`. The latter is created if absent; of two
// control planes that create it, one wins and both use it.
import { createRoot } from '../../common/identity/ca.ts';
import type { CaMaterial, RootMaterial } from '../../common/identity/ca.ts';
import type { Clock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { KINDS } from '../../common/kube/resource.ts';

const SECRET_NAME = 'istio-ca-secret';
const CERT_KEY = 'ca-cert.pem';
const PRIVATE_KEY = 'ca-key.pem';

/** An operator's Secret: a signing certificate with its key, its chain, and the roots that the mesh trusts. */
export const PLUGGED_SECRET = 'cacerts';
const CHAIN_KEY = 'cert-chain.pem';
const ROOTS_KEY = 'root-cert.pem';
const REVOCATIONS_KEY = 'ca-crl.pem';

/** What is read of a Secret. */
export interface SecretObject {
  readonly data?: Readonly<Record<string, string>>;
}

/** Reads the root, or creates it with an organisation of the trust domain. */
export async function loadRoot(
  client: KubeClient,
  namespace: string,
  trustDomain: string,
  clock: Clock,
): Promise<RootMaterial> {
  const ref = { kind: KINDS.secrets, namespace, name: SECRET_NAME };
  const found = await client.get<SecretObject>(ref);
  if (found !== undefined) return materialOf(found, SECRET_NAME);
  const root = createRoot(trustDomain, clock);
  try {
    await client.create(KINDS.secrets, {
      metadata: { name: SECRET_NAME, namespace },
      type: 'istio.io/ca-root',
      data: {
        [CERT_KEY]: base64(root.certPem),
        [PRIVATE_KEY]: base64(root.keyPem),
        [CHAIN_KEY]: '',
        'key.pem': '',
        [ROOTS_KEY]: '',
      },
    });
    return root;
  } catch (err) {
    if (!isKubeStatus(err, 409)) throw err;
    return materialOf((await client.get<SecretObject>(ref)) ?? {}, SECRET_NAME);
  }
}

/** What `cacerts` says. Throws `invalid_root` when a key is missing. */
export function pluggedMaterial(secret: SecretObject): CaMaterial {
  const { data } = secret;
  const roots = data?.[ROOTS_KEY];
  if (roots === undefined) {
    throw new MeshError('invalid_root', `secret ${PLUGGED_SECRET} lacks ${ROOTS_KEY}`);
  }
  return {
    ...materialOf(secret, PLUGGED_SECRET),
    chainPem: textOf(data?.[CHAIN_KEY] ?? ''),
    rootsPem: textOf(roots),
  };
}

/** The revocation lists beside it; empty without. */
export function pluggedRevocations({ data }: SecretObject): string {
  return textOf(data?.[REVOCATIONS_KEY] ?? '');
}

function materialOf({ data }: SecretObject, name: string): RootMaterial {
  const cert = data?.[CERT_KEY];
  const key = data?.[PRIVATE_KEY];
  if (cert === undefined || key === undefined) {
    throw new MeshError('invalid_root', `secret ${name} lacks ${CERT_KEY} or ${PRIVATE_KEY}`);
  }
  return { certPem: textOf(cert), keyPem: textOf(key) };
}

function textOf(base64Text: string): string {
  return Buffer.from(base64Text, 'base64').toString('utf8');
}

function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}
