// Every command of ambientctl, as a process through its launcher, against a running local cluster with the sample.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { systemClock } from '../../common/clock.ts';
import { createRoot } from '../../common/identity/ca.ts';

const LAUNCHER = resolve(process.env['AMBIENTCTL'] ?? 'cli/bin/ambientctl');
const START_SECONDS = 110;
const state = mkdtempSync(join(tmpdir(), 'ambientctl-'));
const kubeconfig = join(state, 'kubeconfig');
let main: ChildProcess | undefined;
let output = '';

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** What `rotation -o json` says. */
interface Rotation {
  readonly roots: readonly { readonly id: string }[];
  readonly proxies: readonly { readonly name: string; readonly trusts: readonly string[] }[];
  readonly isComplete: boolean;
}

interface RunOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

function run(args: readonly string[], { input, env }: RunOptions = {}): Promise<Result> {
  const child = spawn(LAUNCHER, args, {
    env: { ...process.env, KUBECONFIG: kubeconfig, ...env },
    timeout: 60_000,
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  child.stdin.end(input ?? '');
  return new Promise((done, reject) => {
    child.on('error', reject);
    child.on('close', (code) => done({ code, out, err }));
  });
}

/** Runs words split at spaces; they must succeed. */
async function ctl(words: string, options?: RunOptions): Promise<string> {
  const { code, out, err } = await run(words.split(' '), options);
  assert.equal(code, 0, `ambientctl ${words}: ${out}${err}`);
  return out;
}

/** Runs words that must fail with a code and a message. */
async function fails(words: string, code: number, message: RegExp): Promise<void> {
  const result = await run(words.split(' '));
  assert.equal(result.code, code, `${words}: ${result.out}${result.err}`);
  assert.match(result.err, message);
  assert.doesNotMatch(result.err, /\n\s+at /, 'no stack trace');
}

async function until<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 45_000;
  for (;;) {
    const seen = await probe();
    if (seen !== undefined) return seen;
    if (Date.now() > deadline) assert.fail(`not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 300));
  }
}

const curl = (command: string): Promise<Result> =>
  run(['exec', '-n', 'bookinfo', 'deploy/curl', '--', 'sh', '-c', command]);

/** Opens a connection, and sends its request when told to. */
const HELD =
  'exec 3<>/dev/tcp/ratings/9080 && echo open && read line && ' +
  'printf "GET /ratings/0 HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3';

/** The node proxy on the node of an application's pod. */
async function proxyBeside(namespace: string, app: string): Promise<string> {
  const find = async (where: string): Promise<PodObject[]> =>
    (JSON.parse(await ctl(`get pods ${where} -o json`)) as { items: PodObject[] }).items;
  const [pod] = await find(`-n ${namespace} -l app=${app}`);
  const proxies = await find('-n istio-system -l app=ztunnel');
  const proxy = proxies.find(({ spec }) => spec.nodeName === pod?.spec.nodeName);
  return proxy?.metadata.name ?? assert.fail(`no proxy beside ${app}`);
}

interface PodObject {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName: string };
}

interface Edge {
  readonly source: string;
  readonly destination: string;
  readonly service?: string;
  readonly opened?: number;
  readonly failed?: number;
  readonly total?: number;
  readonly codes?: Readonly<Record<string, number>>;
}

async function edges(): Promise<{ l4: Edge[]; l7: Edge[] }> {
  return JSON.parse(await ctl('metrics -n bookinfo -o json')) as { l4: Edge[]; l7: Edge[] };
}

describe('ambientctl', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  before(async () => {
    main = spawn(process.execPath, ['local/main.ts', '--state', state], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    main.stdout?.on('data', collect);
    main.stderr?.on('data', collect);
    const deadline = Date.now() + START_SECONDS * 1000;
    while (!output.includes('The mesh runs')) {
      assert.ok(Date.now() < deadline && main.exitCode === null, output.slice(-1000));
      await new Promise((done) => setTimeout(done, 200));
    }
  });
  after(async () => {
    if (main?.exitCode === null) {
      const ended = new Promise((done) => main?.on('exit', done));
      main.kill('SIGINT');
      await ended;
    }
    rmSync(state, { recursive: true, force: true });
  });

  it('explains itself, and every command, with --help', async () => {
    const help = await ctl('--help');
    const commands = [...help.matchAll(/^ {2}([a-z][a-z-]+)[ |]/gm)].map(([, name = '']) => name);
    assert.ok(commands.length >= 12, help);
    for (const command of commands.filter((name) => name !== 'help')) {
      const text = await ctl(`${command} --help`);
      assert.match(text, /^Usage: ambientctl /, command);
      const inner = [...text.matchAll(/^ {2}([a-z][a-z-]+)[ |]/gm)].map(([, name = '']) => name);
      const isParent = text.includes('[command]');
      for (const each of isParent ? inner.filter((name) => name !== 'help') : [])
        assert.match(await ctl(`${command} ${each} --help`), /^Usage: ambientctl /);
    }
  });

  it('status: what runs and what is in the mesh, for people and programs', async () => {
    const text = await ctl('status');
    assert.match(text, /control plane +1\/1\nnode agent +2\/2\nztunnel +2\/2\n/);
    assert.match(text, /bookinfo +ambient +waypoint +8\/8 +- +-/);
    assert.match(text, /strict +ambient +none +2\/3 +outside-\S+ +-/);
    const value = parse(await ctl('status -o yaml')) as { components: { ready: number }[] };
    assert.deepEqual(
      value.components.map(({ ready }) => ready),
      [1, 2, 2],
    );
  });

  it('get: tables, names, objects, several types, selectors', async () => {
    assert.match(await ctl('get pods -n bookinfo'), /^NAME +READY +STATUS/);
    assert.match(await ctl('get pods -A -o wide'), /^NAMESPACE +NAME.*NODE/);
    assert.match(await ctl('get po -n bookinfo -l app=reviews --show-labels'), /version=v3/);
    assert.match(await ctl('get deploy/curl -n bookinfo -o name'), /^deployment.apps\/curl\n$/);
    const list = JSON.parse(await ctl('get svc,vs -n bookinfo -o json')) as {
      items: { kind: string }[];
    };
    assert.deepEqual(
      new Set(list.items.map(({ kind }) => kind)),
      new Set(['Service', 'VirtualService']),
    );
    const one = parse(await ctl('get service reviews -n bookinfo -o yaml')) as { kind: string };
    assert.equal(one.kind, 'Service');
    assert.match(
      (await run(['get', 'pods', '-n', 'nothing'])).err,
      /No resources found in nothing/,
    );
  });

  it('apply, label and delete an object, and say what happened', async () => {
    const manifest = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: fresh}\n';
    assert.equal(await ctl('apply -f -', { input: manifest }), 'namespace/fresh created\n');
    assert.equal(await ctl('apply -f -', { input: manifest }), 'namespace/fresh unchanged\n');
    const more = manifest.replace('{name: fresh}', '{name: fresh, annotations: {a: b}}');
    assert.equal(await ctl('apply -f -', { input: more }), 'namespace/fresh configured\n');
    assert.equal(await ctl('label ns fresh team=x'), 'namespace/fresh labeled\n');
    await fails('label ns fresh team=y', 1, /'team' already has a value \(x\)/);
    assert.equal(await ctl('label ns/fresh team=y --overwrite'), 'namespace/fresh labeled\n');
    assert.equal(await ctl('label ns -l team=y team-'), 'namespace/fresh unlabeled\n');
    assert.equal(await ctl('delete ns fresh'), 'namespace "fresh" deleted\n');
    await fails(
      'get ns fresh',
      1,
      /^Error from server \(NotFound\): namespaces "fresh" not found$/m,
    );
    await fails('delete ns fresh', 1, /NotFound/);
    assert.equal(await ctl('delete ns fresh --ignore-not-found'), '');
  });

  it('apply names file, object and field of a mistake, and applies the rest', async () => {
    const file = join(state, 'mixed.yaml');
    const route = (name: string, field: string): string =>
      `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}, namespace: bookinfo}\n` +
      `spec:\n  hosts: [nobody]\n  ${field}:\n  - route: [{destination: {host: nobody}}]\n`;
    writeFileSync(file, `${route('good', 'http')}---\n${route('bad', 'htttp')}`);
    const { code, out, err } = await run(['apply', '-f', file]);
    assert.equal(code, 1);
    assert.match(out, /virtualservice.networking.istio.io\/good created/);
    assert.match(err, /mixed.yaml \(document 2\): VirtualService bad: .*spec\.htttp/);
    await ctl('delete virtualservice good -n bookinfo');
    writeFileSync(file, 'a: [1\n');
    await fails(`apply -f ${file}`, 1, /mixed\.yaml: .*line \d/);
    await fails('apply -f /nowhere.yaml', 1, /cannot read \/nowhere\.yaml/);
  });

  it('exec: output, input and exit code of the command', async () => {
    const args = ['exec', '-n', 'bookinfo', 'deploy/curl', '--', 'sh', '-c'];
    const result = await run([...args, 'echo out; echo err >&2; exit 7']);
    assert.deepEqual(result, { code: 7, out: 'out\n', err: 'err\n' });
    const big = 'x'.repeat(3_000_000);
    const counted = await run(['exec', '-i', ...args.slice(1), 'wc -c'], { input: big });
    assert.equal(counted.out.trim(), '3000000');
    const copied = await run(['exec', '-i', ...args.slice(1), 'cat'], { input: big });
    assert.equal(copied.out.length, big.length);
    await fails('exec -n bookinfo deploy/curl -c nope -- true', 1, /container nope is not valid/);
    await fails('exec -n bookinfo nope -- true', 1, /\(NotFound\): pods "nope" not found/);
    await fails('exec -n bookinfo svc/curl -- true', 2, /names no pod/);
  });

  it('logs: all, the last lines, as they come', async () => {
    const tail = await ctl('logs -n istio-system ds/ztunnel --tail 2');
    assert.equal(tail.trimEnd().split('\n').length, 2);
    await fails('logs -n bookinfo nope', 1, /NotFound/);
    await fails('logs -n bookinfo deploy/curl --tail many', 2, /--tail must be a number/);
    const child = spawn(LAUNCHER, ['logs', '-f', '-n', 'istio-system', 'ds/ztunnel'], {
      env: { ...process.env, KUBECONFIG: kubeconfig },
    });
    let seen = '';
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    const size = await until('a log', async () => (seen === '' ? undefined : seen.length));
    await until('more of it', async () => (seen.length > size ? true : undefined));
    const ended = new Promise((done) => child.on('exit', done));
    child.kill('SIGTERM');
    await ended;
  });

  it('metrics: L4 and L7 apart, equal to the traffic sent', async () => {
    const before = await edges();
    const many = (count: number, url: string): Promise<Result> =>
      curl(`for i in $(seq ${count}); do curl -s -o /dev/null ${url}; done`);
    await many(20, 'http://ratings:9080/ratings/0');
    await many(10, 'http://reviews:9080/reviews/1');
    await many(3, 'http://reviews:9080/admin');
    const sums = (found: { l4: Edge[]; l7: Edge[] }) => {
      const of = (edge: Edge, name: string): boolean =>
        edge.source === 'bookinfo/curl' && edge.destination.startsWith(`bookinfo/${name}`);
      const add = (list: Edge[], value: (edge: Edge) => number): number =>
        list.reduce((total, edge) => total + value(edge), 0);
      const reviews = found.l7.filter(
        (edge) => edge.source === 'bookinfo/curl' && edge.service?.startsWith('reviews.'),
      );
      return {
        ratingsConnections: add(found.l4, (edge) => (of(edge, 'ratings') ? (edge.opened ?? 0) : 0)),
        ratingsRequests: add(found.l7, (edge) => (of(edge, 'ratings') ? (edge.total ?? 0) : 0)),
        reviewsOk: add(reviews, (edge) => edge.codes?.['2xx'] ?? 0),
        reviewsDenied: add(reviews, (edge) => edge.codes?.['4xx'] ?? 0),
        waypointConnections: add(found.l4, (edge) =>
          of(edge, 'waypoint') ? (edge.opened ?? 0) : 0,
        ),
      };
    };
    const start = sums(before);
    const grown = await until('the counts', async () => {
      const now = sums(await edges());
      return now.reviewsDenied - start.reviewsDenied >= 3 &&
        now.ratingsConnections - start.ratingsConnections >= 20
        ? now
        : undefined;
    });
    assert.deepEqual(
      Object.fromEntries(
        Object.entries(grown).map(([name, value]) => [
          name,
          value - start[name as keyof typeof start],
        ]),
      ),
      {
        ratingsConnections: 20,
        ratingsRequests: 0,
        reviewsOk: 10,
        reviewsDenied: 3,
        waypointConnections: 13,
      },
    );
    const text = await ctl('metrics -n bookinfo');
    assert.match(text, /^L4: .*\nSOURCE +DESTINATION +SECURITY +OPENED/);
    assert.match(text, /\nL7: .*\nSOURCE +DESTINATION +SERVICE +PROTOCOL +REQUESTS/);
    assert.doesNotMatch(await ctl('metrics --l4'), /L7:/);
    const l7 = parse(await ctl('metrics --l7 -o yaml')) as object;
    assert.deepEqual(Object.keys(l7), ['l7', 'l7Observed']);
  });

  it('waypoint: apply, status, list, delete, generate', async () => {
    const input =
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: wp, labels: {istio.io/dataplane-mode: ambient}}\n';
    await ctl('apply -f -', { input });
    assert.match(await ctl('waypoint list -n wp'), /No waypoints found/);
    const applied = await ctl('waypoint apply -n wp --for all --enroll-namespace --wait');
    assert.match(applied, /waypoint wp\/waypoint applied\n.*labeled.*\n.*is ready!/);
    assert.match(await ctl('waypoint list -n wp'), /waypoint +default +all +True/);
    assert.match(await ctl('waypoint list -A'), /bookinfo +waypoint/);
    assert.match(await ctl('waypoint status waypoint -n wp'), /wp +waypoint +True +all/);
    assert.match(await ctl('get ns wp -o yaml'), /istio.io\/use-waypoint: waypoint/);
    await fails('waypoint apply -n wp --name other --enroll-namespace', 1, /already uses waypoint/);
    await fails('waypoint status nope -n wp', 1, /NotFound/);
    await fails('waypoint apply -n wp --for udp', 2, /--for must be one of/);
    await fails('waypoint apply -n absent', 1, /namespaces "absent" not found/);
    const generated = parseAllDocuments(await ctl('waypoint generate -n x --name y'));
    assert.equal(Array.isArray(generated) && generated[0]?.getIn(['metadata', 'name']), 'y');
    assert.match(await ctl('waypoint delete --all -n wp'), /waypoint wp\/waypoint deleted/);
    await fails('waypoint delete waypoint -n wp', 1, /not found/);
    await ctl('delete ns wp --no-wait');
  });

  it('proxy: what it holds, what it logs', async () => {
    const dump = JSON.parse(await ctl('proxy config-dump ds/ztunnel')) as object;
    assert.ok(['workloads', 'services', 'policies', 'certificates'].every((key) => key in dump));
    const waypoint = parse(
      await ctl('proxy config-dump -n bookinfo deploy/waypoint -o yaml'),
    ) as object;
    assert.ok('certificates' in waypoint);
    assert.match(await ctl('proxy log-level ds/ztunnel --level debug'), /debug/);
    assert.match(await ctl('proxy log-level ds/ztunnel --level info'), /info/);
    await fails('proxy log-level ds/ztunnel --level loud', 2, /no level/);
  });

  it('ztunnel-config: the tables of istioctl', async () => {
    const workloads = await ctl('ztunnel-config workloads --workload-namespace bookinfo');
    assert.match(workloads, /^NAMESPACE +POD NAME +ADDRESS +NODE +WAYPOINT +PROTOCOL\n/);
    assert.match(workloads, /bookinfo +curl-\S+ +10\.\S+ +ambient-[ab] +None +HBONE/);
    assert.match(await ctl('zc services'), /bookinfo +reviews +10\.\S+ +waypoint +3\/3/);
    assert.match(await ctl('zc policies'), /bookinfo +deny-load +Deny +WorkloadSelector/);
    const nodeA = 'zc certificates --node ambient-a --workload-namespace bookinfo';
    assert.match(await ctl(nodeA), /spiffe:\S+ +Leaf +Available +true +[0-9a-f]{16,}/);
    assert.match(await ctl('zc connections --node ambient-a'), /load-\S+\.bookinfo +Outbound/);
    assert.match(await ctl('zc all'), /POLICY NAME/);
    const value = JSON.parse(
      await ctl('zc services --workload-namespace bookinfo -o json'),
    ) as unknown[];
    assert.equal(value.length, 5);
    await fails('zc workloads --node nowhere', 1, /no node proxy is ready on node nowhere/);
  });

  it('rotation: which proxies trust the roots of the mesh, and exit 1 until all do', async () => {
    const of = async (words = ''): Promise<Rotation> =>
      JSON.parse((await run(`rotation ${words}-o json`.split(' '))).out) as Rotation;
    const before = await of('--wait 60s ');
    assert.equal(before.isComplete, true, JSON.stringify(before));
    assert.equal(before.roots.length, 1);
    const names = before.proxies.map(({ name }) => name.replace(/-.*/, '')).sort();
    assert.deepEqual([...new Set(names)], ['waypoint', 'ztunnel']);
    await fails('rotation --wait soon', 2, /"soon" is no duration/);

    const { data } = JSON.parse(
      await ctl('get secret istio-ca-secret -n istio-system -o json'),
    ) as { data: Record<string, string> };
    const decode = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString();
    const [cert, key] = [decode('ca-cert.pem'), decode('ca-key.pem')];
    const next = createRoot('next', systemClock);
    const cacerts = {
      ...{ apiVersion: 'v1', kind: 'Secret' },
      metadata: { name: 'cacerts', namespace: 'istio-system' },
      stringData: {
        ...{ 'ca-cert.pem': cert, 'ca-key.pem': key, 'cert-chain.pem': cert },
        'root-cert.pem': cert + next.certPem,
      },
    };
    await ctl('apply -f -', { input: JSON.stringify(cacerts) });
    await until('the bundle has both roots', async () => (await of()).roots[1]);
    const followed = await of('--wait 60s ');
    assert.equal(followed.isComplete, true, JSON.stringify(followed));
    for (const { trusts } of followed.proxies) {
      assert.deepEqual(trusts.toSorted(), followed.roots.map(({ id }) => id).toSorted());
    }
    const table = await ctl('rotation');
    assert.match(table, /signs[^]*is trusted[^]*the next step may begin/);
  });

  it('connections: what is open, with bytes, and which pod uses what', async () => {
    const text = await ctl('connections -n bookinfo --limit 1000');
    assert.match(
      text,
      /^POD +DIRECTION +SOURCE +DESTINATION +SERVICE +PROTOCOL +RECEIVED +SENT +AGE\n/,
    );
    assert.match(text, /bookinfo\/load-\S+ +outbound +bookinfo\/load-\S+ +.* +HBONE +[1-9]/);
    assert.match(
      await ctl('connections --top --limit 3'),
      /^POD +NODE .*(\n\S+\/\S+ +ambient-.*){3}\n$/,
    );
    const reports = JSON.parse(await ctl('connections --node ambient-a -o json')) as {
      node: string;
      report: { pods: unknown[] };
    }[];
    assert.deepEqual(
      reports.map(({ node }) => node),
      ['ambient-a'],
    );
    await fails('connections --sort colour', 2, /--sort must be one of/);
    await fails('connections --limit none', 2, /--limit must be a number/);
  });

  it('why: the decision about a connection, and exit 1 when it would be refused', async () => {
    const allowed = await ctl('why -n bookinfo deploy/curl ratings:9080');
    assert.match(allowed, /^ALLOWED: bookinfo\/curl-\S+ may connect/);
    assert.match(allowed, /POLICY +ACTION +MATCHES[^]*bookinfo\/deny-load +DENY +no/);
    assert.match(await ctl('why -n bookinfo deploy/curl reviews:9080'), /waypoint: the waypoint/);
    const refused = await run(['why', 'bookinfo/load', 'ratings:9080', '-o', 'json']);
    assert.equal(refused.code, 1, refused.err);
    const { reason, policies } = JSON.parse(refused.out) as {
      reason: string;
      policies: { policy: string; isDeciding: boolean }[];
    };
    assert.equal(reason, 'policy_denied');
    assert.ok(policies.some((each) => each.policy === 'bookinfo/deny-load' && each.isDeciding));
    // And so it is.
    const sent = await run([
      'exec',
      '-n',
      'bookinfo',
      'deploy/load',
      '--',
      'curl',
      '-sm',
      '5',
      'http://ratings:9080/',
    ]);
    assert.notEqual(sent.code, 0);
    await fails('why bookinfo/nobody ratings:9080', 1, /no workload "bookinfo\/nobody"/);
    await fails('why -n bookinfo deploy/curl ratings', 2, /has no port/);
  });

  it('says what is wrong: usage 2, anything else 1', async () => {
    await fails('get unicorns', 1, /doesn't have a resource type "unicorns"/);
    await fails('frobnicate', 2, /unknown command/);
    await fails('get', 2, /missing required argument/);
    await fails('status -o xml', 2, /Allowed choices are json, yaml/);
    await fails('status --context nowhere', 1, /no usable context "nowhere"/);
    await fails('status --kubeconfig /nowhere', 1, /cannot read kubeconfig \/nowhere/);
    const dead = join(state, 'dead');
    writeFileSync(
      dead,
      JSON.stringify({
        'current-context': 'x',
        clusters: [{ name: 'x', cluster: { server: 'https://127.0.0.1:1' } }],
        contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
      }),
    );
    await fails(
      `get pods --kubeconfig ${dead}`,
      1,
      /cannot reach the API server at https:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/,
    );
    const home = { KUBECONFIG: '', HOME: state };
    const lost = await run(['status'], { env: home });
    // In a clone with a running cluster of its own, that one is meant.
    if (lost.code !== 0) assert.match(lost.err, /no cluster: start one here/);
  });

  it('proxy drain: a successor takes over at once, and a connection keeps the old one', async () => {
    const proxy = await proxyBeside('bookinfo', 'curl');
    const args = ['exec', '-i', '-n', 'bookinfo', 'deploy/curl', '--', 'bash', '-c', HELD];
    const line = spawn(LAUNCHER, args, { env: { ...process.env, KUBECONFIG: kubeconfig } });
    let said = '';
    line.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('an open connection', async () => (said === '' ? undefined : said));
    assert.match(await ctl(`proxy drain ${proxy} --show`), /is serving: \d+ connections/);
    assert.match(await ctl(`proxy drain ${proxy}`), /^ztunnel-\S+ is draining: [1-9]/);
    // The drain waits for that connection. New ones wait for nobody: none fails, before, while and after.
    for (let sent = 0; sent < 30; sent++) {
      const { code, out } = await curl('curl -s -m 5 http://ratings:9080/ratings/0');
      assert.match(out, /"ratings"/, `request ${sent}: exit code ${code}`);
    }
    assert.match(await ctl(`proxy drain ${proxy} --show`), /is serving/, 'the successor');
    const ended = new Promise((done) => line.on('close', done));
    line.stdin.end('go on\n');
    await ended;
    assert.match(said, /"ratings"/);
  });
});
