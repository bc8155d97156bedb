// How far a rotation of the mesh's root has come: for each proxy, which roots its workloads trust and under which root
// their certificates are, against the bundle that the control plane publishes. Pure.
import { X509Certificate } from 'node:crypto';
import { splitPem } from '../common/identity/x509.ts';

/** The certificates of a proxy's config_dump (common/identity/certificate-dump.ts, or Istio's ztunnel); PEM in base64. */
export interface DumpedSecret {
  readonly identity: string;
  readonly state: string;
  readonly certChain?: readonly { readonly pem: string }[];
  readonly rootCerts?: readonly { readonly pem: string }[];
}

/** A proxy as it was asked. */
export interface AskedProxy {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  /** Its certificates, or why it could not be asked. */
  readonly certificates: readonly DumpedSecret[] | { readonly error: string };
}

/** A root certificate by its name and the first eight digits of its SHA-256 fingerprint: names repeat. */
export interface Root {
  readonly id: string;
  readonly subject: string;
  readonly notAfter: string;
}

export interface ProxyProgress {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  /** How many certificates it holds, and how many of them are as the bundle wants them. */
  readonly certificates: number;
  readonly current: number;
  /** Ids of the roots that all of its certificates come with; of others, `+` is in front. */
  readonly trusts: readonly string[];
  /** How many certificates are under each root, by its id; `?` for a root that is not known. */
  readonly signedBy: Readonly<Record<string, number>>;
  /** Empty: nothing is missing. */
  readonly missing: readonly string[];
}

export interface RootProgress {
  /** The published bundle; the root of the signer is first. */
  readonly roots: readonly Root[];
  readonly proxies: readonly ProxyProgress[];
  readonly isComplete: boolean;
}

interface KnownRoot extends Root {
  readonly cert: X509Certificate;
}

/** Compares proxies with the bundle (PEM, the root of the signer first). Throws for a bundle that cannot be read. */
export function rootProgress(bundlePem: string, asked: readonly AskedProxy[]): RootProgress {
  const roots = splitPem(bundlePem).map(readRoot);
  const proxies = asked.map((proxy) => progressOf(roots, proxy));
  return {
    roots: roots.map(({ id, subject, notAfter }) => ({ id, subject, notAfter })),
    proxies,
    isComplete: roots.length > 0 && proxies.every(({ missing }) => missing.length === 0),
  };
}

function readRoot(pem: string): KnownRoot {
  const cert = new X509Certificate(pem);
  return {
    cert,
    id: cert.fingerprint256.replaceAll(':', '').slice(0, 8).toLowerCase(),
    subject: cert.subject.replaceAll('\n', ', '),
    notAfter: cert.validToDate.toISOString(),
  };
}

const fromBase64 = ({ pem }: { readonly pem: string }): string =>
  Buffer.from(pem, 'base64').toString();

/** The root that a chain leads to, of those that came with it and those published; `?`: none. */
function rootOf(chain: readonly X509Certificate[], roots: readonly KnownRoot[]): string {
  for (const each of chain) {
    const found = roots.find(({ cert }) => each.checkIssued(cert) && each.verify(cert.publicKey));
    if (found !== undefined) return found.id;
  }
  return '?';
}

function progressOf(bundle: readonly KnownRoot[], proxy: AskedProxy): ProxyProgress {
  const { name, namespace, node, certificates } = proxy;
  const base = { name, namespace, node };
  if ('error' in certificates) {
    const nothing = { certificates: 0, current: 0, trusts: [], signedBy: {} };
    return { ...base, ...nothing, missing: [`cannot be asked: ${certificates.error}`] };
  }
  const wanted = bundle.map(({ id }) => id);
  const signedBy: Record<string, number> = {};
  const trustedBy = new Map<string, number>();
  const missing = new Map<string, number>();
  const miss = (what: string): void => void missing.set(what, (missing.get(what) ?? 0) + 1);
  let current = 0;
  for (const { state, certChain = [], rootCerts = [] } of certificates) {
    if (certChain.length === 0) {
      miss(`no certificate (${state})`);
      continue;
    }
    const trusted = rootCerts.map((file) => readRoot(fromBase64(file)));
    const chain = certChain.map((file) => new X509Certificate(fromBase64(file)));
    const signer = rootOf(chain, [...trusted, ...bundle]);
    const ids = new Set(trusted.map(({ id }) => id));
    signedBy[signer] = (signedBy[signer] ?? 0) + 1;
    for (const id of ids) trustedBy.set(id, (trustedBy.get(id) ?? 0) + 1);
    const lacks = [
      ...(signer === wanted[0] ? [] : [`under ${signer}, not ${wanted[0] ?? '?'}`]),
      ...wanted.filter((id) => !ids.has(id)).map((id) => `without trust in ${id}`),
      ...[...ids].filter((id) => !wanted.includes(id)).map((id) => `still with trust in ${id}`),
    ];
    if (lacks.length === 0) current++;
    lacks.forEach(miss);
  }
  const held = certificates.filter(({ certChain = [] }) => certChain.length > 0).length;
  return {
    ...base,
    ...{ certificates: certificates.length, current, signedBy },
    trusts: [...trustedBy].map(([id, count]) => (count === held ? id : `+${id}`)),
    missing: [...missing].map(([what, count]) => `${count} ${what}`),
  };
}
