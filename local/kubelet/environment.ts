// A container's environment: literals with $(VAR) expansion, field references, config maps and secrets.
import { MeshError } from '../../common/errors.ts';
import { fieldValue, resourceValue, type PodAddresses } from './downward.ts';
import type { ConfigMap, Container, EnvVar, KeyRef, Pod, Secret } from './objects.ts';

/** Where config maps and secrets come from; undefined when the object does not exist. */
export interface ConfigReader {
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
}

type EnvMap = Record<string, string>;

/** Expands `$(NAME)` from what is known so far; `$$(NAME)` and unknown names stay. */
export function expand(text: string, known: Readonly<EnvMap>): string {
  return text.replaceAll(/\$\$|\$\(([^)]*)\)/g, (match, name: string | undefined) =>
    match === '$$' ? '$' : (known[name ?? ''] ?? match),
  );
}

function decode(data: Readonly<EnvMap> | undefined): EnvMap {
  return Object.fromEntries(
    Object.entries(data ?? {}).map(([key, value]) => [
      key,
      Buffer.from(value, 'base64').toString(),
    ]),
  );
}

async function read(
  reader: ConfigReader,
  kind: 'configMap' | 'secret',
  namespace: string,
  ref: { readonly name: string; readonly optional?: boolean },
): Promise<Readonly<EnvMap>> {
  const object = await reader[kind](namespace, ref.name);
  if (object === undefined) {
    if (ref.optional === true) return {};
    throw new MeshError('config_missing', `${kind.toLowerCase()} "${ref.name}" not found`);
  }
  return kind === 'secret' ? decode(object.data) : (object.data ?? {});
}

async function keyValue(
  reader: ConfigReader,
  kind: 'configMap' | 'secret',
  namespace: string,
  ref: KeyRef,
): Promise<string | undefined> {
  const value = (await read(reader, kind, namespace, ref))[ref.key];
  if (value === undefined && ref.optional !== true) {
    throw new MeshError('config_missing', `key ${ref.key} not found in ${kind} ${ref.name}`);
  }
  return value;
}

function valueFrom(
  pod: Pod,
  container: Container,
  source: NonNullable<EnvVar['valueFrom']>,
  addresses: PodAddresses,
  reader: ConfigReader,
): Promise<string | undefined> {
  const namespace = pod.metadata.namespace ?? 'default';
  if (source.configMapKeyRef !== undefined) {
    return keyValue(reader, 'configMap', namespace, source.configMapKeyRef);
  }
  if (source.secretKeyRef !== undefined) {
    return keyValue(reader, 'secret', namespace, source.secretKeyRef);
  }
  if (source.resourceFieldRef !== undefined) {
    const { resource, divisor } = source.resourceFieldRef;
    return Promise.resolve(resourceValue(container, resource, divisor));
  }
  return Promise.resolve(fieldValue(pod, source.fieldRef?.fieldPath ?? '', addresses));
}

/** Builds the environment of a container, on top of `base`. */
export async function buildEnvironment(
  pod: Pod,
  container: Container,
  base: Readonly<EnvMap>,
  addresses: PodAddresses,
  reader: ConfigReader,
): Promise<EnvMap> {
  const namespace = pod.metadata.namespace ?? 'default';
  const env: EnvMap = { ...base };
  for (const { prefix = '', configMapRef, secretRef } of container.envFrom ?? []) {
    const from =
      configMapRef === undefined
        ? secretRef && (await read(reader, 'secret', namespace, secretRef))
        : await read(reader, 'configMap', namespace, configMapRef);
    for (const [key, value] of Object.entries(from ?? {})) env[prefix + key] = value;
  }
  for (const { name, value, valueFrom: source } of container.env ?? []) {
    if (source === undefined) env[name] = expand(value ?? '', env);
    else {
      const found = await valueFrom(pod, container, source, addresses, reader);
      if (found !== undefined) env[name] = found;
    }
  }
  return env;
}
