// The API's answers are read freely here: their shapes are what is tested.
/* eslint-disable @typescript-eslint/no-unsafe-assignment, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-argument, @typescript-eslint/no-unsafe-call */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { Cluster, deployment, until } from './support.ts';
import type { Answer, WatchEvent } from './support.ts';

const cluster = new Cluster();
before(() => cluster.start());
after(() => cluster.close());

const CONFIGS = '/api/v1/namespaces/default/configmaps';
const MERGE = { type: 'application/merge-patch+json' };
const APPLY = { type: 'application/apply-patch+yaml' };

const WIDGETS = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', kind: 'Widget', shortNames: ['wd'] },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: [{ name: 'Size', type: 'integer', jsonPath: '.spec.size' }],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                required: ['size'],
                properties: {
                  size: { type: 'integer', minimum: 1 },
                  color: { type: 'string', default: 'red' },
                },
                'x-kubernetes-validations': [
                  { rule: 'self.size < 100', message: 'size must be below 100' },
                ],
              },
              status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
            },
          },
        },
      },
    ],
  },
};

describe('the API server', () => {
  it('refuses who is not known, and answers health checks to anyone', async () => {
    const refused = await cluster.call('GET', '/api/v1/pods', undefined, { token: 'wrong' });
    assert.equal(refused.status, 401);
    assert.equal(refused.body.reason, 'Unauthorized');
    const health = await cluster.call('GET', '/readyz', undefined, { token: 'wrong' });
    assert.equal(health.body, 'ok');
  });

  it('creates, reads, lists, replaces and deletes', async () => {
    const created = await cluster.call('POST', CONFIGS, {
      metadata: { name: 'one' },
      data: { a: '1' },
    });
    assert.equal(created.status, 201);
    assert.match(created.body.metadata.uid, /^[0-9a-f-]{36}$/);
    const again = await cluster.call('POST', CONFIGS, { metadata: { name: 'one' } });
    assert.deepEqual([again.status, again.body.reason], [409, 'AlreadyExists']);
    const list = await cluster.must('GET', `${CONFIGS}?fieldSelector=metadata.name=one`);
    assert.deepEqual([list.kind, list.items.length], ['ConfigMapList', 1]);
    const replaced = await cluster.must('PUT', `${CONFIGS}/one`, {
      ...created.body,
      data: { a: '2' },
    });
    assert.ok(
      Number(replaced.metadata.resourceVersion) > Number(created.body.metadata.resourceVersion),
    );
    const stale = await cluster.call('PUT', `${CONFIGS}/one`, {
      ...created.body,
      data: { a: '3' },
    });
    assert.deepEqual([stale.status, stale.body.reason], [409, 'Conflict']);
    const deleted = await cluster.must('DELETE', `${CONFIGS}/one`);
    assert.equal(deleted.status, 'Success');
    const gone = await cluster.call('GET', `${CONFIGS}/one`);
    assert.equal(gone.body.message, 'configmaps "one" not found');
  });

  it('pages through a list', async () => {
    for (const name of ['p1', 'p2', 'p3']) {
      await cluster.must('POST', CONFIGS, { metadata: { name, labels: { page: 'x' } } });
    }
    const first = await cluster.must('GET', `${CONFIGS}?labelSelector=page&limit=2`);
    assert.equal(first.metadata.remainingItemCount, 1);
    const rest = await cluster.must(
      'GET',
      `${CONFIGS}?labelSelector=page&limit=2&continue=${first.metadata.continue}`,
    );
    const names = [...first.items, ...rest.items].map(
      (item: { metadata: { name: string } }) => item.metadata.name,
    );
    assert.deepEqual(names, ['p1', 'p2', 'p3']);
    assert.equal(rest.metadata.continue, undefined);
  });

  it('refuses bad names, bad labels, unknown namespaces and unknown resources', async () => {
    const name = await cluster.call('POST', CONFIGS, { metadata: { name: 'Bad_Name' } });
    assert.deepEqual([name.status, name.body.details.causes[0].field], [422, 'metadata.name']);
    const label = await cluster.call('POST', CONFIGS, {
      metadata: { name: 'x', labels: { a: '-' } },
    });
    assert.equal(label.status, 422);
    const where = await cluster.call('POST', '/api/v1/namespaces/none/configmaps', {
      metadata: { name: 'x' },
    });
    assert.equal(where.body.message, 'namespaces "none" not found');
    const what = await cluster.call('GET', '/apis/example.org/v1/things');
    assert.equal(what.status, 404);
  });

  it('says which fields are unknown: refused when strict, a warning otherwise', async () => {
    const body = deployment('odd', 0);
    (body['spec'] as Record<string, unknown>)['replicaz'] = 1;
    const path = '/apis/apps/v1/namespaces/default/deployments';
    const strict = await cluster.call('POST', `${path}?fieldValidation=Strict`, body);
    assert.equal(strict.body.message, 'strict decoding error: unknown field "spec.replicaz"');
    const warned = await cluster.call('POST', path, body);
    assert.equal(warned.status, 201);
    assert.equal(warned.headers['warning'], '299 - "unknown field \\"spec.replicaz\\""');
  });

  it('answers a dry run without storing', async () => {
    const dry = await cluster.call('POST', `${CONFIGS}?dryRun=All`, { metadata: { name: 'dry' } });
    assert.equal(dry.status, 201);
    assert.equal((await cluster.call('GET', `${CONFIGS}/dry`)).status, 404);
  });

  it('waits for finalizers', async () => {
    await cluster.must('POST', CONFIGS, {
      metadata: { name: 'held', finalizers: ['example.com/hold'] },
    });
    const going = await cluster.must('DELETE', `${CONFIGS}/held`);
    assert.ok(going.metadata.deletionTimestamp);
    await cluster.must('PATCH', `${CONFIGS}/held`, { metadata: { finalizers: null } }, MERGE);
    assert.equal((await cluster.call('GET', `${CONFIGS}/held`)).status, 404);
  });

  it('generates names', async () => {
    const made = await cluster.must('POST', CONFIGS, { metadata: { generateName: 'gen-' } });
    assert.match(made.metadata.name, /^gen-[a-z0-9]{5}$/);
  });

  it('applies by field manager, in JSON or YAML', async () => {
    const path = `${CONFIGS}/applied?fieldManager=one`;
    const yaml =
      'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\ndata:\n  a: "1"\n  b: "2"\n';
    const created = await cluster.call('PATCH', path, yaml, APPLY);
    assert.equal(created.status, 201);
    const body = { apiVersion: 'v1', kind: 'ConfigMap', data: { a: '1' } };
    const next = await cluster.must('PATCH', path, body, APPLY);
    assert.deepEqual(next.data, { a: '1' });
    const same = await cluster.must('PATCH', path, body, APPLY);
    assert.equal(same.metadata.resourceVersion, next.metadata.resourceVersion);
    const other = { ...body, data: { a: '9' } };
    const refused = await cluster.call(
      'PATCH',
      `${CONFIGS}/applied?fieldManager=two`,
      other,
      APPLY,
    );
    assert.deepEqual([refused.status, refused.body.details.causes[0].field], [409, '.data.a']);
    const forced = await cluster.must(
      'PATCH',
      `${CONFIGS}/applied?fieldManager=two&force=true`,
      other,
      APPLY,
    );
    assert.deepEqual(forced.data, { a: '9' });
  });

  it('prints tables', async () => {
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
    const table = await cluster.must('GET', '/api/v1/namespaces', undefined, { accept });
    assert.equal(table.kind, 'Table');
    const columns = table.columnDefinitions.map((column: { name: string }) => column.name);
    assert.deepEqual(columns, ['Name', 'Status', 'Age']);
    assert.deepEqual(table.rows[0].cells.slice(0, 2), ['default', 'Active']);
  });

  it('describes itself in both forms of discovery and in OpenAPI', async () => {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
    const groups = await cluster.must('GET', '/apis', undefined, { accept });
    assert.equal(groups.kind, 'APIGroupDiscoveryList');
    assert.ok(
      groups.items.some((group: { metadata: { name: string } }) => group.metadata.name === 'apps'),
    );
    const plain = await cluster.must('GET', '/apis/apps/v1');
    assert.ok(plain.resources.some((item: { name: string }) => item.name === 'deployments/scale'));
    const { paths } = await cluster.must('GET', '/openapi/v3');
    const document = await cluster.must('GET', paths['apis/apps/v1'].serverRelativeURL);
    const patch = document.paths['/apis/apps/v1/namespaces/{namespace}/deployments/{name}'].patch;
    assert.ok(patch.parameters.some((item: { name: string }) => item.name === 'fieldValidation'));
  });

  it('refuses a body that is too large, broken or of an unknown form', async () => {
    const large = await cluster.call('POST', CONFIGS, {
      metadata: { name: 'l' },
      data: { a: 'x'.repeat(4 << 20) },
    });
    assert.equal(large.status, 413);
    assert.equal((await cluster.call('POST', CONFIGS, '{')).status, 400);
    assert.equal((await cluster.call('POST', CONFIGS, '[]')).status, 400);
    const strange = await cluster.call('PATCH', `${CONFIGS}/p1`, '{}', {
      type: 'application/strange',
    });
    assert.equal(strange.status, 415);
  });
});

