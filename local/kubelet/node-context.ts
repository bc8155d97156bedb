// What everything of one node's process shares: its configuration, the API, events, caches of config objects.
import { join } from 'node:path';
import { isKubeStatus } from '../../common/kube/client.ts';
import { ApiClient } from './api.ts';
import type { NodeConfig } from './config.ts';
import type { ConfigReader } from './environment.ts';
import { EventRecorder } from './events.ts';
import type { ConfigMap, Secret } from './objects.ts';
import { AddressPool } from './pod-network.ts';

export interface NodeContext extends ConfigReader {
  readonly config: NodeConfig;
  readonly api: ApiClient;
  readonly events: EventRecorder;
  readonly addresses: AddressPool;
  /** The directory that plays the node's root file system for hostPath volumes. */
  readonly rootfs: string;
  readonly logDir: string;
}

async function getOrUndefined<T>(api: ApiClient, path: string): Promise<T | undefined> {
  try {
    return await api.get<T>(path);
  } catch (err) {
    if (isKubeStatus(err, 404)) return undefined;
    throw err;
  }
}

/** Opens the API client and the rest of the node's shared parts. */
export async function openContext(config: NodeConfig): Promise<NodeContext> {
  const api = await ApiClient.open(config.kubeconfig, config.api);
  return {
    config,
    api,
    events: new EventRecorder(api, config.name),
    addresses: new AddressPool(config.podCidr),
    rootfs: join(config.dir, 'rootfs'),
    logDir: join(config.stateDir, 'logs'),
    configMap: (namespace, name) =>
      getOrUndefined<ConfigMap>(api, `/api/v1/namespaces/${namespace}/configmaps/${name}`),
    secret: (namespace, name) =>
      getOrUndefined<Secret>(api, `/api/v1/namespaces/${namespace}/secrets/${name}`),
  };
}
