// Requests for resources: from method and path to the operation, with the query's options.
import { clone, dict, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { requestToken } from '../auth/reviews.ts';
import type { TokenSigner } from '../auth/tokens.ts';
import type { Registry } from '../registry/registry.ts';
import type { Resource } from '../registry/resource.ts';
import { loadChecks } from '../schema/checks.ts';
import { parseSelectors } from '../selectors.ts';
import { StatusError, badRequest, conflict, unknownPath } from '../status-error.ts';
import { deleteObject } from './delete.ts';
import type { DeleteRequest } from './delete.ts';
import { contentType, readDocument, readObject, sendJson } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import type { FieldValidation } from './field-check.ts';
import type { KubeletProxy } from './kubelet-proxy.ts';
import type { Lifecycle, WriteOptions } from './lifecycle.ts';
import { patchObject } from './patch.ts';
import { getObject, listObjects, requireObject, sendObject } from './read.ts';
import type { ResourcePath } from './request-path.ts';
import { readScale, writeScale } from './scale.ts';
import { startWatch } from './watch.ts';

export interface ResourceContext {
  readonly lifecycle: Lifecycle;
  readonly registry: Registry;
  readonly tokens: TokenSigner;
  readonly kubelets: KubeletProxy;
}

const methodNotAllowed = (): StatusError =>
  new StatusError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
  );

/** The first word of the client's name, which manages fields when it names no manager. */
function defaultManager(exchange: Exchange): string {
  const agent = exchange.request.headers['user-agent'] ?? 'unknown';
  return agent.split('/')[0]?.slice(0, 128) ?? 'unknown';
}

export function writeOptions(exchange: Exchange): WriteOptions {
  const { query, warnings } = exchange;
  const asked = query.get('fieldValidation') ?? 'Warn';
  const validation = (['Strict', 'Warn', 'Ignore'] as const).find((word) => word === asked);
  if (validation === undefined) throw badRequest(`fieldValidation ${asked} is not known`);
  return {
    manager: query.get('fieldManager') ?? defaultManager(exchange),
    dryRun: query.get('dryRun') === 'All',
    validation: validation satisfies FieldValidation,
    warnings,
  };
}

/** Answers a request for a resource. */
export async function handleResource(
  context: ResourceContext,
  exchange: Exchange,
  path: ResourcePath,
): Promise<void> {
  const resource = context.registry.find(path.group, path.version, path.resource);
  if (resource === undefined) throw unknownPath();
  if (path.namespace !== undefined && !resource.namespaced) throw unknownPath();
  if (resource.isCustom && exchange.method !== 'GET') await loadChecks();
  if (path.name === undefined) {
    await handleCollection(context, exchange, resource, path);
    return;
  }
  if (resource.namespaced && path.namespace === undefined) throw unknownPath();
  const at = { namespace: path.namespace, name: path.name };
  if (path.subresource === undefined || path.subresource === 'status') {
    await handleObject(context, exchange, resource, {
      ...at,
      subresource: path.subresource,
    });
    return;
  }
  await handleSubresource(context, exchange, resource, path);
}

async function handleCollection(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  path: ResourcePath,
): Promise<void> {
  const { lifecycle } = context;
  const { namespace } = path;
  switch (exchange.method) {
    case 'GET':
      if (isWatch(exchange)) {
        startWatch(exchange, lifecycle.store, resource, { namespace, name: undefined });
      } else {
        listObjects(exchange, lifecycle.store, resource, namespace);
      }
      return;
    case 'POST': {
      const body = await readObject(exchange.request);
      if (resource.namespaced && namespace === undefined) throw unknownPath();
      const object = lifecycle.create(resource, namespace, body, writeOptions(exchange));
      sendObject(exchange, 201, resource, object);
      return;
    }
    case 'DELETE': {
      const request = await deleteRequest(exchange);
      const matches = parseSelectors(exchange.query);
      const found = lifecycle.store.list(resource.bucket, namespace);
      const gone = matches === undefined ? found : found.filter(matches);
      for (const object of gone) deleteObject(context, resource, object, request);
      sendJson(exchange, 200, {
        kind: 'Status',
        apiVersion: 'v1',
        metadata: {},
        status: 'Success',
        details: { group: resource.group, kind: resource.resource },
      });
      return;
    }
    default:
      throw methodNotAllowed();
  }
}

const isWatch = (exchange: Exchange): boolean =>
  ['true', '1'].includes(exchange.query.get('watch') ?? '');

interface ObjectPlace {
  readonly namespace: string | undefined;
  readonly name: string;
  readonly subresource: 'status' | undefined;
}

async function handleObject(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  at: ObjectPlace,
): Promise<void> {
  const { lifecycle } = context;
  const { store } = lifecycle;
  if (at.subresource === 'status' && !resource.subresources.includes('status')) throw unknownPath();
  switch (exchange.method) {
    case 'GET':
      if (isWatch(exchange)) startWatch(exchange, store, resource, at);
      else getObject(exchange, store, resource, at);
      return;
    case 'PUT': {
      const body = await readObject(exchange.request);
      const current = requireObject(store, resource, at);
      const options = writeOptions(exchange);
      const object = lifecycle.update(resource, current, body, options, at.subresource);
      sendObject(exchange, 200, resource, object);
      return;
    }
    case 'PATCH': {
      const document = await readDocument(exchange.request);
      const { object, created } = patchObject(lifecycle, {
        resource,
        ...at,
        type: contentType(exchange.request),
        document,
        options: writeOptions(exchange),
        force: exchange.query.get('force') === 'true',
      });
      sendObject(exchange, created ? 201 : 200, resource, object);
      return;
    }
    case 'DELETE': {
      const request = await deleteRequest(exchange);
      const current = requireObject(store, resource, at);
      const { object, removed } = deleteObject(context, resource, current, request);
      if (removed) sendJson(exchange, 200, deletedStatus(resource, object));
      else sendObject(exchange, 200, resource, object);
      return;
    }
    default:
      throw methodNotAllowed();
  }
}

