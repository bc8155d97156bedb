// The API's answers are read freely here: their shapes are what is tested.
/* eslint-disable @typescript-eslint/no-unsafe-assignment, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-argument, @typescript-eslint/no-unsafe-return, @typescript-eslint/no-unsafe-call */
import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Dict } from '../../../../local/apiserver/objects.ts';
import { Cluster, deployment, until } from './support.ts';

const cluster = new Cluster();
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const SETS = '/apis/apps/v1/namespaces/default/replicasets';
const PODS = '/api/v1/namespaces/default/pods';
const MERGE = { type: 'application/merge-patch+json' };

before(async () => {
  await cluster.start();
  await cluster.addNode('n1');
  await cluster.addNode('n22', { tier: 'b' });
});
after(() => cluster.close());

interface Named {
  readonly metadata: { readonly name: string; readonly namespace: string };
}

async function podsOf(
  app: string,
): Promise<(Named & { spec: { nodeName: string; containers: Dict[] } })[]> {
  return (await cluster.must('GET', `${PODS}?labelSelector=app%3D${app}`)).items;
}

async function rolledOut(name: string, available: number): Promise<Dict> {
  return await until(`${name} has ${available} available`, async () => {
    const found = await cluster.must('GET', `${DEPLOYMENTS}/${name}`);
    const { status, metadata } = found;
    return (
      status.observedGeneration === metadata.generation &&
      status.replicas === available &&
      status.updatedReplicas === available &&
      status.availableReplicas === available &&
      found
    );
  });
}

describe('deployments', () => {
  it('run pods spread over the nodes, and report it', async () => {
    await cluster.must('POST', DEPLOYMENTS, deployment('web', 4));
    const { status } = (await rolledOut('web', 4)) as { status: { conditions: Dict[] } };
    const states = status.conditions.map(({ type, status: is, reason }) =>
      [type, is, reason].join(' '),
    );
    assert.deepEqual(states, [
      'Available True MinimumReplicasAvailable',
      'Progressing True NewReplicaSetAvailable',
    ]);
    const nodes = (await podsOf('web')).map((pod) => pod.spec.nodeName).sort();
    assert.deepEqual(nodes, ['n1', 'n1', 'n22', 'n22']);
  });

  it('roll to a new template without dropping below the minimum, and back', async () => {
    let least = 4;
    const stop = await cluster.watch(
      `${DEPLOYMENTS}?watch=true&fieldSelector=metadata.name%3Dweb`,
      ({ object }) => {
        const { availableReplicas } = object['status'] as { availableReplicas: number };
        least = Math.min(least, availableReplicas);
      },
    );
    const image = (name: string): Dict => ({
      spec: { template: { spec: { containers: [{ name: 'app', image: name }] } } },
    });
    await cluster.must('PATCH', `${DEPLOYMENTS}/web`, image('app:2'), {
      type: 'application/strategic-merge-patch+json',
    });
    await rolledOut('web', 4);
    assert.ok(least >= 3, `fell to ${least}`);
    await until('only new pods', async () => {
      const pods = await podsOf('web');
      return (
        pods.length === 4 && pods.every((pod) => pod.spec.containers[0]?.['image'] === 'app:2')
      );
    });
    const before = (await cluster.must('GET', SETS)).items.length;
    await cluster.must('PATCH', `${DEPLOYMENTS}/web`, image('app:1'), {
      type: 'application/strategic-merge-patch+json',
    });
    const back = (await rolledOut('web', 4)) as {
      metadata: { annotations: Record<string, string> };
    };
    assert.equal(back.metadata.annotations['deployment.kubernetes.io/revision'], '3');
    assert.equal((await cluster.must('GET', SETS)).items.length, before);
    stop();
  });

  it('scale by their subresource', async () => {
    const scale = await cluster.must(
      'PATCH',
      `${DEPLOYMENTS}/web/scale`,
      { spec: { replicas: 2 } },
      MERGE,
    );
    assert.deepEqual(
      [scale.kind, scale.spec.replicas, scale.status.selector],
      ['Scale', 2, 'app=web'],
    );
    await rolledOut('web', 2);
  });

  it('replace a pod that is deleted', async () => {
    const [first] = await podsOf('web');
    await cluster.must('DELETE', `${PODS}/${first?.metadata.name ?? ''}`);
    await until('another pod', async () => {
      const pods = await podsOf('web');
      return pods.length === 2 && !pods.some((pod) => pod.metadata.name === first?.metadata.name);
    });
    await rolledOut('web', 2);
  });

  it('take everything they own along when deleted in the foreground', async () => {
    const body = { propagationPolicy: 'Foreground' };
    const going = await cluster.must('DELETE', `${DEPLOYMENTS}/web`, body);
    assert.deepEqual(going.metadata.finalizers, ['foregroundDeletion']);
    await until('all is gone', async () => {
      const { status } = await cluster.call('GET', `${DEPLOYMENTS}/web`);
      return status === 404 && (await podsOf('web')).length === 0;
    });
    const sets = (await cluster.must('GET', `${SETS}?labelSelector=app%3Dweb`)).items;
    assert.equal(sets.length, 0);
  });

  it('leave their pods alone when orphaned', async () => {
    await cluster.must('POST', DEPLOYMENTS, deployment('left', 1));
    await rolledOut('left', 1);
    await cluster.must('DELETE', `${DEPLOYMENTS}/left`, { propagationPolicy: 'Orphan' });
    const [set] = (await cluster.must('GET', `${SETS}?labelSelector=app%3Dleft`)).items;
    assert.deepEqual(set.metadata.ownerReferences ?? [], []);
    assert.equal((await podsOf('left')).length, 1);
  });
});

