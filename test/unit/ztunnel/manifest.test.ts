// The node proxy's manifest against its configuration: the variables it sets are read, and what is read by default is
// mounted where Istio's ztunnel looks for it, the mesh config included, which it leaves to who has one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { describe, it } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { readConfig } from '../../../ztunnel/config.ts';
import { DEFAULT_MESH_CONFIG_FILE } from '../../../ztunnel/mesh-config.ts';
import { ISTIO_SETTINGS, OWN_SETTINGS } from '../../../ztunnel/settings.ts';

interface Volume {
  readonly name: string;
  readonly configMap?: { readonly name: string; readonly optional?: boolean };
  readonly projected?: {
    readonly sources: readonly { readonly serviceAccountToken?: { readonly path: string } }[];
  };
  readonly hostPath?: { readonly path: string };
}

interface DaemonSet {
  readonly kind: string;
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly volumes: readonly Volume[];
        readonly containers: readonly {
          readonly workingDir?: string;
          readonly env: readonly {
            readonly name: string;
            readonly value?: string;
            readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
          }[];
          readonly ports: readonly { readonly containerPort: number }[];
          readonly readinessProbe: { readonly httpGet: { readonly port: number } };
          readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
        }[];
      };
    };
  };
}

/** What the kubelet puts in place of a field. */
const FIELDS: Readonly<Record<string, string>> = {
  'spec.nodeName': 'node-1',
  'metadata.name': 'ztunnel-x',
  'metadata.namespace': 'istio-system',
  'status.podIPs': '10.0.0.9,fd00::9',
  'spec.serviceAccountName': 'ztunnel',
};

const documents = parseAllDocuments(readFileSync('manifests/ztunnel/ztunnel.yaml', 'utf8'));
const daemonSet = documents
  .map((document) => document.toJS() as DaemonSet)
  .find(({ kind }) => kind === 'DaemonSet');
const spec = daemonSet?.spec.template.spec ?? assert.fail('no DaemonSet');
const [container = assert.fail('no container')] = spec.containers;
const env = Object.fromEntries(
  container.env.map(({ name, value, valueFrom }) => {
    const field = valueFrom?.fieldRef.fieldPath ?? '';
    return [name, value ?? FIELDS[field] ?? assert.fail(`${name} from ${field}`)];
  }),
);
const config = readConfig({ KUBERNETES_SERVICE_HOST: '10.96.0.1', ...env });

/** The volume that is mounted where a file lies; undefined when none is. */
function volumeOf(path: string): Volume | undefined {
  const mount = container.volumeMounts.find(({ mountPath }) => posix.dirname(path) === mountPath);
  return spec.volumes.find(({ name }) => name === mount?.name);
}

describe('manifest of the node proxy', () => {
  it('sets variables that are read, all of them, and none that has no effect', () => {
    assert.deepEqual(config.warnings, []);
    const known = new Set(Object.keys({ ...ISTIO_SETTINGS, ...OWN_SETTINGS }));
    for (const name of Object.keys(env)) {
      assert.ok(known.has(name) || name.startsWith('ISTIO_META_'), name);
    }
    assert.equal(config.xds?.address, 'istiod.istio-system.svc:15012');
    assert.equal(config.ca?.address, config.xds.address);
    assert.deepEqual(config.instanceIps, ['10.0.0.9', 'fd00::9']);
    assert.deepEqual(
      [config.nodeName, config.podName, config.podNamespace, config.serviceAccount],
      ['node-1', 'ztunnel-x', 'istio-system', 'ztunnel'],
    );
  });

  it('mounts what is read by default, at Istio’s paths', () => {
    const root = config.ca?.root ?? '';
    assert.equal(root, '/var/run/secrets/istio/root-cert.pem');
    assert.equal(config.xds?.root, root);
    assert.equal(volumeOf(root)?.configMap?.name, 'istio-ca-root-cert');
    const [source] = volumeOf('/var/run/secrets/tokens/istio-token')?.projected?.sources ?? [];
    assert.equal(source?.serviceAccountToken?.path, 'istio-token');
    assert.equal(config.zdsPath, '/var/run/ztunnel/ztunnel.sock');
    assert.equal(volumeOf(config.zdsPath)?.hostPath?.path, '/var/run/ztunnel');
    assert.equal(volumeOf(config.crlPath ?? '')?.configMap?.optional, true);
  });

  it('leaves the place of the mesh config free, and Istio’s path is right where the image runs', () => {
    assert.equal(container.workingDir, undefined, 'the image runs in /');
    assert.equal(posix.resolve('/', './etc/istio/config/mesh'), DEFAULT_MESH_CONFIG_FILE);
    for (const { mountPath } of container.volumeMounts) {
      const isOver = DEFAULT_MESH_CONFIG_FILE.startsWith(`${mountPath}/`);
      assert.ok(!isOver, mountPath);
    }
    assert.match(readFileSync('manifests/images/Containerfile', 'utf8'), /^WORKDIR \/$/m);
  });

  it('names the ports that are listened on, and gives a drain its time', () => {
    assert.equal(container.ports[0]?.containerPort, config.statsPort);
    assert.equal(container.readinessProbe.httpGet.port, config.readinessPort);
    assert.ok(spec.terminationGracePeriodSeconds * 1000 > config.terminationDeadlineMs);
  });
});