describe('watches', () => {
  it('show the state, then changes, and objects that enter or leave the selection', async () => {
    const path = '/api/v1/namespaces/default/secrets';
    await cluster.must('POST', path, { metadata: { name: 's1', labels: { w: 'x' } } });
    const seen: string[] = [];
    const stop = await cluster.watch(
      `${path}?watch=true&labelSelector=w%3Dx`,
      ({ type, object }) => {
        seen.push(`${type} ${object.metadata.name}`);
      },
    );
    await until('the state', async () => seen.length === 1);
    await cluster.must('PATCH', `${path}/s1`, { metadata: { labels: { w: 'y' } } }, MERGE);
    await cluster.must('PATCH', `${path}/s1`, { metadata: { labels: { w: 'x' } } }, MERGE);
    await cluster.must('DELETE', `${path}/s1`);
    await until('the changes', async () => seen.length === 4);
    assert.deepEqual(seen, ['ADDED s1', 'DELETED s1', 'ADDED s1', 'DELETED s1']);
    stop();
  });

  it('resume from a version, and say when it is too old', async () => {
    const { metadata } = await cluster.must('GET', CONFIGS);
    await cluster.must('POST', CONFIGS, { metadata: { name: 'later' } });
    const events: WatchEvent[] = [];
    const stop = await cluster.watch(
      `${CONFIGS}?watch=true&resourceVersion=${metadata.resourceVersion}`,
      (event) => events.push(event),
    );
    await until('the event', async () => events.length === 1);
    assert.equal(events[0]?.object.metadata.name, 'later');
    stop();
    await cluster.stop();
    await cluster.start();
    const errors: WatchEvent[] = [];
    await cluster.watch(`${CONFIGS}?watch=true&resourceVersion=1`, (event) => errors.push(event));
    await until('the error', async () => errors.length === 1);
    assert.deepEqual([errors[0]?.type, errors[0]?.object['code']], ['ERROR', 410]);
  });

  it('send the initial state with a bookmark at its end when asked', async () => {
    const types: string[] = [];
    const query =
      'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    await cluster.watch(`/api/v1/namespaces?${query}`, ({ type, object }) => {
      types.push(
        object.metadata.annotations?.['k8s.io/initial-events-end'] === 'true' ? 'END' : type,
      );
    });
    await until('the end', async () => types.includes('END'));
    assert.deepEqual(types, ['ADDED', 'ADDED', 'ADDED', 'ADDED', 'END']);
  });
});

