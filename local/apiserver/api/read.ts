// GET: one object, a list (with selectors, limit and continue), as JSON, as a table or as metadata only.
import { isDict } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';
import { parseSelectors } from '../selectors.ts';
import { badRequest, expired, notFound } from '../status-error.ts';
import { jsonOf, keyOf } from '../storage/store.ts';
import type { Store } from '../storage/store.ts';
import { sendJson, sendText } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { buildTable } from '../print/table.ts';
import { servedAs } from './served-as.ts';

export type Form = 'object' | 'table' | 'metadata';

export interface Representation {
  readonly form: Form;
  /** meta.k8s.io version of tables and metadata. */
  readonly version: string;
}

/** The first representation of the Accept header that this server has. */
export function representationOf(exchange: Exchange): Representation {
  for (const option of (exchange.request.headers.accept ?? '').split(',')) {
    const as = /;\s*as=(\w+)/.exec(option)?.[1];
    const version = /;\s*v=(\w+)/.exec(option)?.[1] ?? 'v1';
    if (!option.includes('json') && !option.includes('*')) continue;
    if (as === 'Table') return { form: 'table', version };
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') {
      return { form: 'metadata', version };
    }
    if (as === undefined) break;
  }
  return { form: 'object', version: 'v1' };
}

/** Only type and metadata of an object. */
export function metadataOnly(object: KubeObject, version: string): object {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  };
}

/** What a table's rows carry of their objects. */
export function includeOf(exchange: Exchange): string {
  return exchange.query.get('includeObject') ?? 'Metadata';
}

/** Answers with one object in the form the client asked for. */
export function sendObject(
  exchange: Exchange,
  status: number,
  resource: Resource,
  object: KubeObject,
): void {
  const { form, version } = representationOf(exchange);
  const served = servedAs(resource, object);
  if (form === 'table') {
    sendJson(
      exchange,
      status,
      buildTable(resource, [served], { version, include: includeOf(exchange) }),
    );
  } else if (form === 'metadata') {
    sendJson(exchange, status, metadataOnly(served, version));
  } else {
    sendText(exchange, status, jsonOf(served));
  }
}

/** Answers a GET of one object. */
export function getObject(exchange: Exchange, store: Store, resource: Resource, at: Place): void {
  sendObject(exchange, 200, resource, requireObject(store, resource, at));
}

export interface Place {
  readonly namespace: string | undefined;
  readonly name: string;
}

/** The stored object at a place; throws 404. */
export function requireObject(store: Store, resource: Resource, at: Place): KubeObject {
  const object = store.get(resource.bucket, at.namespace, at.name);
  if (object === undefined) throw notFound(resource, at.name);
  return object;
}

interface Page {
  readonly objects: KubeObject[];
  readonly revision: number;
  readonly next: string | undefined;
  readonly remaining: number;
}

/** Answers a GET of a collection. */
export function listObjects(
  exchange: Exchange,
  store: Store,
  resource: Resource,
  namespace: string | undefined,
): void {
  const page = pageOf(exchange, store, resource, namespace);
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.next === undefined ? {} : { continue: page.next, remainingItemCount: page.remaining }),
  };
  const { form, version } = representationOf(exchange);
  const objects = page.objects.map((object) => servedAs(resource, object));
  if (form === 'table') {
    const table = buildTable(resource, objects, { version, include: includeOf(exchange) });
    sendJson(exchange, 200, { ...table, metadata });
  } else if (form === 'metadata') {
    const items = objects.map((object) => metadataOnly(object, version));
    const apiVersion = `meta.k8s.io/${version}`;
    sendJson(exchange, 200, { kind: 'PartialObjectMetadataList', apiVersion, metadata, items });
  } else {
    const head = JSON.stringify({
      kind: `${resource.kind}List`,
      apiVersion: apiVersionOf(resource),
      metadata,
    });
    sendText(exchange, 200, `${head.slice(0, -1)},"items":[${objects.map(jsonOf).join(',')}]}`);
  }
}

function pageOf(
  exchange: Exchange,
  store: Store,
  resource: Resource,
  namespace: string | undefined,
): Page {
  const matches = parseSelectors(exchange.query);
  let objects = store.list(resource.bucket, namespace);
  if (matches !== undefined) objects = objects.filter(matches);
  const token = exchange.query.get('continue');
  let revision = store.revision;
  if (token !== null && token !== '') {
    const from = decodeContinue(token);
    revision = from.revision;
    objects = objects.filter(({ metadata }) => keyOf(metadata.namespace, metadata.name) > from.key);
  }
  const limit = Number(exchange.query.get('limit') ?? 0);
  if (!(limit > 0) || objects.length <= limit) {
    return { objects, revision, next: undefined, remaining: 0 };
  }
  const page = objects.slice(0, limit);
  const last = page.at(-1)?.metadata;
  const key = keyOf(last?.namespace, last?.name ?? '');
  const next = Buffer.from(JSON.stringify({ key, revision })).toString('base64url');
  return { objects: page, revision, next, remaining: objects.length - limit };
}

function decodeContinue(token: string): { key: string; revision: number } {
  let decoded: unknown;
  try {
    decoded = JSON.parse(Buffer.from(token, 'base64url').toString()) as unknown;
  } catch {
    throw badRequest('continue key is not valid');
  }
  if (!isDict(decoded)) throw badRequest('continue key is not valid');
  const { key, revision } = decoded;
  if (typeof key !== 'string' || typeof revision !== 'number') {
    throw expired('The provided continue parameter is too old');
  }
  return { key, revision };
}
