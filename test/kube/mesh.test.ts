// The mesh on a real API server, with only the service accounts and rights of the manifests: everything comes up,
// curl to ratings crosses nodes by HBONE, and the L4 deny refuses, seen in both node proxies' metrics.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { eventually, hasRealApiServer, RealCluster } from './real-cluster.ts';

const READY_SECONDS = 120;
const cluster = new RealCluster();

function rollout(namespace: string, what: string): void {
  cluster.must(['rollout', 'status', '-n', namespace, what, `--timeout=${READY_SECONDS}s`]);
}

/** Sum of the samples of a metric whose labels contain all the given texts. */
function metric(pod: string, name: string, labels: readonly string[]): number {
  const text = cluster.inPod('istio-system', pod, [
    'curl',
    '-s',
    'http://localhost:15020/metrics',
  ]).stdout;
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Sum of a metric over both node proxies. */
function total(name: string, labels: readonly string[]): number {
  const path = 'jsonpath={.items[*].metadata.name}';
  const args = ['get', 'pods', '-n', 'istio-system', '-l', 'app=ztunnel', '-o', path];
  const pods = cluster.must(args).split(' ');
  assert.equal(pods.length, 2, 'one node proxy for each node');
  return pods.reduce((sum, pod) => sum + metric(pod, name, labels), 0);
}

/** Puts a deployment's pods on a node. */
function pin(deployment: string, node: string): void {
  const nodeSelector = { 'kubernetes.io/hostname': node };
  const patch = JSON.stringify({ spec: { template: { spec: { nodeSelector } } } });
  cluster.must(['patch', 'deploy', '-n', 'bookinfo', deployment, '-p', patch]);
}

function nodeOf(selector: string): string {
  const path = 'jsonpath={.items[0].spec.nodeName}';
  return cluster.must(['get', 'pods', '-n', 'bookinfo', '-l', selector, '-o', path]);
}

describe(
  'the mesh on a real api server',
  { skip: !hasRealApiServer() && 'set KUBECONFIG or AMBIENT_KUBE' },
  () => {
    before(() => {
      cluster.start();
      cluster.must(['apply', '--server-side', '-f', 'manifests/crds']);
      cluster.must(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
      cluster.must(['apply', '-k', 'manifests']);
    });
    after(() => cluster.stop());

    it('comes up with the rights of the manifests', async () => {
      await eventually('two nodes', 60, () => {
        const nodes = cluster.kubectl(['get', 'nodes', '-o', 'name']).stdout.trim().split('\n');
        return nodes.length === 2 ? nodes : undefined;
      });
      rollout('istio-system', 'deploy/istiod');
      rollout('istio-system', 'ds/istio-cni-node');
      rollout('istio-system', 'ds/ztunnel');
      cluster.must(['apply', '-k', 'manifests/samples']);
      pin('curl', 'ambient-a');
      pin('ratings-v1', 'ambient-b');
      rollout('bookinfo', 'deploy/ratings-v1');
      rollout('bookinfo', 'deploy/curl');
      cluster.must([
        'wait',
        '-n',
        'bookinfo',
        'gateway/waypoint',
        '--for=condition=Programmed',
        '--timeout=60s',
      ]);
    });

    it('carries a request across nodes by HBONE', async () => {
      const curl = await eventually('curl pod', 30, () => cluster.podName('bookinfo', 'app=curl'));
      const vip = cluster.must([
        'get',
        'svc',
        '-n',
        'bookinfo',
        'ratings',
        '-o',
        'jsonpath={.spec.clusterIP}',
      ]);
      const url = `http://${vip}:9080/ratings/1`;
      let seen = '';
      await eventually(
        'an answer from ratings',
        60,
        () => {
          seen = JSON.stringify(cluster.inPod('bookinfo', curl, ['curl', '-s', '-m', '5', url]));
          return seen.includes('Reviewer1') ? true : undefined;
        },
        () => seen,
      );
      assert.notEqual(nodeOf('app=curl'), nodeOf('app=ratings'), 'the pods are on different nodes');
      const labels = [
        'source_workload="curl"',
        'destination_workload="ratings-v1"',
        'connection_security_policy="mutual_tls"',
      ];
      for (const reporter of ['source', 'destination']) {
        const opened = total('istio_tcp_connections_opened_total', [
          ...labels,
          `reporter="${reporter}"`,
        ]);
        assert.ok(opened > 0, `the ${reporter} counts a connection over mutual tls`);
      }
    });

    it('shows the L4 deny in both node proxies', async () => {
      const policy = readFileSync(join(import.meta.dirname, 'deny-curl.yaml'), 'utf8');
      cluster.must(['apply', '-f', '-'], policy);
      const curl = await eventually('curl pod', 30, () => cluster.podName('bookinfo', 'app=curl'));
      const vip = cluster.must([
        'get',
        'svc',
        '-n',
        'bookinfo',
        'ratings',
        '-o',
        'jsonpath={.spec.clusterIP}',
      ]);
      const url = `http://${vip}:9080/ratings/1`;
      await eventually('a refusal', 30, () =>
        cluster.inPod('bookinfo', curl, ['curl', '-s', '-m', '5', url]).code === 0
          ? undefined
          : true,
      );
      const labels = ['source_workload="curl"', 'destination_workload="ratings-v1"'];
      const failed = (more: readonly string[]): number =>
        total('istio_tcp_connections_failed_total', [...labels, ...more]);
      assert.ok(
        failed(['reporter="destination"', 'response_flags="DENY"']) > 0,
        'the destination counts the deny',
      );
      assert.ok(failed(['reporter="source"']) > 0, 'the source counts the failure');
    });
  },
);
