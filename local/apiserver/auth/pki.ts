// The server's own keys in its data directory: a CA, the token signing key, the administrator's token. The serving
// certificate is made anew at each start, for the addresses of that start; its key stays in memory.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { join } from 'node:path';
import {
  buildCertificate,
  buildName,
  keyIdOf,
  subjectName,
} from '../../../common/identity/x509.ts';
import type { SubjectAltName } from '../../../common/identity/x509.ts';

const DAY_MS = 24 * 3600 * 1000;
const CA_LIFE_MS = 3650 * DAY_MS;
const SERVING_LIFE_MS = 365 * DAY_MS;
const CA_NAME = 'ambient-mesh local API';

export interface Pki {
  readonly caPem: string;
  readonly adminToken: string;
  readonly tokenKey: KeyObject;
  /** A serving certificate and key for these names and addresses. */
  issueServing(names: readonly string[]): { cert: string; key: string };
}

/** Writes a file that only its owner reads, all or nothing. */
export function writePrivate(path: string, content: string): void {
  const next = `${path}.${randomBytes(4).toString('hex')}`;
  writeFileSync(next, content, { mode: 0o600 });
  renameSync(next, path);
}

function loadOrCreate(path: string, create: () => string): string {
  if (!existsSync(path)) writePrivate(path, create());
  return readFileSync(path, 'utf8');
}

function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

const publicDer = (key: KeyObject): Buffer =>
  createPublicKey(key).export({ type: 'spki', format: 'der' });

function selfSigned(key: KeyObject): string {
  const publicKeyDer = publicDer(key);
  const now = Date.now();
  return buildCertificate(
    {
      publicKeyDer,
      organization: CA_NAME,
      sans: [],
      isCa: true,
      notBeforeMs: now - DAY_MS,
      notAfterMs: now + CA_LIFE_MS,
    },
    { nameDer: buildName(CA_NAME), keyId: keyIdOf(publicKeyDer), privateKey: key },
  );
}

/** The 4 or 16 bytes of an address. */
function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string | undefined): number[] =>
    text === undefined || text === '' ? [] : text.split(':').map((part) => parseInt(part, 16));
  const front = groups(head);
  const back = groups(tail);
  const gap = new Array<number>(8 - front.length - back.length).fill(0);
  return Uint8Array.from([...front, ...gap, ...back].flatMap((group) => [group >> 8, group & 255]));
}

const altName = (name: string): SubjectAltName =>
  isIP(name) === 0 ? { kind: 'dns', value: name } : { kind: 'ip', bytes: addressBytes(name) };

/** Loads the directory's keys, making those that are missing. */
export function openPki(dir: string): Pki {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const caKey = createPrivateKey(loadOrCreate(join(dir, 'ca.key'), newKey));
  const caPem = loadOrCreate(join(dir, 'ca.crt'), () => selfSigned(caKey));
  const adminToken = loadOrCreate(join(dir, 'admin.token'), () => randomBytes(24).toString('hex'));
  const tokenKey = createPrivateKey(loadOrCreate(join(dir, 'service-account.key'), newKey));
  return {
    caPem,
    adminToken,
    tokenKey,
    issueServing(names) {
      const key = createPrivateKey(newKey());
      const now = Date.now();
      const cert = buildCertificate(
        {
          publicKeyDer: publicDer(key),
          sans: [...new Set(names)].map(altName),
          isCa: false,
          notBeforeMs: now - DAY_MS,
          notAfterMs: now + SERVING_LIFE_MS,
        },
        {
          nameDer: subjectName(caPem),
          keyId: keyIdOf(publicDer(caKey)),
          privateKey: caKey,
        },
      );
      return { cert, key: key.export({ type: 'pkcs8', format: 'pem' }).toString() };
    },
  };
}

/** A kubeconfig (JSON is YAML) for the administrator. */
export function kubeconfigText(server: string, caPem: string, token: string): string {
  const name = 'ambient-mesh';
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name,
        cluster: {
          server,
          'certificate-authority-data': Buffer.from(caPem).toString('base64'),
        },
      },
    ],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name, context: { cluster: name, user: 'admin' } }],
    'current-context': name,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
