// The volumes of a pod as directories on this machine. Config maps, secrets, downward fields and tokens are
// written as files (atomically, so that a reader never sees half a token) and written again while the pod runs.
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { MeshError } from '../../common/errors.ts';
import type { ApiClient } from './api.ts';
import type { Mount } from './container-root.ts';
import { fieldValue, resourceValue, type PodAddresses } from './downward.ts';
import type { ConfigReader } from './environment.ts';
import type {
  ConfigMap,
  ConfigSource,
  Container,
  DownwardItem,
  Pod,
  ProjectedSource,
  Secret,
  TokenSource,
  Volume,
} from './objects.ts';

/** Host paths that are shared for real; all others live under the node's rootfs. */
const REAL_HOST_PATHS: Readonly<Record<string, string>> = {
  '/proc': '/proc',
  '/var/run/netns': '/run/netns',
  '/run/netns': '/run/netns',
};

const DEFAULT_TOKEN_SECONDS = 3600;

type Files = Map<string, Buffer>;

interface TokenAnswer {
  readonly status: { readonly token: string; readonly expirationTimestamp: string };
}

/** The directory on this machine that plays a path of the node's file system. */
export function hostPathSource(rootfs: string, path: string): string {
  const clean = normalize(path).replace(/(.)\/$/, '$1');
  return REAL_HOST_PATHS[clean] ?? join(rootfs, clean.replace(/^\/run(?=\/|$)/, '/var/run'));
}

/** Writes the volumes of one pod and keeps them fresh. */
export class PodVolumes {
  readonly #pod: Pod;
  readonly #dir: string;
  readonly #rootfs: string;
  readonly #api: ApiClient;
  readonly #reader: ConfigReader;
  readonly #addresses: PodAddresses;
  /** When each token file must be renewed. */
  readonly #renewAt = new Map<string, number>();

  constructor(
    pod: Pod,
    dirs: { readonly dir: string; readonly rootfs: string },
    api: ApiClient,
    reader: ConfigReader,
    addresses: PodAddresses,
  ) {
    this.#pod = pod;
    this.#dir = dirs.dir;
    this.#rootfs = dirs.rootfs;
    this.#api = api;
    this.#reader = reader;
    this.#addresses = addresses;
  }

  /** Makes or refreshes all volumes; fails when a needed config map or secret does not exist yet. */
  async write(): Promise<void> {
    for (const volume of this.#pod.spec.volumes ?? []) {
      const files = await this.#filesOf(volume);
      const dir = this.#sourceDir(volume);
      if (volume.hostPath === undefined) mkdirSync(dir, { recursive: true });
      for (const [path, content] of files) writeAtomically(join(dir, path), content);
    }
  }

  /** The bind mounts of a container. */
  mounts(container: Container): Mount[] {
    return (container.volumeMounts ?? []).map((mount) => {
      const volume = this.#pod.spec.volumes?.find(({ name }) => name === mount.name);
      if (volume === undefined) {
        throw new MeshError('config_missing', `volume "${mount.name}" not found`);
      }
      const dir = this.#sourceDir(volume);
      const source = mount.subPath === undefined ? dir : join(dir, mount.subPath);
      return { source, target: mount.mountPath, isFile: prepareSource(source) };
    });
  }

  #sourceDir(volume: Volume): string {
    if (volume.hostPath !== undefined) return hostPathSource(this.#rootfs, volume.hostPath.path);
    return join(this.#dir, 'volumes', volume.name);
  }

  async #filesOf(volume: Volume): Promise<Files> {
    const files: Files = new Map();
    if (volume.configMap !== undefined) await this.#addConfig(files, 'configMap', volume.configMap);
    if (volume.secret !== undefined) await this.#addConfig(files, 'secret', volume.secret);
    this.#addDownward(files, volume.downwardAPI?.items);
    for (const source of volume.projected?.sources ?? []) {
      await this.#addProjected(files, volume, source);
    }
    return files;
  }

  async #addProjected(files: Files, volume: Volume, source: ProjectedSource): Promise<void> {
    if (source.configMap !== undefined) await this.#addConfig(files, 'configMap', source.configMap);
    if (source.secret !== undefined) await this.#addConfig(files, 'secret', source.secret);
    this.#addDownward(files, source.downwardAPI?.items);
    if (source.serviceAccountToken !== undefined) {
      await this.#addToken(files, volume, source.serviceAccountToken);
    }
  }

  async #addConfig(
    files: Files,
    kind: 'configMap' | 'secret',
    source: ConfigSource,
  ): Promise<void> {
    const name = source.name ?? source.secretName ?? '';
    const object = await this.#reader[kind](this.#pod.metadata.namespace ?? 'default', name);
    if (object === undefined) {
      if (source.optional === true) return;
      throw new MeshError('config_missing', `${kind.toLowerCase()} "${name}" not found`);
    }
    const encoding = kind === 'secret' ? 'base64' : 'utf8';
    const all = new Map<string, Buffer>();
    for (const [key, value] of Object.entries(object.data ?? {})) {
      all.set(key, Buffer.from(value, encoding));
    }
    for (const [key, value] of Object.entries(binaryData(object))) {
      all.set(key, Buffer.from(value, 'base64'));
    }
    const items = source.items ?? [...all.keys()].map((key) => ({ key, path: key }));
    for (const { key, path } of items) {
      const content = all.get(key);
      if (content !== undefined) files.set(path, content);
      else if (source.optional !== true) {
        throw new MeshError('config_missing', `key ${key} not found in ${kind} ${name}`);
      }
    }
  }

  #addDownward(files: Files, items: readonly DownwardItem[] | undefined): void {
    const [first] = this.#pod.spec.containers;
    for (const { path, fieldRef, resourceFieldRef } of items ?? []) {
      const value =
        fieldRef !== undefined
          ? fieldValue(this.#pod, fieldRef.fieldPath, this.#addresses)
          : first && resourceValue(first, resourceFieldRef?.resource ?? '');
      files.set(path, Buffer.from(value ?? ''));
    }
  }

  async #addToken(files: Files, volume: Volume, source: TokenSource): Promise<void> {
    const file = join(this.#sourceDir(volume), source.path);
    if (Date.now() < (this.#renewAt.get(file) ?? 0)) return;
    const { namespace = 'default', name, uid } = this.#pod.metadata;
    const account = this.#pod.spec.serviceAccountName ?? 'default';
    const answer = await this.#api.create<TokenAnswer>(
      `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          ...(source.audience === undefined ? {} : { audiences: [source.audience] }),
          expirationSeconds: source.expirationSeconds ?? DEFAULT_TOKEN_SECONDS,
          boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
        },
      },
    );
    const lifeMs = Date.parse(answer.status.expirationTimestamp) - Date.now();
    this.#renewAt.set(file, Date.now() + lifeMs * 0.7);
    files.set(source.path, Buffer.from(answer.status.token));
  }
}

function binaryData(object: ConfigMap | Secret): Readonly<Record<string, string>> {
  return (object as ConfigMap).binaryData ?? {};
}

function prepareSource(path: string): boolean {
  try {
    return !statSync(path).isDirectory();
  } catch {
    mkdirSync(path, { recursive: true });
    return false;
  }
}

function writeAtomically(path: string, content: Buffer): void {
  try {
    if (readFileSync(path).equals(content)) return;
  } catch {
    mkdirSync(dirname(path), { recursive: true });
  }
  writeFileSync(`${path}.tmp`, content, { mode: 0o644 });
  renameSync(`${path}.tmp`, path);
}