describe('services', () => {
  const SERVICES = '/api/v1/namespaces/default/services';
  const SLICES = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices';

  it('get a cluster address and endpoints with named ports resolved', async () => {
    await cluster.must('POST', DEPLOYMENTS, deployment('api', 2));
    const spec = { selector: { app: 'api' }, ports: [{ port: 80, targetPort: 'http' }] };
    const service = await cluster.must('POST', SERVICES, { metadata: { name: 'api' }, spec });
    assert.match(service.spec.clusterIP, /^10\.96\.0\.\d+$/);
    assert.deepEqual(service.spec.ports, [{ port: 80, targetPort: 'http', protocol: 'TCP' }]);
    const slice = await until('two endpoints', async () => {
      const { items } = await cluster.must(
        'GET',
        `${SLICES}?labelSelector=kubernetes.io/service-name%3Dapi`,
      );
      const ready = items[0]?.endpoints.filter(
        (item: { conditions: { ready: boolean } }) => item.conditions.ready,
      );
      return ready?.length === 2 && items.length === 1 && items[0];
    });
    assert.deepEqual(slice.ports, [{ name: '', port: 8080, protocol: 'TCP' }]);
    assert.equal(slice.endpoints[0].targetRef.kind, 'Pod');
    const { subsets } = await until('the older form', async () => {
      const { status, body } = await cluster.call(
        'GET',
        '/api/v1/namespaces/default/endpoints/api',
      );
      return status === 200 && body.subsets?.[0]?.addresses?.length === 2 && body;
    });
    assert.equal(subsets[0].ports[0].port, 8080);
  });

  it('refuse a second use of an address, and keep theirs', async () => {
    const { spec } = await cluster.must('GET', `${SERVICES}/api`);
    const taken = await cluster.call('POST', SERVICES, {
      metadata: { name: 'other' },
      spec: { clusterIP: spec.clusterIP, ports: [{ port: 80 }] },
    });
    assert.equal(taken.status, 422);
    const patch = { spec: { clusterIP: '10.96.1.1' } };
    assert.equal((await cluster.call('PATCH', `${SERVICES}/api`, patch, MERGE)).status, 422);
    const outside = {
      metadata: { name: 'o' },
      spec: { clusterIP: '10.1.1.1', ports: [{ port: 1 }] },
    };
    assert.equal((await cluster.call('POST', SERVICES, outside)).status, 422);
  });

  it('have addresses and endpoint slices of the families they ask for', async () => {
    const ports = [{ port: 80, targetPort: 'http' }];
    const make = (name: string, spec: object): Promise<{ spec: Record<string, unknown> }> =>
      cluster.must('POST', SERVICES, {
        metadata: { name },
        spec: { selector: { app: 'api' }, ports, ...spec },
      });
    const both = await make('both', { ipFamilyPolicy: 'PreferDualStack' });
    const [ipv4, ipv6] = both.spec['clusterIPs'] as string[];
    assert.ok(isIPv4(ipv4 ?? '') && isIPv6(ipv6 ?? ''), JSON.stringify(both.spec));
    assert.deepEqual(both.spec['ipFamilies'], ['IPv4', 'IPv6']);
    const only = await make('only', { ipFamilies: ['IPv6'] });
    assert.ok(isIPv6(String(only.spec['clusterIP'])), JSON.stringify(only.spec));
    assert.equal(only.spec['ipFamilyPolicy'], 'SingleStack');
    const taken = { clusterIP: ipv6, ports };
    const again = { metadata: { name: 'again' }, spec: taken };
    assert.equal((await cluster.call('POST', SERVICES, again)).status, 422);
    const odd = { metadata: { name: 'odd' }, spec: { ipFamilies: ['IPv5'], ports } };
    const refused = await cluster.call('POST', SERVICES, odd);
    assert.equal(refused.status, 422);
    assert.match(JSON.stringify(refused.body), /spec\.ipFamilies\[0\]/);
    await until('a slice of each family', async () => {
      const selector = 'labelSelector=kubernetes.io/service-name%3Dboth';
      const { items } = await cluster.must('GET', `${SLICES}?${selector}`);
      const types = items.map(({ addressType }: { addressType: string }) => addressType);
      return types.toSorted().join() === 'IPv4,IPv6';
    });
  });

  it('allocate node ports', async () => {
    const spec = { type: 'NodePort', ports: [{ port: 80 }] };
    const made = await cluster.must('POST', SERVICES, { metadata: { name: 'np' }, spec });
    const { nodePort } = made.spec.ports[0];
    assert.ok(nodePort >= 30_000 && nodePort <= 32_767);
    const changed = await cluster.must(
      'PATCH',
      `${SERVICES}/np`,
      { metadata: { labels: { a: 'b' } } },
      MERGE,
    );
    assert.equal(changed.spec.ports[0].nodePort, nodePort);
  });
});

