// How to reach the Kubernetes API: inside a pod by its service account, outside by a kubeconfig. Static
// credentials (token, token file, client certificate) are read here, because loading @kubernetes/client-node costs
// 70 MB and 0.7 s; it is loaded only for credentials that run a plugin (exec, OIDC).
import { existsSync, readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { MeshError, errorMessage } from '../errors.ts';

/** TLS options of a connection. */
export interface ConnectionTls {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/** Where the API is and how requests are authenticated. */
export interface KubeConnection {
  readonly server: URL;
  readonly tls: ConnectionTls;
  /** Dialled instead of the server's own address; the server's name is still what is verified. */
  readonly connect?: ConnectAddress;
  /** Namespace of the context, or of the pod. */
  readonly namespace: string;
  /** The Authorization header, read anew because tokens rotate; undefined without one. */
  authorization(): Promise<string | undefined>;
}

/** An address to dial. */
export interface ConnectAddress {
  readonly host: string;
  readonly port: number;
}

/** Options of {@link loadConnection}. */
export interface ConnectionOptions {
  /** Path of a kubeconfig; without it the pod's service account is used. */
  readonly kubeconfig?: string;
  readonly context?: string;
  /** KUBERNETES_SERVICE_HOST and _PORT. */
  readonly serviceHost?: string;
  readonly servicePort?: string;
  readonly serviceAccountDir?: string;
}

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
const TOKEN_REREAD_MS = 10_000;

interface NamedCluster {
  readonly name: string;
  readonly cluster: {
    readonly server: string;
    readonly 'certificate-authority'?: string;
    readonly 'certificate-authority-data'?: string;
    readonly 'insecure-skip-tls-verify'?: boolean;
    readonly 'tls-server-name'?: string;
  };
}

interface KubeUser {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly exec?: unknown;
  readonly 'auth-provider'?: unknown;
  readonly username?: string;
  readonly password?: string;
}

interface KubeconfigFile {
  readonly 'current-context'?: string;
  readonly clusters?: readonly NamedCluster[];
  readonly users?: ReadonlyArray<{ readonly name: string; readonly user: KubeUser }>;
  readonly contexts?: ReadonlyArray<{
    readonly name: string;
    readonly context: {
      readonly cluster: string;
      readonly user: string;
      readonly namespace?: string;
    };
  }>;
}

/** Loads the connection; throws `kube_config` with the reason when there is none. */
export async function loadConnection(options: ConnectionOptions): Promise<KubeConnection> {
  if (options.kubeconfig === undefined) return inCluster(options);
  const file = resolve(options.kubeconfig);
  let config: KubeconfigFile;
  try {
    config = parse(readFileSync(file, 'utf8')) as KubeconfigFile;
  } catch (err) {
    throw new MeshError('kube_config', `cannot read kubeconfig ${file}: ${errorMessage(err)}`);
  }
  const contextName = options.context ?? config['current-context'] ?? '';
  const context = config.contexts?.find(({ name }) => name === contextName)?.context;
  const cluster = config.clusters?.find(({ name }) => name === context?.cluster)?.cluster;
  const user = config.users?.find(({ name }) => name === context?.user)?.user ?? {};
  if (context === undefined || cluster === undefined) {
    throw new MeshError('kube_config', `kubeconfig ${file} has no usable context "${contextName}"`);
  }
  const base = dirname(file);
  const needsPlugin = user.exec !== undefined || user['auth-provider'] !== undefined;
  return {
    server: new URL(cluster.server),
    namespace: context.namespace ?? 'default',
    tls: needsPlugin ? await pluginTls(file, contextName) : fileTls(cluster, user, base),
    authorization: needsPlugin
      ? await pluginAuthorization(file, contextName)
      : fileAuthorization(user, base),
  };
}

function inCluster(options: ConnectionOptions): KubeConnection {
  const { serviceHost: host, servicePort: port = '443' } = options;
  const dir = options.serviceAccountDir ?? SERVICE_ACCOUNT_DIR;
  if (host === undefined || !existsSync(`${dir}/token`)) {
    throw new MeshError(
      'kube_config',
      'neither KUBECONFIG nor a service account of a pod was found: no Kubernetes API to talk to',
    );
  }
  return {
    server: new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`),
    tls: { ca: readFileSync(`${dir}/ca.crt`) },
    namespace: existsSync(`${dir}/namespace`)
      ? readFileSync(`${dir}/namespace`, 'utf8').trim()
      : 'default',
    authorization: tokenFromFile(`${dir}/token`),
  };
}

function fileTls(cluster: NamedCluster['cluster'], user: KubeUser, base: string): ConnectionTls {
  const ca = material(
    cluster['certificate-authority-data'],
    cluster['certificate-authority'],
    base,
  );
  const cert = material(user['client-certificate-data'], user['client-certificate'], base);
  const key = material(user['client-key-data'], user['client-key'], base);
  const servername = cluster['tls-server-name'];
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(servername === undefined ? {} : { servername }),
    ...(cluster['insecure-skip-tls-verify'] === true ? { rejectUnauthorized: false } : {}),
  };
}

function material(data: string | undefined, path: string | undefined, base: string) {
  if (data !== undefined) return Buffer.from(data, 'base64');
  return path === undefined ? undefined : readFileSync(resolve(base, path));
}

function fileAuthorization(user: KubeUser, base: string): () => Promise<string | undefined> {
  const { token, tokenFile, username, password } = user;
  if (tokenFile !== undefined) return tokenFromFile(resolve(base, tokenFile));
  let header: string | undefined;
  if (token !== undefined) header = `Bearer ${token}`;
  else if (username !== undefined) {
    header = `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}`;
  }
  return () => Promise.resolve(header);
}

function tokenFromFile(path: string): () => Promise<string | undefined> {
  let header: string | undefined;
  let readAt = -TOKEN_REREAD_MS;
  return () => {
    const now = performance.now();
    if (header === undefined || now - readAt >= TOKEN_REREAD_MS) {
      header = `Bearer ${readFileSync(path, 'utf8').trim()}`;
      readAt = now;
    }
    return Promise.resolve(header);
  };
}

async function pluginConfig(file: string, context: string) {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromFile(file);
  config.setCurrentContext(context);
  return config;
}

async function pluginTls(file: string, context: string): Promise<ConnectionTls> {
  const options: RequestOptions = {};
  await (await pluginConfig(file, context)).applyToHTTPSOptions(options);
  const { ca, cert, key, servername, rejectUnauthorized } = options;
  return {
    ...(ca === undefined ? {} : { ca: ca as Buffer }),
    ...(cert === undefined ? {} : { cert: cert as Buffer }),
    ...(key === undefined ? {} : { key: key as Buffer }),
    ...(servername === undefined ? {} : { servername }),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
  };
}

async function pluginAuthorization(
  file: string,
  context: string,
): Promise<() => Promise<string | undefined>> {
  const config = await pluginConfig(file, context);
  return async () => {
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    const headers = new Headers(options.headers as Record<string, string>);
    return headers.get('authorization') ?? undefined;
  };
}
