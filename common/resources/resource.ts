// An Istio or Gateway API object with its spec decoded: typed, with everything that is wrong with it listed.
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { Problems, type Problem } from './problem.ts';
import { isRecord, readMessage } from './read-message.ts';

/** What is read of an object's metadata, with defaults filled in. */
export interface ResourceMeta {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly generation: number | undefined;
  /** Milliseconds since the epoch; 0 when unknown. */
  readonly created: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A decoded object. It is not applied when `isInvalid`. */
export interface Resource<Spec> extends ResourceMeta {
  readonly spec: Spec;
  readonly problems: readonly Problem[];
  readonly isInvalid: boolean;
}

/** Checks a decoded spec beyond its types. */
export type Validator<Spec> = (spec: Spec, problems: Problems, meta: ResourceMeta) => void;

/** Decodes and validates any object; never throws, whatever is given. */
export function readResource<Desc extends DescMessage>(
  kind: string,
  schema: Desc,
  object: unknown,
  validate?: Validator<MessageShape<Desc>>,
): Resource<MessageShape<Desc>> {
  const meta = readMeta(kind, object);
  const problems = new Problems('spec');
  const spec = readMessage(schema, isRecord(object) ? object['spec'] : undefined, problems);
  if (validate !== undefined) validate(spec, problems, meta);
  const isInvalid = problems.list.some((problem) => problem.reason === 'Invalid');
  return { ...meta, spec, problems: problems.list, isInvalid };
}

/** The metadata of any object. */
export function readMeta(kind: string, object: unknown): ResourceMeta {
  const metadata = isRecord(object) ? object['metadata'] : undefined;
  const meta = isRecord(metadata) ? metadata : {};
  const generation = meta['generation'];
  return {
    kind,
    namespace: text(meta['namespace']),
    name: text(meta['name']),
    generation: typeof generation === 'number' ? generation : undefined,
    created: readTime(meta['creationTimestamp']),
    labels: stringMap(meta['labels']),
    annotations: stringMap(meta['annotations']),
  };
}

/** The string entries of an object. */
export function stringMap(value: unknown): Record<string, string> {
  const out: Record<string, string> = {};
  if (!isRecord(value)) return out;
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry === 'string') out[key] = entry;
  }
  return out;
}

/** Oldest first; ties by name and namespace, as Istio breaks them. */
export function byAge(
  a: Pick<ResourceMeta, 'created' | 'name' | 'namespace'>,
  b: Pick<ResourceMeta, 'created' | 'name' | 'namespace'>,
): number {
  if (a.created !== b.created) return a.created - b.created;
  return compareText(`${a.name}.${a.namespace}`, `${b.name}.${b.namespace}`);
}

/** Order of strings by code unit, independent of locale. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function readTime(value: unknown): number {
  const time =
    value instanceof Date
      ? value.getTime()
      : typeof value === 'string'
        ? Date.parse(value)
        : Number.NaN;
  return Number.isNaN(time) ? 0 : time;
}
