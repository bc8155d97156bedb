// Watches: a stream of JSON events, one a line, from a resource version on; with bookmarks, and with the initial
// state first when asked for (sendInitialEvents). A client that does not read is cut off.
import type { ServerResponse } from 'node:http';
import { buildTable } from '../print/table.ts';
import type { KubeObject } from '../objects.ts';
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';
import { parseSelectors } from '../selectors.ts';
import type { Matcher } from '../selectors.ts';
import { StatusError, invalid } from '../status-error.ts';
import { jsonOf } from '../storage/store.ts';
import type { EventType, Store, StoreEvent } from '../storage/store.ts';
import type { Exchange } from './exchange.ts';
import { includeOf, metadataOnly, representationOf } from './read.ts';
import type { Representation } from './read.ts';
import { servedAs } from './served-as.ts';

const MAX_BUFFERED_BYTES = 32 * 1024 * 1024;
const DEFAULT_TIMEOUT_SEC = 1800;
const BOOKMARK_MS = 30_000;
const INITIAL_END = 'k8s.io/initial-events-end';

interface Watch {
  readonly response: ServerResponse;
  readonly resource: Resource;
  readonly representation: Representation;
  readonly include: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly matches: Matcher | undefined;
  rows: number;
}

/** Starts streaming; returns when the stream is set up. */
export function startWatch(
  exchange: Exchange,
  store: Store,
  resource: Resource,
  at: { namespace: string | undefined; name: string | undefined },
): void {
  const { query, response } = exchange;
  const initial = query.get('sendInitialEvents') === 'true';
  if (initial && query.get('resourceVersionMatch') !== 'NotOlderThan') {
    throw invalid({ group: 'meta.k8s.io', kind: 'ListOptions' }, '', [
      {
        reason: 'FieldValueForbidden',
        field: 'resourceVersionMatch',
        message:
          'Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
      },
    ]);
  }
  const watch: Watch = {
    response,
    resource,
    representation: representationOf(exchange),
    include: includeOf(exchange),
    ...at,
    matches: parseSelectors(query),
    rows: 0,
  };
  response.writeHead(200, {
    'content-type': 'application/json',
    'cache-control': 'no-cache, private',
    'transfer-encoding': 'chunked',
  });
  response.flushHeaders();
  const bookmarks = query.get('allowWatchBookmarks') === 'true';
  const timeoutSec = Number(query.get('timeoutSeconds') ?? 0) || DEFAULT_TIMEOUT_SEC;
  const version = query.get('resourceVersion') ?? '';
  let from = store.revision;
  if (initial || version === '' || version === '0') {
    for (const object of store.list(resource.bucket, at.namespace)) {
      if (isWanted(watch, object)) send(watch, 'ADDED', object);
    }
    if (initial) sendBookmark(watch, from, { [INITIAL_END]: 'true' });
  } else {
    from = Number(version);
  }
  follow(watch, store, from, { bookmarks, timeoutSec });
}

function follow(
  watch: Watch,
  store: Store,
  from: number,
  options: { bookmarks: boolean; timeoutSec: number },
): void {
  const { response, resource } = watch;
  let stop: () => void;
  try {
    stop = store.watch(resource.bucket, from, (event) => onEvent(watch, event));
  } catch (err) {
    if (!(err instanceof StatusError)) throw err;
    response.end(`${JSON.stringify({ type: 'ERROR', object: err.toStatus() })}\n`);
    return;
  }
  const bookmark = options.bookmarks
    ? setInterval(() => sendBookmark(watch, store.revision, undefined), BOOKMARK_MS)
    : undefined;
  const timeout = setTimeout(() => {
    if (options.bookmarks) sendBookmark(watch, store.revision, undefined);
    response.end();
  }, options.timeoutSec * 1000);
  response.on('close', () => {
    stop();
    clearInterval(bookmark);
    clearTimeout(timeout);
  });
}

function isWanted(watch: Watch, object: KubeObject): boolean {
  const { metadata } = object;
  if (watch.namespace !== undefined && metadata.namespace !== watch.namespace) return false;
  if (watch.name !== undefined && metadata.name !== watch.name) return false;
  return watch.matches?.(object) ?? true;
}

/** A change that moves an object in or out of the selection looks like its creation or deletion. */
function onEvent(watch: Watch, event: StoreEvent): void {
  const { object, previous, type } = event;
  const was = previous !== undefined && isWanted(watch, previous);
  if (type === 'DELETED') {
    if (was) send(watch, 'DELETED', object);
    return;
  }
  const is = isWanted(watch, object);
  if (is) send(watch, was ? 'MODIFIED' : 'ADDED', object);
  else if (was) send(watch, 'DELETED', object);
}

function send(watch: Watch, type: EventType, object: KubeObject): void {
  const served = servedAs(watch.resource, object);
  write(watch, `{"type":"${type}","object":${render(watch, served)}}\n`);
}

function render(watch: Watch, object: KubeObject): string {
  const { form, version } = watch.representation;
  if (form === 'metadata') return JSON.stringify(metadataOnly(object, version));
  if (form !== 'table') return jsonOf(object);
  const table = buildTable(watch.resource, [object], { version, include: watch.include });
  watch.rows += 1;
  // Columns are described once, with the first row.
  return JSON.stringify(watch.rows === 1 ? table : { ...table, columnDefinitions: [] });
}

function sendBookmark(
  watch: Watch,
  revision: number,
  annotations: Record<string, string> | undefined,
): void {
  const object = {
    kind: watch.resource.kind,
    apiVersion: apiVersionOf(watch.resource),
    metadata: {
      resourceVersion: String(revision),
      creationTimestamp: null,
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
  if (watch.representation.form === 'table') {
    const { version } = watch.representation;
    const apiVersion = `meta.k8s.io/${version}`;
    const row = { cells: [], object };
    const metadata = { resourceVersion: String(revision) };
    const table = { kind: 'Table', apiVersion, metadata, columnDefinitions: [], rows: [row] };
    write(watch, `${JSON.stringify({ type: 'BOOKMARK', object: table })}\n`);
    return;
  }
  write(watch, `${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
}

function write(watch: Watch, line: string): void {
  const { response } = watch;
  response.write(line);
  if (response.writableLength > MAX_BUFFERED_BYTES) response.destroy();
}
