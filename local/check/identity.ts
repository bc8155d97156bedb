// Each side's certificate carries its SPIFFE id, issued by the control plane from a CSR and a verified token.
// Control: a token that nobody signed and a token for another audience get no certificate.
import { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import { CaClient } from '../../common/grpc/ca-client.ts';
import { buildCsr, generateKeyPair } from '../../common/identity/csr.ts';
import { KINDS } from '../../common/kube/resource.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import type { Pod } from '../cluster-api.ts';
import { hasLine } from './access-log.ts';
import { fail, require, type Bench } from './bench.ts';
import { LAB, openLab, setEnrolled, SERVER_URL } from './lab.ts';
import type { Statement } from './statement.ts';

const SPIFFE = 'spiffe://cluster.local/ns/check/sa';
const CONTROL_PLANE = 'istiod.istio-system.svc';

async function requestToken(bench: Bench, account: string, audience: string): Promise<string> {
  const answer = await bench.api.client.json<{ status: { token: string } }>({
    method: 'POST',
    path: `/api/v1/namespaces/${LAB}/serviceaccounts/${account}/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: [audience], expirationSeconds: 600 },
    },
  });
  return answer.status.token;
}

async function readRoot(bench: Bench): Promise<string> {
  const map = await bench.api.client.get<{ data?: Record<string, string> }>({
    kind: KINDS.configMaps,
    namespace: LAB,
    name: 'istio-ca-root-cert',
  });
  return map?.data?.['root-cert.pem'] ?? fail('no root certificate in the namespace');
}

/** What the pod's HBONE port shows as its certificate; no client certificate is sent. */
function serverCertificate(pod: Pod): Promise<X509Certificate> {
  const host = pod.status?.podIP ?? '';
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: 15008,
      servername: '',
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
    });
    socket.setTimeout(15_000, () => socket.destroy(new Error('no handshake in time')));
    let found: X509Certificate | undefined;
    socket.once('secureConnect', () => {
      found = socket.getPeerX509Certificate();
      socket.destroy();
    });
    socket.on('error', (err: Error) => {
      if (found === undefined) reject(err);
    });
    socket.on('close', () => {
      if (found === undefined) reject(new Error('no certificate was shown'));
      else resolve(found);
    });
  });
}

async function sign(address: string, root: string, token: string): Promise<string> {
  const client = new CaClient({
    address,
    root,
    altHostname: CONTROL_PLANE,
    token,
    clusterId: 'Kubernetes',
  });
  try {
    const csrPem = buildCsr(`${SPIFFE}/client`, generateKeyPair());
    const [leaf] = await client.sign({ csrPem, ttlSec: 600 });
    return leaf ?? fail('the ca answered nothing');
  } finally {
    client.close();
  }
}

async function isRefused(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => false,
    () => true,
  );
}

/** The source identity that the server's node proxy proved and logged. */
function clientIdentity(bench: Bench, ztunnel: Pod): boolean {
  return hasLine(bench.log(ztunnel), {
    direction: 'inbound',
    'src.identity': `${SPIFFE}/client`,
    'dst.identity': `${SPIFFE}/server`,
  });
}

export const identity: Statement = {
  name: 'identity: each side has its SPIFFE id, issued from a CSR and a verified token',
  async verify(bench) {
    const lab = await openLab(bench);
    await setEnrolled(bench, true);
    const root = await readRoot(bench);
    const istiod = await bench.pod('istio-system', 'istiod');
    const address = `https://${joinHostPort(istiod.status?.podIP ?? '', 15_012)}`;
    const forged = `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.e30.AAAA`;
    require(await isRefused(
      sign(address, root, forged),
    ), 'control: a forged token got a certificate');
    const other = await requestToken(bench, 'client', 'https://kubernetes.default.svc');
    require(await isRefused(sign(address, root, other)), 'control: a token for others got one');
    const leaf = await sign(address, root, await requestToken(bench, 'client', 'istio-ca'));
    require(new X509Certificate(leaf).subjectAltName ===
      `URI:${SPIFFE}/client`, 'the control plane signed another name than the token proves');
    const shown = await serverCertificate(lab.server);
    require(shown.subjectAltName ===
      `URI:${SPIFFE}/server`, `the server's side shows ${shown.subjectAltName ?? 'no name'}`);
    require(shown.verify(new X509Certificate(root).publicKey), 'it is not signed by the mesh root');
    const { status } = await bench.get(lab.client, `${SERVER_URL}/get`);
    require(status === 200, `request: status ${status}`);
    const ztunnels = await bench.api.pods('istio-system', 'app=ztunnel');
    const serving = ztunnels.find(({ spec }) => spec?.nodeName === lab.server.spec?.nodeName);
    await bench.until('the proven client identity in the access log', async () =>
      Promise.resolve(serving !== undefined && clientIdentity(bench, serving) ? true : undefined),
    );
    return `${SPIFFE}/client and ${SPIFFE}/server; forged and foreign tokens are refused`;
  },
};
