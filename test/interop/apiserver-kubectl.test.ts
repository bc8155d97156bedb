// Stock kubectl against the local API server alone: every verb users know, with a client that plays the kubelet. With
// AMBIENT_REAL_WORLD_YAML (a folder with crds/, bookinfo/ and samples/) Istio's and the Gateway API's own files are applied too.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Cluster, deployment, until } from '../integration/local/apiserver/support.ts';

const KUBECTL = process.env['KUBECTL'] ?? 'kubectl';
const yaml = process.env['AMBIENT_REAL_WORLD_YAML'] ?? '';

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const cluster = new Cluster();

// Not spawnSync: the server that answers runs in this process.
function kubectl(args: readonly string[], input?: string): Promise<Result> {
  const [program = '', ...first] = KUBECTL.split(' ');
  const child = spawn(program, [...first, '--kubeconfig', cluster.kubeconfig, ...args]);
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (out += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (err += part));
  child.stdin.end(input ?? '');
  return new Promise((resolve) => {
    child.on('error', (cause) => resolve({ code: 127, out, err: String(cause) }));
    child.on('close', (code) => resolve({ code: code ?? 1, out, err }));
  });
}

async function must(args: readonly string[], input?: string): Promise<string> {
  const { code, out, err } = await kubectl(args, input);
  assert.equal(code, 0, `kubectl ${args.join(' ')}: ${out}${err}`);
  return out;
}

const hasKubectl = (await kubectl(['version', '--client'])).code === 0;
const file = (name: string): string => join(cluster.dir, name);

describe('kubectl', { skip: !hasKubectl && 'needs kubectl' }, () => {
  before(async () => {
    await cluster.start();
    await cluster.addNode('n1');
    await cluster.addNode('n22');
    writeFileSync(file('web.json'), JSON.stringify(deployment('web', 2)));
  });
  after(() => cluster.close());

  it('knows the server and its resources', async () => {
    assert.match((await kubectl(['version'])).out, /Server Version: v1\.33/);
    assert.match(await must(['api-resources']), /deployments +deploy +apps\/v1 +true +Deployment/);
    assert.match(await must(['explain', 'deployment.spec.strategy']), /rollingUpdate/);
    assert.equal((await must(['auth', 'can-i', 'create', 'pods'])).trim(), 'yes');
  });

  it('applies, waits for the rollout, gets and describes', async () => {
    assert.match(await must(['apply', '-f', file('web.json')]), /deployment.apps\/web created/);
    assert.match(await must(['apply', '-f', file('web.json')]), /unchanged/);
    assert.match(
      await must(['rollout', 'status', 'deploy/web', '--timeout=20s']),
      /successfully rolled out/,
    );
    const wide = await must(['get', 'pods', '-o', 'wide']);
    assert.match(wide, /NAME +READY +STATUS +RESTARTS +AGE +IP +NODE/);
    assert.match(wide, /web-\S+ +0\/1 +Running +0 .* n1 /);
    const described = await must(['describe', 'deploy', 'web']);
    assert.match(described, /Replicas: +2 desired \| 2 updated \| 2 total \| 2 available/);
    assert.match(described, /ScalingReplicaSet/);
    const [pod = ''] = (await must(['get', 'pods', '-l', 'app=web', '-o', 'name'])).split('\n');
    assert.match(await must(['describe', pod]), /Successfully assigned default\/web-/);
  });

  it('expresses changes: label, annotate, patch, scale, set image, undo', async () => {
    await must(['label', 'deploy', 'web', 'team=a']);
    await must(['annotate', 'deploy', 'web', 'note=b']);
    await must(['patch', 'deploy', 'web', '-p', '{"spec":{"minReadySeconds":0}}']);
    await must([
      'patch',
      'deploy',
      'web',
      '--type=json',
      '-p',
      '[{"op":"add","path":"/metadata/labels/x","value":"y"}]',
    ]);
    await must(['scale', 'deploy', 'web', '--replicas=3']);
    await must(['set', 'image', 'deploy/web', 'app=app:2']);
    await must(['rollout', 'status', 'deploy/web', '--timeout=20s']);
    assert.match(await must(['rollout', 'history', 'deploy/web']), /2 +<none>/);
    await must(['rollout', 'undo', 'deploy/web']);
    await must(['rollout', 'status', 'deploy/web', '--timeout=20s']);
    const image = [
      'get',
      'deploy',
      'web',
      '-o',
      'jsonpath={.spec.template.spec.containers[0].image}',
    ];
    assert.equal(await must(image), 'app:1');
    assert.equal(
      await must(['get', 'deploy', '-l', 'team=a,x=y', '-o', 'name']),
      'deployment.apps/web\n',
    );
  });

  it('applies on the server, with conflicts', async () => {
    const body = { ...deployment('ssa', 1) };
    await must(['apply', '--server-side', '-f', '-'], JSON.stringify(body));
    await must(['scale', 'deploy', 'ssa', '--replicas=2']);
    await must(
      ['apply', '--server-side', '--field-manager=other', '--force-conflicts', '-f', '-'],
      JSON.stringify(deployment('ssa', 4)),
    );
    const refused = await kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify(body));
    assert.match(refused.err, /conflict with "other".*: .spec.replicas/);
    assert.match(
      await must(
        ['diff', '--server-side', '--force-conflicts', '-f', '-'],
        JSON.stringify(deployment('ssa', 4)),
      ),
      /^$/,
    );
  });

  it('creates what its typed commands send as protobuf', async () => {
    await must(['create', 'namespace', 'team']);
    await must(['create', 'configmap', 'c', '--from-literal=a=b']);
    await must(['create', 'secret', 'generic', 's', '--from-literal=a=b']);
    await must(['create', 'deployment', 'd', '--image=app', '--replicas=0', '-n', 'team']);
    assert.match(await must(['create', 'token', 'default']), /^ey/);
    assert.equal(await must(['get', 'cm', 'c', '-o', 'jsonpath={.data.a}']), 'b');
    assert.equal(
      await must(['get', 'deploy', 'd', '-n', 'team', '-o', 'jsonpath={.spec.replicas}']),
      '0',
    );
    await must(['delete', 'namespace', 'team', '--timeout=20s']);
  });

  it('watches and waits', async () => {
    const waiting = must(['wait', '--for=jsonpath={.data.late}=yes', 'cm/c', '--timeout=20s']);
    const watching = kubectl(['get', 'cm', 'c', '-w', '--request-timeout=3s']);
    await must(['patch', 'cm', 'c', '--type=merge', '-p', '{"data":{"late":"yes"}}']);
    assert.match(await waiting, /condition met/);
    await must(['annotate', 'cm', 'c', 'seen=1']);
    assert.ok((await watching).out.split('\n').length >= 3);
    assert.match(await must(['events']), /Scheduled/);
  });

  it('says which field is wrong', async () => {
    const body = JSON.stringify({ ...deployment('bad', 1), speck: {} });
    const refused = await kubectl(['apply', '-f', '-'], body);
    assert.match(refused.err, /unknown field "speck"/);
    const mistyped = JSON.stringify({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'm' },
      data: { a: true },
    });
    assert.match((await kubectl(['apply', '-f', '-'], mistyped)).err, /data.a: string/);
  });

  it('deletes, with what is owned', async () => {
    await must(['delete', 'deploy', 'web', '--cascade=foreground', '--timeout=20s']);
    await must(['delete', 'deploy', '--all', '--timeout=20s']);
    await until('no pods', async () => (await must(['get', 'pods', '-o', 'name'])) === '');
  });
});

