// The CA's root in the Secret istio-ca-secret, Istio's names and keys, so that replacing Istio's control plane
// keeps the mesh's trust. Created if absent; of two control planes that create it, one wins and both use it.
import { createRoot } from '../../common/identity/ca.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import type { Clock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import type { KubeClient } from '../../common/kube/client.ts';
import { KINDS } from '../../common/kube/resource.ts';

const SECRET_NAME = 'istio-ca-secret';
const CERT_KEY = 'ca-cert.pem';
const PRIVATE_KEY = 'ca-key.pem';

interface SecretObject {
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
  if (found !== undefined) return materialOf(found);
  const root = createRoot(trustDomain, clock);
  try {
    await client.create(KINDS.secrets, {
      metadata: { name: SECRET_NAME, namespace },
      type: 'istio.io/ca-root',
      data: {
        [CERT_KEY]: base64(root.certPem),
        [PRIVATE_KEY]: base64(root.keyPem),
        'cert-chain.pem': '',
        'key.pem': '',
        'root-cert.pem': '',
      },
    });
    return root;
  } catch (err) {
    if (!isKubeStatus(err, 409)) throw err;
    return materialOf((await client.get<SecretObject>(ref)) ?? {});
  }
}

function materialOf({ data }: SecretObject): RootMaterial {
  const cert = data?.[CERT_KEY];
  const key = data?.[PRIVATE_KEY];
  if (cert === undefined || key === undefined) {
    throw new MeshError(
      'invalid_root',
      `secret ${SECRET_NAME} lacks ${CERT_KEY} or ${PRIVATE_KEY}`,
    );
  }
  return {
    certPem: Buffer.from(cert, 'base64').toString('utf8'),
    keyPem: Buffer.from(key, 'base64').toString('utf8'),
  };
}

function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}