describe('daemon sets', () => {
  const path = '/apis/apps/v1/namespaces/default/daemonsets';

  it('run on every node that fits, and roll with a surge', async () => {
    const body = deployment('agent', 1) as { spec: Dict };
    Reflect.deleteProperty(body.spec, 'replicas');
    const update = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
    await cluster.must('POST', path, {
      ...body,
      kind: 'DaemonSet',
      spec: { ...body.spec, updateStrategy: update },
    });
    const ready = async (): Promise<{ status: Dict; metadata: Dict }> =>
      await until('two ready', async () => {
        const set = await cluster.must('GET', `${path}/agent`);
        const { status, metadata } = set;
        const isUp = status.numberAvailable === 2 && status.updatedNumberScheduled === 2;
        return isUp && status.observedGeneration === metadata.generation && set;
      });
    await ready();
    let least = 2;
    const stop = await cluster.watch(`${path}?watch=true`, ({ object }) => {
      least = Math.min(least, (object['status'] as { numberAvailable: number }).numberAvailable);
    });
    const patch = { spec: { template: { metadata: { labels: { v: '2' } } } } };
    await cluster.must('PATCH', `${path}/agent`, patch, MERGE);
    await ready();
    await until('the old pods are gone', async () => (await podsOf('agent')).length === 2);
    assert.equal(least, 2);
    stop();
    await cluster.must(
      'PATCH',
      `${path}/agent`,
      { spec: { template: { spec: { nodeSelector: { tier: 'b' } } } } },
      MERGE,
    );
    await until('one node only', async () => {
      const pods = await podsOf('agent');
      return pods.length === 1 && pods[0]?.spec.nodeName === 'n22';
    });
  });
});

