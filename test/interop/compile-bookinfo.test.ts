// Istio's Bookinfo routing examples through the compiler, unchanged: what each file is said to do. Needs
// AMBIENT_REAL_WORLD_YAML (a folder with bookinfo/).
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compile } from '../../common/compile/compile.ts';
import type { CompileInput, ConfigObject } from '../../common/compile/types.ts';
import { makeWaypoint } from '../support/kube-objects.ts';
import { clusterOf, readManifests } from '../support/yaml-cluster.ts';

const root = join(process.env['AMBIENT_REAL_WORLD_YAML'] ?? '', 'bookinfo');
const skip = !existsSync(join(root, 'kube')) && 'set AMBIENT_REAL_WORLD_YAML';
const NAMESPACE = 'bookinfo';

const USE_WAYPOINT = { 'istio.io/use-waypoint': 'waypoint' };

function inputFor(...files: string[]): CompileInput {
  const all: ConfigObject[] = [
    ...readManifests(join(root, 'kube/bookinfo.yaml'), NAMESPACE),
    ...readManifests(join(root, 'kube/bookinfo-versions.yaml'), NAMESPACE),
    ...files.flatMap((file) => readManifests(join(root, file), NAMESPACE)),
  ];
  const input = clusterOf(all);
  return {
    ...input,
    namespaces: [{ metadata: { name: NAMESPACE, labels: USE_WAYPOINT } }],
    gateways: [...(input.gateways ?? []), makeWaypoint('waypoint', { namespace: NAMESPACE })],
  };
}

function losses(...files: string[]): string[] {
  return compile(inputFor(...files))
    .verdicts.filter(({ enforcedAt, kind }) => enforcedAt === 'nowhere' && kind !== 'ServiceEntry')
    .map(({ kind, name, field, reason }) => [kind, name, field, reason].join(' '));
}

// Files whose routes cannot all be executed here, and why.
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  'networking/bookinfo-gateway.yaml': ['VirtualService bookinfo spec.gateways[0] GatewayNotServed'],
  'networking/certmanager-gateway.yaml': [
    'VirtualService cert-manager spec.gateways[0] GatewayNotServed',
  ],
  // Its second route stands behind one that takes everything.
  'networking/fault-injection-details-v1.yaml': ['VirtualService details spec.http[1] Shadowed'],
  'networking/egress-rule-google-apis.yaml': [
    'DestinationRule originate-tls-for-googleapis spec.trafficPolicy.portLevelSettings[0].tls.mode UnsupportedValue',
  ],
  'gateway-api/bookinfo-gateway.yaml': ['HTTPRoute bookinfo spec.parentRefs[0] GatewayNotServed'],
};

describe('bookinfo', { skip }, () => {
  const files = skip
    ? []
    : ['networking', 'gateway-api'].flatMap((folder) =>
        readdirSync(join(root, folder)).map((name) => `${folder}/${name}`),
      );
  // Subsets named here without a deployment in the plain application (v2 of details and ratings).
  const withoutPods = /^DestinationRule \S+ spec\.subsets\[\d+\] NoWorkloads$/;

  for (const file of files) {
    it(`${file}: ${KNOWN[file]?.join(', ') ?? 'all executed'}`, () => {
      const rules = /destination-rule|egress/.test(file)
        ? []
        : ['networking/destination-rule-all.yaml'];
      const found = losses(...rules, file).filter((loss) => !withoutPods.test(loss));
      assert.deepEqual(found, KNOWN[file] ?? []);
    });
  }

  it('90/10 reaches the pods of both versions', () => {
    const rules = 'networking/destination-rule-all.yaml';
    const output = compile(inputFor(rules, 'networking/virtual-service-reviews-90-10.yaml'));
    const config = output.waypoints.get('bookinfo/waypoint');
    const routes = config?.serviceRoutes.get('bookinfo/reviews.bookinfo.svc.cluster.local');
    const action = routes?.ports[0]?.routes[0]?.action;
    assert.ok(action?.case === 'forward');
    const shares = action.value.clusters.map(({ cluster, weight }) => [
      weight,
      config?.subsetMembers.get(cluster)?.workloadUids.length,
    ]);
    assert.deepEqual(shares, [
      [90, 1],
      [10, 1],
    ]);
  });
});