function deletedStatus(resource: Resource, object: KubeObject): Dict {
  const { name, uid } = object.metadata;
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name,
      uid,
      kind: resource.resource,
      ...(resource.group === '' ? {} : { group: resource.group }),
    },
  };
}

async function deleteRequest(exchange: Exchange): Promise<DeleteRequest> {
  const body = dict(await readDocument(exchange.request));
  const { query } = exchange;
  const grace = body['gracePeriodSeconds'] ?? query.get('gracePeriodSeconds') ?? undefined;
  const policy = text(body['propagationPolicy']) || (query.get('propagationPolicy') ?? '');
  const isOrphaned = body['orphanDependents'] === true || query.get('orphanDependents') === 'true';
  const preconditions = dict(body['preconditions']);
  const dryRun =
    query.get('dryRun') === 'All' || (body['dryRun'] as unknown[] | undefined)?.[0] === 'All';
  const uid = text(preconditions['uid']);
  const resourceVersion = text(preconditions['resourceVersion']);
  return {
    dryRun,
    ...(grace === undefined ? {} : { graceSec: Number(grace) }),
    policy: isOrphaned ? 'Orphan' : policy,
    ...(uid === '' ? {} : { uid }),
    ...(resourceVersion === '' ? {} : { resourceVersion }),
  };
}

async function handleSubresource(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  path: ResourcePath,
): Promise<void> {
  const at = { namespace: path.namespace, name: path.name ?? '' };
  const current = requireObject(context.lifecycle.store, resource, at);
  const key = `${resource.bucket}/${path.subresource ?? ''}`;
  if (path.subresource === 'scale' && resource.scale !== undefined) {
    await handleScale(context, exchange, resource, current);
    return;
  }
  switch (key) {
    case '/serviceaccounts/token': {
      if (exchange.method !== 'POST') throw methodNotAllowed();
      const body = await readObject(exchange.request);
      const { store, clock } = context.lifecycle;
      const answer = requestToken({ store, clock, tokens: context.tokens }, current, body);
      sendJson(exchange, 201, answer);
      return;
    }
    case '/pods/log':
      context.kubelets.logs(exchange, current);
      return;
    case '/pods/binding': {
      await bindPod(context, exchange, resource, current);
      return;
    }
    case '/pods/eviction':
      await evictPod(context, exchange, resource, current);
      return;
    case '/pods/ephemeralcontainers':
    case '/pods/resize': {
      await handleObject(context, exchange, resource, { ...at, subresource: undefined });
      return;
    }
    case '/namespaces/finalize': {
      const body = await readObject(exchange.request);
      const object = context.lifecycle.update(resource, current, body, writeOptions(exchange));
      sendObject(exchange, 200, resource, object);
      return;
    }
    case '/pods/exec':
    case '/pods/attach':
    case '/pods/portforward':
      throw badRequest('Upgrade request required');
    default:
      throw unknownPath();
  }
}

async function evictPod(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  pod: KubeObject,
): Promise<void> {
  const body = await readObject(exchange.request);
  const grace = dict(body['deleteOptions'])['gracePeriodSeconds'];
  deleteObject(context, resource, pod, {
    policy: '',
    dryRun: exchange.query.get('dryRun') === 'All',
    ...(grace === undefined ? {} : { graceSec: number(grace, 30) }),
  });
  sendJson(exchange, 201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' });
}

async function bindPod(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  pod: KubeObject,
): Promise<void> {
  const body = await readObject(exchange.request);
  const nodeName = text(dict(body['target'])['name']);
  const assigned = text(dict(pod['spec'])['nodeName']);
  if (assigned !== '') {
    throw conflict(resource, pod.metadata.name, `pod is already assigned to node "${assigned}"`);
  }
  const next = clone(pod);
  dict(next['spec'])['nodeName'] = nodeName;
  context.lifecycle.update(resource, pod, next, writeOptions(exchange));
  sendJson(exchange, 201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' });
}

async function handleScale(
  context: ResourceContext,
  exchange: Exchange,
  resource: Resource,
  current: KubeObject,
): Promise<void> {
  if (exchange.method === 'GET') {
    sendJson(exchange, 200, readScale(resource, current));
    return;
  }
  if (exchange.method !== 'PUT' && exchange.method !== 'PATCH') throw methodNotAllowed();
  const document = await readDocument(exchange.request);
  const type = exchange.method === 'PUT' ? undefined : contentType(exchange.request);
  const options = writeOptions(exchange);
  const object = writeScale(context.lifecycle, { resource, current, type, document, options });
  sendJson(exchange, 200, readScale(resource, object));
}

/** Whether a subresource of a pod is served by upgrading the connection. */
export function isStreaming(path: ResourcePath): boolean {
  return (
    path.group === '' &&
    path.resource === 'pods' &&
    ['exec', 'attach', 'portforward'].includes(path.subresource ?? '')
  );
}
