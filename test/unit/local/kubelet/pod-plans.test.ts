import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buildRootScript } from '../../../../local/kubelet/container-root.ts';
import { fieldValue, quantityValue, resourceValue } from '../../../../local/kubelet/downward.ts';
import { buildEnvironment, expand } from '../../../../local/kubelet/environment.ts';
import { exitStatus } from '../../../../local/kubelet/exec.ts';
import { tailOffset } from '../../../../local/kubelet/logs.ts';
import type { ContainerStatus, Pod } from '../../../../local/kubelet/objects.ts';
import { buildPodStatus, podPhase, waitingStatus } from '../../../../local/kubelet/pod-status.ts';
import { imageName } from '../../../../local/kubelet/programs.ts';
import { chooseNode } from '../../../../local/kubelet/scheduler.ts';
import { hostPathSource } from '../../../../local/kubelet/volumes.ts';

const POD: Pod = {
  metadata: {
    name: 'web-1',
    namespace: 'shop',
    uid: 'u1',
    labels: { app: 'web' },
    annotations: { a: 'b' },
  },
  spec: { nodeName: 'n1', serviceAccountName: 'sa', containers: [{ name: 'c', image: 'i' }] },
};
const ADDRESSES = { podIps: ['10.1.1.1'], hostIp: '10.2.2.2' };

function status(state: ContainerStatus['state'], ready = false): ContainerStatus {
  return { ...waitingStatus({ name: 'c' }, 'x'), state, ready, started: ready };
}

const ended = (exitCode: number): ContainerStatus =>
  status({ terminated: { exitCode, reason: 'x', startedAt: '', finishedAt: '' } });

const STATE = {
  hostIp: '10.2.2.2',
  podIps: ['10.1.1.1'],
  startTime: 't',
  isInitialized: true,
  isTerminating: false,
  initContainers: [],
};