const hasFiles = hasKubectl && existsSync(join(yaml, 'crds'));

describe(
  'real-world files',
  { skip: !hasFiles && 'needs kubectl and AMBIENT_REAL_WORLD_YAML' },
  () => {
    before(() => cluster.start());
    after(() => cluster.close());

    it('apply: Istio’s and the Gateway API’s definitions, then everything that uses them', async () => {
      for (const name of globSync(join(yaml, 'crds/*.yaml')).sort()) {
        await must(['apply', '--server-side', '-f', name]);
      }
      await must(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=20s']);
      await must(['create', 'namespace', 'istio-system']);
      await must(['create', 'namespace', 'echo-grpc']);
      const files = globSync(join(yaml, '{bookinfo,samples}/**/*.yaml')).sort();
      assert.ok(files.length > 10);
      for (const name of files) {
        await must(['apply', '-f', name]);
        // Alternatives of one Service: the first family of its addresses may not change.
        if (/-(dual-stack|ipv[46])\.yaml$/.test(name)) await must(['delete', '-f', name]);
      }
      assert.match(
        await must(['get', 'virtualservices,destinationrules,gateways.networking.istio.io']),
        /bookinfo/,
      );
    });

    it('and broken ones are refused by schema and rule', async () => {
      const policy = {
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'p' },
        spec: { selector: { matchLabels: { a: 'b' } }, targetRef: { kind: 'Service', name: 'x' } },
      };
      const refused = await kubectl(['apply', '-f', '-'], JSON.stringify(policy));
      assert.match(refused.err, /only one of targetRefs or selector can be set/);
      const route = {
        apiVersion: 'gateway.networking.k8s.io/v1',
        kind: 'HTTPRoute',
        metadata: { name: 'r' },
        spec: { rules: [{ filters: [{ type: 'RequestRedirect' }] }] },
      };
      const broken = await kubectl(['apply', '-f', '-'], JSON.stringify(route));
      assert.match(broken.err, /filter.requestRedirect must be specified/);
    });
  },
);