describe('custom resources', () => {
  const path = '/apis/example.com/v1/namespaces/default/widgets';
  before(() =>
    cluster.must('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', WIDGETS),
  );

  it('are served at once, with defaults, pruning, generations and columns', async () => {
    const made = await cluster.must('POST', path, {
      apiVersion: 'example.com/v1',
      kind: 'Widget',
      metadata: { name: 'w' },
      spec: { size: 1, odd: 1 },
      status: { ready: true },
    });
    assert.deepEqual(
      [made.spec, made.status, made.metadata.generation],
      [{ size: 1, color: 'red' }, undefined, 1],
    );
    const status = await cluster.must(
      'PATCH',
      `${path}/w/status`,
      { status: { ready: true }, spec: { size: 9 } },
      MERGE,
    );
    assert.deepEqual(
      [status.spec.size, status.status, status.metadata.generation],
      [1, { ready: true }, 1],
    );
    const changed = await cluster.must(
      'PATCH',
      `${path}/w`,
      { spec: { size: 2 }, status: null },
      MERGE,
    );
    assert.deepEqual([changed.status, changed.metadata.generation], [{ ready: true }, 2]);
    const table = await cluster.must('GET', path, undefined, {
      accept: 'application/json;as=Table;v=v1;g=meta.k8s.io',
    });
    assert.deepEqual(table.rows[0].cells, ['w', 2]);
  });

  it('are checked against their schema, rules included', async () => {
    const create = (spec: object): Promise<{ status: number; body: { message: string } }> =>
      cluster.call('POST', path, { metadata: { name: 'bad' }, spec });
    const missing = await create({});
    assert.equal(
      missing.body.message,
      'Widget.example.com "bad" is invalid: spec.size: Required value',
    );
    assert.equal((await create({ size: 'x' })).status, 422);
    assert.equal((await create({ size: 0 })).status, 422);
    const rule = await create({ size: 100 });
    assert.match(rule.body.message, /spec: Invalid value: .*size must be below 100/);
  });

  it('refuse strategic patches', async () => {
    const patch = await cluster.call(
      'PATCH',
      `${path}/w`,
      {},
      { type: 'application/strategic-merge-patch+json' },
    );
    assert.equal(patch.status, 415);
  });

  it('go with their definition', async () => {
    await cluster.must(
      'DELETE',
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com',
    );
    assert.equal((await cluster.call('GET', path)).status, 404);
  });
});