describe('pod plans', () => {
  it('names images without registry, tag and digest', () => {
    const rows = {
      'docker.io/istio/app:1.0': 'istio/app',
      'localhost:5000/a/b:tag@sha256:00': 'a/b',
      'ambient-mesh/ztunnel': 'ambient-mesh/ztunnel',
      'curlimages/curl': 'curlimages/curl',
      busybox: 'busybox',
    };
    for (const [image, name] of Object.entries(rows)) assert.equal(imageName(image), name);
  });

  it('answers the downward API', () => {
    const rows: Record<string, string | undefined> = {
      'metadata.name': 'web-1',
      'metadata.namespace': 'shop',
      'metadata.uid': 'u1',
      "metadata.labels['app']": 'web',
      "metadata.annotations['none']": '',
      'metadata.labels': 'app="web"',
      'spec.nodeName': 'n1',
      'spec.serviceAccountName': 'sa',
      'status.podIP': '10.1.1.1',
      'status.hostIP': '10.2.2.2',
      'spec.unknown': undefined,
    };
    for (const [path, value] of Object.entries(rows)) {
      assert.equal(fieldValue(POD, path, ADDRESSES), value, path);
    }
  });

  it('reads quantities', () => {
    assert.equal(quantityValue('500m'), 0.5);
    assert.equal(quantityValue('128Mi'), 134_217_728);
    const container = { name: 'c', resources: { limits: { cpu: '1500m', memory: '64Mi' } } };
    assert.equal(resourceValue(container, 'limits.cpu'), '2');
    assert.equal(resourceValue(container, 'limits.memory', '1Mi'), '64');
  });

  it('expands variables as Kubernetes does', () => {
    assert.equal(expand('$(A)-$$(A)-$(B)', { A: '1' }), '1-$(A)-$(B)');
  });

  it('builds the environment from literals, fields, config maps and secrets', async () => {
    const reader = {
      configMap: async (_: string, name: string) =>
        name === 'cm' ? { metadata: { name }, data: { K: 'v' } } : undefined,
      secret: async (_: string, name: string) => ({
        metadata: { name },
        data: { P: Buffer.from('s3').toString('base64') },
      }),
    };
    const container = {
      name: 'c',
      envFrom: [{ prefix: 'X_', configMapRef: { name: 'cm' } }],
      env: [
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'URL', value: 'http://$(IP)/$(X_K)' },
        { name: 'PW', valueFrom: { secretKeyRef: { name: 's', key: 'P' } } },
        { name: 'NO', valueFrom: { configMapKeyRef: { name: 'z', key: 'k', optional: true } } },
      ],
    };
    assert.deepEqual(await buildEnvironment(POD, container, { HOME: '/' }, ADDRESSES, reader), {
      HOME: '/',
      X_K: 'v',
      IP: '10.1.1.1',
      URL: 'http://10.1.1.1/v',
      PW: 's3',
    });
    const missing = {
      name: 'c',
      env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'z', key: 'k' } } }],
    };
    await assert.rejects(buildEnvironment(POD, missing, {}, ADDRESSES, reader), {
      code: 'config_missing',
    });
  });

  it('finds the phase', () => {
    const phase = (policy: string, containers: ContainerStatus[], initialized = true): string =>
      podPhase(
        { ...POD, spec: { ...POD.spec, restartPolicy: policy } },
        { ...STATE, isInitialized: initialized, containers },
      );
    const running = status({ running: { startedAt: '' } });
    assert.equal(phase('Always', [waitingStatus({ name: 'c' }, 'x')]), 'Pending');
    assert.equal(phase('Always', [running]), 'Running');
    assert.equal(phase('Always', [ended(1)]), 'Running');
    assert.equal(phase('Never', [ended(0)]), 'Succeeded');
    assert.equal(phase('Never', [ended(0), ended(2)]), 'Failed');
    assert.equal(phase('OnFailure', [ended(2)]), 'Running');
    assert.equal(phase('Never', [running], false), 'Pending');
  });

  it('keeps transition times and the conditions of others', () => {
    const old = {
      conditions: [
        { type: 'Ready', status: 'True', lastTransitionTime: 'then' },
        { type: 'theirs', status: 'True' },
      ],
    };
    const built = buildPodStatus(
      POD,
      { ...STATE, containers: [status({ running: { startedAt: '' } }, true)] },
      old,
    );
    const ready = built.conditions?.find(({ type }) => type === 'Ready');
    assert.deepEqual(ready, { type: 'Ready', status: 'True', lastTransitionTime: 'then' });
    assert.ok(built.conditions?.some(({ type }) => type === 'theirs'));
    assert.deepEqual(built.podIPs, [{ ip: '10.1.1.1' }]);
  });

  it('spreads the pods of an owner, and follows required affinity', () => {
    const nodes = ['a', 'b'].map((name) => ({ metadata: { name, labels: { zone: name } } }));
    const owned = (name: string, nodeName?: string): Pod => ({
      metadata: {
        ...POD.metadata,
        name,
        ...{ ownerReferences: [{ uid: 'rs', controller: true }] },
      },
      spec: { containers: [], ...(nodeName === undefined ? {} : { nodeName }) },
    });
    assert.equal(chooseNode(owned('x'), nodes, []), 'a');
    assert.equal(chooseNode(owned('x'), nodes, [owned('y', 'a')]), 'b');
    const pinned = {
      ...POD,
      spec: {
        containers: [],
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [
                { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] },
              ],
            },
          },
        },
      },
    };
    assert.equal(chooseNode(pinned, nodes, []), 'b');
    const nowhere = { ...POD, spec: { containers: [], nodeSelector: { zone: 'z' } } };
    assert.equal(chooseNode(nowhere, nodes, []), undefined);
  });

  it('maps host paths below the node, but for the real ones', () => {
    const rows = {
      '/proc': '/proc',
      '/var/run/netns': '/run/netns',
      '/var/run/istio-cni/': '/r/var/run/istio-cni',
      '/run/x': '/r/var/run/x',
      '/etc/cni/net.d': '/r/etc/cni/net.d',
      '/a/../../etc': '/r/etc',
    };
    for (const [path, source] of Object.entries(rows)) {
      assert.equal(hostPathSource('/r', path), source);
    }
  });

  it('finds where the last lines of a log begin', () => {
    const dir = mkdtempSync(join(tmpdir(), 'tail-'));
    const file = join(dir, 'log');
    writeFileSync(file, 'one\ntwo\nthree\n');
    assert.equal(tailOffset(file, 1), 8);
    assert.equal(tailOffset(file, 2), 4);
    assert.equal(tailOffset(file, 9), 0);
    assert.equal(tailOffset(file, 0), 14);
    rmSync(dir, { recursive: true });
  });

  it('quotes what goes into the root script', () => {
    const script = buildRootScript({
      dir: "/s/it's",
      hostname: 'h',
      resolvConf: "a'b",
      hosts: '',
      mounts: [{ source: '/v/t', target: '/var/run/secrets/x', isFile: false }],
      visible: ['/root/repo', '/usr/lib/node'],
      workingDir: '/',
    });
    assert.match(script, /R='\/s\/it'\\''s'/);
    assert.match(script, /mount --rbind '\/v\/t' "\$R"'\/run\/secrets\/x'/);
    assert.match(script, /mount --rbind '\/root\/repo'/);
    assert.doesNotMatch(script, /\/usr\/lib\/node/);
  });

  it('reports exit codes as kubectl reads them', () => {
    assert.deepEqual(exitStatus(0), { metadata: {}, status: 'Success' });
    assert.match(JSON.stringify(exitStatus(3)), /"ExitCode","message":"3"/);
  });
});