describe('stateful sets', () => {
  const path = '/apis/apps/v1/namespaces/default/statefulsets';

  it('run numbered pods, replace them one by one, and shrink from the end', async () => {
    const body = deployment('db', 2);
    await cluster.must('POST', path, { ...body, kind: 'StatefulSet' });
    const ready = async (updated: number): Promise<void> => {
      await until(`${updated} updated and ready`, async () => {
        const { status, metadata } = await cluster.must('GET', `${path}/db`);
        const isSeen = status.observedGeneration === metadata.generation;
        return isSeen && status.readyReplicas === updated && status.updatedReplicas === updated;
      });
    };
    await ready(2);
    const names = async (): Promise<string[]> =>
      (await podsOf('db')).map((pod) => pod.metadata.name);
    assert.deepEqual(await names(), ['db-0', 'db-1']);
    await cluster.must(
      'PATCH',
      `${path}/db`,
      { spec: { template: { metadata: { labels: { v: '2' } } } } },
      MERGE,
    );
    await ready(2);
    await cluster.must('PATCH', `${path}/db/scale`, { spec: { replicas: 1 } }, MERGE);
    await until('one pod', async () => (await names()).join() === 'db-0');
  });
});

describe('namespaces', () => {
  it('have a default account and the CA, and are emptied before they go', async () => {
    await cluster.must('POST', '/api/v1/namespaces', { metadata: { name: 'team' } });
    await until('the account', async () => {
      const { status } = await cluster.call(
        'GET',
        '/api/v1/namespaces/team/serviceaccounts/default',
      );
      return status === 200;
    });
    const ca = await cluster.must('GET', '/api/v1/namespaces/team/configmaps/kube-root-ca.crt');
    assert.match(ca.data['ca.crt'], /BEGIN CERTIFICATE/);
    await cluster.must('POST', '/apis/apps/v1/namespaces/team/deployments', deployment('web', 1));
    const going = await cluster.must('DELETE', '/api/v1/namespaces/team');
    assert.equal(going.status.phase, 'Terminating');
    const late = await cluster.call('POST', '/api/v1/namespaces/team/configmaps', {
      metadata: { name: 'x' },
    });
    assert.equal(late.status, 403);
    await until('the namespace is gone', async () => {
      const { status } = await cluster.call('GET', '/api/v1/namespaces/team');
      return status === 404;
    });
  });
});

describe('pods', () => {
  it('wait for a node they fit, and say why', async () => {
    const spec = { nodeSelector: { tier: 'none' }, containers: [{ name: 'a', image: 'b' }] };
    await cluster.must('POST', PODS, { metadata: { name: 'stuck' }, spec });
    const pod = await until('the reason', async () => {
      const found = await cluster.must('GET', `${PODS}/stuck`);
      return found.status.conditions !== undefined && found;
    });
    const { reason, message } = pod.status.conditions[0];
    assert.equal(reason, 'Unschedulable');
    assert.match(message, /2 node\(s\) didn't match Pod's node affinity\/selector/);
    await cluster.must(
      'PATCH',
      '/api/v1/nodes/n1',
      { metadata: { labels: { tier: 'none' } } },
      MERGE,
    );
    await until(
      'it runs',
      async () => (await cluster.must('GET', `${PODS}/stuck`)).status.phase === 'Running',
    );
  });

  it('are given a token volume, defaults and tolerations', async () => {
    const spec = {
      containers: [{ name: 'a', image: 'b', readinessProbe: { httpGet: { port: 80 } } }],
    };
    const pod = await cluster.must('POST', PODS, { metadata: { name: 'plain' }, spec });
    assert.equal(pod.spec.serviceAccountName, 'default');
    assert.equal(
      pod.spec.containers[0].volumeMounts[0].mountPath,
      '/var/run/secrets/kubernetes.io/serviceaccount',
    );
    assert.equal(pod.spec.containers[0].readinessProbe.periodSeconds, 10);
    assert.equal(pod.spec.tolerations.length, 2);
    assert.deepEqual(pod.status, { phase: 'Pending', qosClass: 'BestEffort' });
    const change = await cluster.call(
      'PATCH',
      `${PODS}/plain`,
      { spec: { hostNetwork: true } },
      MERGE,
    );
    assert.equal(change.status, 422);
  });

  it('go with their node', async () => {
    await cluster.must('DELETE', '/api/v1/nodes/n1');
    await until('no pod on n1', async () => {
      const { items } = await cluster.must('GET', `${PODS}?fieldSelector=spec.nodeName%3Dn1`);
      return items.length === 0;
    });
  });
});