describe('tokens', () => {
  const accounts = '/api/v1/namespaces/default/serviceaccounts/default';
  const review = async (token: string, audiences?: string[]): Promise<Answer['body']> => {
    const answer = await cluster.must('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
      spec: { token, audiences },
    });
    return answer.status;
  };

  it('are bound to a pod: its name and uid in the review, refused when it is gone', async () => {
    const pods = '/api/v1/namespaces/default/pods';
    const pod = await cluster.must('POST', pods, {
      metadata: { name: 'p' },
      spec: { nodeName: 'none', containers: [{ name: 'a', image: 'b' }] },
    });
    const request = {
      spec: {
        audiences: ['istio-ca'],
        boundObjectRef: { kind: 'Pod', name: 'p', uid: pod.metadata.uid },
      },
    };
    const { status } = await cluster.must('POST', `${accounts}/token`, request);
    const good = await review(status.token, ['istio-ca', 'other']);
    assert.equal(good.user.username, 'system:serviceaccount:default:default');
    assert.deepEqual(good.audiences, ['istio-ca']);
    assert.deepEqual(good.user.extra['authentication.kubernetes.io/pod-name'], ['p']);
    assert.deepEqual(good.user.extra['authentication.kubernetes.io/pod-uid'], [pod.metadata.uid]);
    assert.equal((await review(status.token, ['else'])).authenticated, undefined);
    assert.equal(
      (await review(`${String(status.token).slice(0, -4)}AAAA`, ['istio-ca'])).authenticated,
      undefined,
    );
    await cluster.must('DELETE', `${pods}/p?gracePeriodSeconds=0`);
    assert.match((await review(status.token, ['istio-ca'])).error, /pod default\/p is gone/);
  });

  it('authenticate requests for the API server’s own audience only', async () => {
    const own = await cluster.must('POST', `${accounts}/token`, { spec: {} });
    const { status } = await cluster.call('GET', '/api/v1/pods', undefined, {
      token: own.status.token,
    });
    assert.equal(status, 200);
    const other = await cluster.must('POST', `${accounts}/token`, { spec: { audiences: ['x'] } });
    const refused = await cluster.call('GET', '/api/v1/pods', undefined, {
      token: other.status.token,
    });
    assert.equal(refused.status, 401);
  });
});

describe('requests for kubelets', () => {
  it('are passed on with the kubelet’s token: logs streamed, upgrades byte by byte', async () => {
    const seen: string[] = [];
    const kubelet = createServer((request, response) => {
      seen.push(`${request.headers.authorization ?? ''} ${request.url ?? ''}`);
      response.end('line\n');
    });
    kubelet.on('upgrade', (request, socket) => {
      seen.push(`${request.headers.authorization ?? ''} ${request.url ?? ''}`);
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n',
      );
      socket.pipe(socket);
    });
    kubelet.listen(0, '127.0.0.1');
    await once(kubelet, 'listening');
    const { port } = kubelet.address() as AddressInfo;
    writeFileSync(cluster.kubeletTokenFile, 'kubelet-secret\n');
    await cluster.must('POST', '/api/v1/nodes', { metadata: { name: 'k' } });
    const status = {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    };
    await cluster.must('PATCH', '/api/v1/nodes/k/status', { status }, MERGE);
    const spec = { nodeName: 'k', containers: [{ name: 'a', image: 'b' }] };
    await cluster.must('POST', '/api/v1/namespaces/default/pods', {
      metadata: { name: 'q' },
      spec,
    });
    const path = '/api/v1/namespaces/default/pods/q';
    assert.equal(await cluster.must('GET', `${path}/log?follow=true&tailLines=1`), 'line\n');
    const token = (
      JSON.parse((await import('node:fs')).readFileSync(cluster.kubeconfig, 'utf8')) as {
        users: [{ user: { token: string } }];
      }
    ).users[0].user.token;
    const socket = connect({
      host: '127.0.0.1',
      port: Number(new URL(cluster.url).port),
      rejectUnauthorized: false,
    });
    socket.write(
      `GET ${path}/exec?command=ls&command=-l&stdout=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`,
    );
    let got = '';
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => (got += part));
    await until('the upgrade', async () => got.includes('101 Switching'));
    socket.write('ping');
    await until('the echo', async () => got.endsWith('ping'));
    socket.destroy();
    assert.deepEqual(seen, [
      'Bearer kubelet-secret /containerLogs/default/q/a?follow=true&tailLines=1',
      'Bearer kubelet-secret /exec/default/q/a?command=ls&command=-l&output=1',
    ]);
    kubelet.close();
    const unknown = await cluster.call('GET', `${path}/log?container=zz`);
    assert.equal(unknown.status, 400);
  });
});
