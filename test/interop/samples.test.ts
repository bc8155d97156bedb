// Stock kubectl and real-world YAML against the local cluster: Istio's sample applications apply and work unchanged,
// through the mesh. Needs kubectl and AMBIENT_REAL_WORLD_YAML (a folder with bookinfo/ and samples/).
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

const yaml = process.env['AMBIENT_REAL_WORLD_YAML'] ?? '';
const hasKubectl = spawnSync('kubectl', ['version', '--client']).status === 0;
const why =
  process.getuid?.() !== 0
    ? 'needs root'
    : !hasKubectl
      ? 'needs kubectl'
      : yaml === '' && 'set AMBIENT_REAL_WORLD_YAML';

const state = mkdtempSync(join(tmpdir(), 'ambient-interop-'));
const kubeconfig = join(state, 'kubeconfig');
let main: ChildProcess | undefined;
let output = '';

interface Result {
  readonly code: number | null;
  readonly text: string;
}

function kubectl(args: readonly string[], input?: string): Result {
  const all = ['--kubeconfig', kubeconfig, ...args];
  const result = spawnSync('kubectl', all, { encoding: 'utf8', input, timeout: 120_000 });
  return { code: result.status, text: result.stdout + result.stderr };
}

function must(args: readonly string[], input?: string): string {
  const result = kubectl(args, input);
  assert.equal(result.code, 0, `kubectl ${args.join(' ')}: ${result.text}`);
  return result.text;
}

