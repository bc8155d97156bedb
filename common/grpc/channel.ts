// A gRPC client channel to the control plane as Istio's proxies open it: TLS with a root read from a file, a
// bearer token read for each call (tokens rotate), the cluster id as a header. Used by the xDS and CA clients.
import { readFileSync, existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext, getCACertificates } from 'node:tls';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { MeshError, errorMessage } from '../errors.ts';

/** Where the control plane is and how it is trusted. */
export interface ControlPlaneAddress {
  /** `https://host:port`, `http://host:port`, or `host:port` (TLS). */
  readonly address: string;
  /** Path of a PEM file, `SYSTEM`, or the PEM itself. */
  readonly root: string;
  /** Second accepted server name. */
  readonly altHostname?: string;
  /** Path of a token file, or a literal token; undefined sends no token. */
  readonly token?: string;
  readonly clusterId: string;
  /** More metadata for each call. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** As for tunnels; Istio's proxies speak nothing older to istiod either. */
const CONTROL_PLANE_TLS = {
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256',
} as const;

const MAX_MESSAGE_BYTES = 200 << 20;

/** Opens a channel; it connects on first use and reads the root now. Throws `MeshError` when it cannot. */
export function openChannel(target: ControlPlaneAddress): Client {
  const url = parseAddress(target.address);
  const options = {
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.keepalive_permit_without_calls': 1,
    // Our callers do the backing off; the channel's own would add to it.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2000,
    'grpc.enable_http_proxy': 0,
    // Two channels to one address must not share a dead connection made with an older root.
    'grpc.use_local_subchannel_pool': 1,
    // An address is no server name: ask for the certificate's own.
    ...(isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0 && target.altHostname !== undefined
      ? { 'grpc.ssl_target_name_override': target.altHostname }
      : {}),
  };
  if (url.protocol === 'http:') return new Client(url.host, credentials.createInsecure(), options);
  const secure = createSecureContext({ ca: readRoot(target.root), ...CONTROL_PLANE_TLS });
  const tls = credentials.createFromSecureContext(secure, {
    checkServerIdentity: (hostname, cert) => {
      const problem = checkServerIdentity(hostname, cert);
      if (problem === undefined || target.altHostname === undefined) return problem;
      return checkServerIdentity(target.altHostname, cert);
    },
  });
  return new Client(url.host, tls, options);
}

/** Metadata of one call; the token file is read again each time. */
export function callMetadata(target: ControlPlaneAddress): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(target.headers ?? {})) metadata.set(name, value);
  if (target.token === undefined) return metadata;
  metadata.set('authorization', `Bearer ${readToken(target.token)}`);
  metadata.set('clusterid', target.clusterId);
  return metadata;
}

/** `host:port` gets `https://` in front; anything unparseable is an `invalid_address`. */
export function parseAddress(address: string): URL {
  const text = address.includes('://') ? address : `https://${address}`;
  try {
    return new URL(text);
  } catch (err) {
    throw new MeshError('invalid_address', `not a control plane address: "${address}"`, {
      cause: err,
    });
  }
}

function readRoot(root: string): string {
  if (root === 'SYSTEM') return getCACertificates('system').join('\n');
  if (root.includes('-----BEGIN')) return root;
  try {
    return readFileSync(root, 'utf8');
  } catch (err) {
    throw new MeshError(
      'root_unreadable',
      `cannot read root certificate ${root}: ${errorMessage(err)}`,
    );
  }
}

function readToken(token: string): string {
  if (!token.startsWith('/') && !token.startsWith('./') && !existsSync(token)) return token;
  let text: string;
  try {
    text = readFileSync(token, 'utf8').trim();
  } catch (err) {
    throw new MeshError('token_unreadable', `cannot read token ${token}: ${errorMessage(err)}`);
  }
  if (text === '') throw new MeshError('token_unreadable', `token file ${token} is empty`);
  return text;
}
