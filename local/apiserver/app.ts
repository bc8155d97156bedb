// Puts the API server together: store, registry, lifecycle, controllers, HTTPS listeners.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { KubeletProxy } from './api/kubelet-proxy.ts';
import { Lifecycle } from './api/lifecycle.ts';
import { ApiHandler } from './api/server.ts';
import { Authenticator } from './auth/authenticator.ts';
import { kubeconfigText, openPki, writePrivate } from './auth/pki.ts';
import type { Pki } from './auth/pki.ts';
import { TokenSigner } from './auth/tokens.ts';
import type { ApiServerConfig } from './config.ts';
import { Controllers } from './controllers/controllers.ts';
import { BUCKETS } from './registry/builtin.ts';
import { Registry } from './registry/registry.ts';
import { lockDirectory } from './storage/lock.ts';
import { Store } from './storage/store.ts';
import { IpAllocator } from './strategy/ip-allocator.ts';
import { buildStrategies } from './strategy/strategies.ts';

/** A running API server. */
export interface ApiServer {
  /** The address in the kubeconfig. */
  readonly url: string;
  readonly kubeconfig: string;
  readonly addresses: readonly string[];
  close(): Promise<void>;
}

interface Running {
  readonly server: Server;
  readonly address: string;
}

const CLOSE_WAIT_MS = 300;

function servingNames(config: ApiServerConfig, allocator: IpAllocator): string[] {
  const service = 'kubernetes.default.svc.cluster.local';
  const advertised = config.advertise === undefined ? [] : [new URL(config.advertise).hostname];
  return [
    'localhost',
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    service,
    '127.0.0.1',
    '::1',
    allocator.at(1),
    ...config.listen.map(({ host }) => host),
    ...advertised.map((name) => name.replace(/^\[|\]$/g, '')),
  ];
}

function listen(
  handler: ApiHandler,
  serving: { cert: string; key: string },
  on: { host: string; port: number } | { fd: number },
): Promise<Running> {
  const server = createServer({ ...serving, ALPNProtocols: ['http/1.1'], minVersion: 'TLSv1.2' });
  server.on('request', (request, response) => handler.request(request, response));
  server.on('upgrade', (request, socket, head) => handler.upgrade(request, socket, head));
  server.keepAliveTimeout = 90_000;
  server.maxRequestsPerSocket = 0;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(on, () => {
      const { address, port } = server.address() as AddressInfo;
      resolve({
        server,
        address: joinHostPort(address, port),
      });
    });
  });
}

/** Follows CustomResourceDefinitions, so that a new one is served before its creation is answered. */
function followDefinitions(store: Store, registry: Registry): void {
  for (const definition of store.values(BUCKETS.crds)) registry.define(definition);
  store.subscribe((event) => {
    if (event.bucket !== BUCKETS.crds) return;
    if (event.type === 'DELETED') registry.undefine(event.object.metadata.name);
    else registry.define(event.object);
  });
}

function kubeletToken(path: string | undefined): () => string {
  return () => (path === undefined ? '' : readFileSync(path, 'utf8').trim());
}

/** Starts the server. */
export async function startApiServer(
  config: ApiServerConfig,
  clock: Clock,
  log: Logger,
): Promise<ApiServer> {
  const unlock = await lockDirectory(config.dataDir);
  const pki: Pki = openPki(config.dataDir);
  const store = new Store(config.dataDir);
  const registry = new Registry();
  followDefinitions(store, registry);
  const allocator = new IpAllocator(config.serviceCidr);
  const lifecycle = new Lifecycle(store, clock, buildStrategies(store, allocator));
  const tokens = new TokenSigner(pki.tokenKey, store, clock);
  const handler = new ApiHandler({
    lifecycle,
    registry,
    tokens,
    kubelets: new KubeletProxy(store, kubeletToken(config.kubeletTokenFile)),
    authenticator: new Authenticator(pki.adminToken, tokens),
    log,
  });
  const serving = pki.issueServing(servingNames(config, allocator));
  const running: Running[] = [];
  for (const on of [...config.listen, ...config.listenFds.map((fd) => ({ fd }))]) {
    running.push(await listen(handler, serving, on));
  }
  const first = (running[0]?.address ?? '')
    .replace('0.0.0.0', '127.0.0.1')
    .replace('[::]', '[::1]');
  const url = config.advertise ?? `https://${first}`;
  const controllers = new Controllers(
    { lifecycle, registry, clock, log },
    {
      caPem: pki.caPem,
      kubernetesIp: allocator.at(1),
      apiUrl: url,
    },
  );
  controllers.start();
  const kubeconfig = kubeconfigText(url, pki.caPem, pki.adminToken);
  if (config.kubeconfigOut !== undefined) writePrivate(config.kubeconfigOut, kubeconfig);
  return {
    url,
    kubeconfig,
    addresses: running.map(({ address }) => address),
    async close() {
      controllers.close();
      await Promise.all(running.map(({ server }) => closeServer(server)));
      store.close();
      unlock();
    },
  };
}

/** Lets short requests end, then cuts the watches off. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), CLOSE_WAIT_MS);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });
}