async function eventually(
  what: string,
  seconds: number,
  probe: () => string | true,
): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const seen = probe();
    if (seen === true) return;
    if (Date.now() > deadline) assert.fail(`not within ${seconds} s: ${what}: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

const inCurl = (command: readonly string[]): Result =>
  kubectl(['exec', '-n', 'real', 'deploy/curl', '--', ...command]);

async function answers(url: string, expected: RegExp): Promise<void> {
  await eventually(url, 60, () => {
    const { text } = inCurl(['curl', '-s', '-m', '5', url]);
    return expected.test(text) || text.slice(0, 300);
  });
}

describe('real-world YAML by kubectl', { skip: why }, () => {
  before(async () => {
    main = spawn(process.execPath, ['local/main.ts', '--empty', '--state', state], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    main.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    main.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually('the local cluster', 90, () => {
      if (!existsSync(kubeconfig)) return output.slice(-500);
      const { text } = kubectl([
        'get',
        'ds',
        '-n',
        'istio-system',
        'ztunnel',
        '-o',
        'jsonpath={.status.numberReady}',
      ]);
      return text === '2' || text + output.slice(-500);
    });
    must(['create', 'namespace', 'real']);
    must(['label', 'namespace', 'real', 'istio.io/dataplane-mode=ambient']);
    must(['apply', '-n', 'real', '-f', join(yaml, 'bookinfo/kube/bookinfo.yaml')]);
    for (const name of [
      'curl/curl',
      'httpbin/httpbin',
      'tcp-echo/tcp-echo',
      'helloworld/helloworld',
    ]) {
      must(['apply', '-n', 'real', '-f', join(yaml, `samples/${name}.yaml`)]);
    }
    // This one names its own namespace.
    must(['create', 'namespace', 'echo-grpc']);
    must(['label', 'namespace', 'echo-grpc', 'istio.io/dataplane-mode=ambient']);
    must(['apply', '-f', join(yaml, 'samples/grpc-echo/grpc-echo.yaml')]);
    must([
      'wait',
      '-n',
      'echo-grpc',
      '--for=condition=Available',
      'deploy',
      '--all',
      '--timeout=90s',
    ]);
    must(['wait', '-n', 'real', '--for=condition=Available', 'deploy', '--all', '--timeout=90s']);
  });
  after(async () => {
    if (main?.exitCode === null) {
      const ended = new Promise((resolve) => main?.on('exit', resolve));
      main.kill('SIGINT');
      await ended;
    }
    rmSync(state, { recursive: true, force: true });
  });

  it('enrols every pod without a restart', async () => {
    await eventually('enrolment', 60, () => {
      const path =
        '{range .items[*]}{.metadata.annotations.ambient\\.istio\\.io/redirection}{"\\n"}{end}';
      const states = kubectl(['get', 'pods', '-n', 'real', '-o', `jsonpath=${path}`])
        .text.split('\n')
        .slice(0, -1);
      return (states.length > 8 && states.every((each) => each === 'enabled')) || states.join(',');
    });
    const restarts = must([
      'get',
      'pods',
      '-n',
      'real',
      '-o',
      'jsonpath={.items[*].status.containerStatuses[*].restartCount}',
    ]);
    assert.match(restarts.trim(), /^[0 ]+$/);
  });

  it('bookinfo answers', async () => {
    await answers('http://productpage:9080/productpage', /<title>Simple Bookstore App<\/title>/);
    await answers('http://ratings:9080/ratings/1', /"Reviewer1"/);
  });

  it('httpbin, helloworld and tcp-echo answer', async () => {
    await answers('http://httpbin:8000/headers', /"headers"/);
    await answers('http://helloworld:5000/hello', /Hello version: v[12]/);
    await answers('http://echo.echo-grpc/', /Hostname=|echo/);
    await eventually('tcp-echo', 30, () => {
      const { text } = inCurl([
        'sh',
        '-c',
        'echo world | (exec 3<>/dev/tcp/tcp-echo/9000; cat >&3; head -n1 <&3)',
      ]);
      const viaBash = /hello world|one world/.test(text);
      if (viaBash) return true;
      const bash = inCurl([
        'bash',
        '-c',
        'exec 3<>/dev/tcp/tcp-echo/9000; echo world >&3; head -n1 <&3',
      ]).text;
      return /world/.test(bash) || text + bash;
    });
  });

  it('routes of bookinfo steer at a waypoint', async () => {
    const gateway = [
      'apiVersion: gateway.networking.k8s.io/v1',
      'kind: Gateway',
      'metadata: {name: waypoint, namespace: real}',
      'spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}',
    ].join('\n');
    must(['apply', '-f', '-'], gateway);
    must(['wait', '-n', 'real', 'gateway/waypoint', '--for=condition=Programmed', '--timeout=60s']);
    must(['label', 'namespace', 'real', 'istio.io/use-waypoint=waypoint']);
    must([
      'apply',
      '-n',
      'real',
      '-f',
      join(yaml, 'bookinfo/networking/destination-rule-all.yaml'),
    ]);
    must([
      'apply',
      '-n',
      'real',
      '-f',
      join(yaml, 'bookinfo/networking/virtual-service-all-v1.yaml'),
    ]);
    await eventually('only v1 of reviews', 60, () => {
      const { text } = inCurl([
        'sh',
        '-c',
        'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -s -m 5 http://reviews:9080/reviews/1; echo; done',
      ]);
      const pods = [...text.matchAll(/"podname": ?"(reviews-v\d)/g)].map((match) => match[1]);
      return (
        (pods.length === 12 && pods.every((pod) => pod === 'reviews-v1')) ||
        pods.join(',') + text.slice(0, 200)
      );
    });
    must([
      'apply',
      '-n',
      'real',
      '-f',
      join(yaml, 'bookinfo/networking/virtual-service-ratings-test-abort.yaml'),
    ]);
    await eventually('the injected fault', 30, () => {
      const command = [
        'curl',
        '-s',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '-H',
        'end-user: jason',
        'http://ratings:9080/ratings/1',
      ];
      const { text } = inCurl(command);
      return text.trim() === '500' || text;
    });
  });

  it('kubectl get, logs, describe, port-forward and delete work', async () => {
    assert.match(
      must(['get', 'pods', '-n', 'real', '-o', 'wide']),
      /NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\s+IP/,
    );
    assert.match(must(['describe', 'deploy', '-n', 'real', 'ratings-v1']), /ratings-v1/);
    assert.ok(must(['logs', '-n', 'real', 'deploy/productpage-v1']).length > 0);
    const forward = spawn(
      'kubectl',
      ['--kubeconfig', kubeconfig, 'port-forward', '-n', 'real', 'svc/httpbin', ':8000'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let said = '';
    forward.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    forward.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    try {
      await eventually('port-forward', 20, () => /127\.0\.0\.1:\d+/.test(said) || said);
      const port = /127\.0\.0\.1:(\d+)/.exec(said)?.[1] ?? '';
      const answer = await fetch(`http://127.0.0.1:${port}/status/200`);
      assert.equal(answer.status, 200);
    } finally {
      forward.kill();
    }
    must(['delete', '-n', 'real', '-f', join(yaml, 'samples/helloworld/helloworld.yaml')]);
    assert.equal(kubectl(['get', 'svc', '-n', 'real', 'helloworld']).code, 1);
  });

  it('a malformed resource is refused with its field', () => {
    const text = readFileSync(
      join(yaml, 'bookinfo/networking/virtual-service-reviews-90-10.yaml'),
      'utf8',
    );
    const bad = kubectl(
      ['apply', '-n', 'real', '-f', '-'],
      text.replace(/weight: 90/, 'weight: ninety'),
    );
    assert.notEqual(bad.code, 0);
    assert.match(bad.text, /weight/);
  });
});
