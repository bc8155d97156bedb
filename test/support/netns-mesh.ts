// A small mesh for cluster tests (root): pods as network namespaces on a bridge, ZDS and the control plane in this
// process, node proxies as real processes. Nothing of it touches the host's own network.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { systemClock } from '../../common/clock.ts';
import { applyRedirect } from '../../cni/agent/pod-redirect.ts';
import { redirectedConnections } from '../../cni/agent/redirected-connections.ts';
import { HOST_PROBE_IPV4 } from '../../cni/rules/marks.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod-rules.ts';
import { openGrpcServer } from '../../common/grpc/server.ts';
import type { GrpcServer } from '../../common/grpc/server.ts';
import { CertificateAuthority, createRoot } from '../../common/identity/ca.ts';
import type { CaMaterial } from '../../common/identity/ca.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../common/identity/csr.ts';
import { AUTHORIZATION_TYPE_URL } from '../../common/policy/decode.ts';
import { AuthorizationSchema } from '../../common/policy/gen/authorization_pb.ts';
import { ADDRESS_TYPE_URL } from '../../common/workload/decode.ts';
import { AddressSchema, TunnelProtocol } from '../../common/workload/gen/workload_pb.ts';
import { isIpv6, parseIp } from '../../common/workload/ip.ts';
import { DeltaServer } from '../../common/xds/delta-server.ts';
import type { DeltaDiscoveryRequest } from '../../common/xds/gen/discovery_pb.ts';
import type { ServedResource } from '../../common/xds/delta-server.ts';
import { addressLookup } from '../../controlplane/serve/address-lookup.ts';
import type { AddressLookup } from '../../controlplane/serve/address-lookup.ts';
import { decodeAck, encodeRequest } from '../../common/zds/codec.ts';
import { Netns } from '../../engine/reactor/netns.ts';
import { SeqpacketServer } from '../../engine/reactor/seqpacket.ts';
import type { SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { PROXY_NODE_FLAGS } from '../../ztunnel/holder/node-flags.ts';
import type { PeerTls } from './bad-certificates.ts';
import { freePort } from './free-port.ts';
import { POD_RULES } from './pod-rules.ts';

/** A pod of the test. */
export interface TestPod {
  readonly name: string;
  /** IPv4 or IPv6. */
  readonly ip: string;
  /** Another address, of the other family. */
  readonly secondIp?: string;
  readonly node: string;
  /** Its name unless given. */
  readonly serviceAccount?: string;
}

/** Result of a client run to its end. */
export interface ClientResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running load. */
export interface ConnectLoad {
  /** Waits until so many more connections were served. */
  more(count: number): Promise<void>;
  /** Ends it and says what became of the connections. */
  end(): Promise<LoadResult>;
}

/** What became of a load; see connect-load.ts. */
export interface LoadResult {
  readonly served: number;
  readonly longestMs: number;
  readonly failures: readonly {
    readonly code: string;
    readonly startedMs: number;
    readonly endedMs: number;
  }[];
}

/** A connection that says nothing for so long hangs. More than a proxy's own patience (connect retries: 20 s). */
const ANSWER_MS = 40_000;

function run(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, { encoding: 'utf8', input });
  if (result.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${result.error?.message ?? result.stderr}`);
  }
  return result.stdout;
}

/** What a node runs: the proxy alone, or a holder that runs it. */
export type ProxyCommand = 'proxy' | 'holder';

/** One node's proxy and its ZDS server. */
interface TestNode {
  readonly name: string;
  ports: { readonly admin: number; readonly stats: number; readonly readiness: number };
  zds: SeqpacketServer;
  session: SeqpacketSocket | undefined;
  /** New sessions get their pods and no end of the snapshot. */
  isWithholding: boolean;
  hasAdded: boolean;
  process: ChildProcess | undefined;
  log: string;
}

function addressesOf({ ip, secondIp }: TestPod): string[] {
  return secondIp === undefined ? [ip] : [ip, secondIp];
}

export class NetnsMesh {
  readonly #prefix = `zt${process.pid}`;
  readonly #dir = mkdtempSync(join(tmpdir(), 'ambient-test-'));
  readonly #namespaces: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #nodes = new Map<string, TestNode>();
  readonly #pods = new Map<string, TestPod>();
  readonly #meshed = new Set<string>();
  readonly #resources = new Map<string, Map<string, ServedResource>>([
    [ADDRESS_TYPE_URL, new Map()],
    [AUTHORIZATION_TYPE_URL, new Map()],
  ]);
  #generation = 1;
  #lookup: { readonly generation: number; readonly lookup: AddressLookup } | undefined;
  /** Further variables of the proxies. The number of data threads may be set for a whole run of the tests. */
  readonly proxyEnv: Record<string, string> = {
    ZTUNNEL_WORKER_THREADS: process.env['ZTUNNEL_WORKER_THREADS'] ?? '1',
  };
  readonly #xds: DeltaServer;
  /** Every xDS request of all proxies. */
  readonly requests: DeltaDiscoveryRequest[] = [];
  /** What the control plane does with a request: failing ends its stream. */
  xdsMood: 'answering' | 'silent' | 'failing' = 'answering';
  /** The mesh's root with its key: tests forge certificates with it. */
  readonly root = createRoot('cluster.local', systemClock);
  #ca = new CertificateAuthority(this.root, systemClock);
  #grpc: GrpcServer | undefined;
  #controlPlane: Server | undefined;

  /** A limit of resources in each push as our control plane has it, or none, as istiod. */
  constructor({ resourcesPerPush }: { readonly resourcesPerPush?: number } = {}) {
    this.#xds = new DeltaServer({
      resourcesPerPush,
      snapshotOf: (typeUrl) => {
        const resources = this.#resources.get(typeUrl);
        if (resources === undefined) return undefined;
        return {
          generation: this.#generation,
          resources: new Map(resources),
          lookup: (name) => this.#lookUp(resources).lookup(name),
          unasked: (node) => this.#lookUp(resources).unasked(node),
        };
      },
    });
  }

  /** For proxies that ask on demand, as our control plane does it. */
  #lookUp(resources: ReadonlyMap<string, ServedResource>): AddressLookup {
    if (this.#lookup?.generation !== this.#generation) {
      const addresses = [...resources].map(
        ([name, { value }]) => [name, fromBinary(AddressSchema, value)] as const,
      );
      const lookup = addressLookup(new Map(addresses));
      this.#lookup = { generation: this.#generation, lookup };
    }
    return this.#lookup.lookup;
  }

  /** Starts the control plane and the bridge. */
  async start(): Promise<void> {
    this.#grpc = await openGrpcServer({
      address: '127.0.0.1:0',
      handlers: {
        authenticate: () => Promise.resolve(undefined),
        openStream: (_caller, _peer, send) => {
          const session = this.#xds.open(send);
          return {
            onRequest: (request) => {
              this.requests.push(request);
              if (this.xdsMood === 'failing') throw new MeshError('xds_limit', 'as the test asks');
              if (this.xdsMood === 'answering') session.onRequest(request);
            },
            onEnd: () => this.#xds.remove(session),
          };
        },
        sign: (_caller, { csrPem, ttlSec }) => {
          const { publicKeyDer, uriSans } = parseCsr(csrPem);
          return Promise.resolve(this.#ca.issueWorkload(publicKeyDer, uriSans[0] ?? '', ttlSec));
        },
      },
    });
    this.#addNamespace('net');
    this.#ip('net', 'link', 'add', 'br0', 'type', 'bridge');
    this.#ip('net', 'link', 'set', 'br0', 'up');
  }

  #ns(name: string): string {
    return `${this.#prefix}-${name}`;
  }

  #addNamespace(name: string): void {
    run('ip', ['netns', 'add', this.#ns(name)]);
    this.#namespaces.push(this.#ns(name));
    this.#ip(name, 'link', 'set', 'lo', 'up');
  }

  #ip(name: string, ...args: string[]): void {
    run('ip', ['-n', this.#ns(name), ...args]);
  }

  /** Makes a pod's namespace and address. */
  addPod(pod: TestPod): void {
    const { name } = pod;
    this.#pods.set(name, pod);
    this.#addNamespace(name);
    const link = ['link', 'add', 'eth0', 'netns', this.#ns(name), 'type', 'veth'];
    run('ip', [...link, 'peer', 'name', `p-${name}`, 'netns', this.#ns('net')]);
    this.#ip('net', 'link', 'set', `p-${name}`, 'master', 'br0', 'up');
    this.#ip(name, 'link', 'set', 'eth0', 'up');
    const rule = ['rule', 'add', 'fwmark', '0x111/0xfff', 'pref', '32764', 'lookup', '100'];
    for (const ip of addressesOf(pod)) {
      const [family, prefix, all] = isIpv6(ip) ? ['-6', 64, '::/0'] : ['-4', 24, '0.0.0.0/0'];
      const nodad = family === '-6' ? ['nodad'] : [];
      this.#ip(name, 'addr', 'add', `${ip}/${prefix}`, 'dev', 'eth0', ...nodad);
      this.#ip(name, family, 'route', 'add', 'default', 'dev', 'eth0');
      this.#ip(name, family, ...rule);
      const local = ['route', 'add', 'local', all, 'dev', 'lo', 'table', '100'];
      this.#ip(name, family, ...local);
    }
  }

  /**
   * A pod vanishes with its network, without a word to its peers; then its proxy forgets it. Its record stays. The address
   * may be given to another pod.
   */
  async removePod(name: string): Promise<void> {
    const pod = this.#pod(name);
    this.#ip('net', 'link', 'del', `p-${name}`);
    run('ip', ['netns', 'del', this.#ns(name)]);
    this.#namespaces.splice(this.#namespaces.indexOf(this.#ns(name)), 1);
    this.#pods.delete(name);
    // As with routed pods: nobody remembers the hardware behind an address.
    for (const other of this.#pods.keys()) this.#ip(other, 'neigh', 'flush', 'dev', 'eth0');
    if (!this.#meshed.delete(name)) return;
    await this.#exchange(await this.#session(pod.node), encodeRequest({ kind: 'del', uid: name }));
  }

  /** Writes a file that goes with the mesh; its path. */
  writeFile(name: string, text: string): string {
    const path = join(this.#dir, name);
    writeFileSync(path, text);
    return path;
  }

  /** The CA signs with this from now on. */
  replaceCa(material: CaMaterial): void {
    this.#ca = new CertificateAuthority(material, systemClock);
  }

  /** Applies nftables rules in a pod, beside or instead of those of {@link enrol}. */
  applyRules(name: string, rules: string): void {
    run('ip', ['netns', 'exec', this.#ns(name), 'nft', '-f', '-'], rules);
  }

  /** A pod has the rules that the node agent writes, instead of those of {@link enrol}. */
  async redirectAsAgent(name: string): Promise<void> {
    this.applyRules(name, 'delete table inet test');
    const netns = Netns.open(`/run/netns/${this.#ns(name)}`);
    try {
      await applyRedirect(netns, DEFAULT_POD_RULES);
    } finally {
      netns.close();
    }
  }

  /**
   * The machine of all nodes has an address of its own among the pods, which answer its probes by it. Programs run there
   * as in a pod `net`.
   */
  addHost(ip: string): void {
    this.#ip('net', 'addr', 'add', `${ip}/24`, 'dev', 'br0');
    for (const name of this.#pods.keys()) {
      this.#ip(name, 'route', 'add', HOST_PROBE_IPV4, 'via', ip);
    }
  }

  /** Starts a script of this repository in a pod; resolves when it has said something. */
  async startScript(name: string, args: readonly string[]): Promise<ChildProcess> {
    const child = this.#inPod(name, args);
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      child.once('exit', () => reject(new Error(`${args.join(' ')} in ${name} ended`)));
    });
    return child;
  }

  /** Runs a script of this repository in a pod to its end; what it printed. */
  async runScript(name: string, args: readonly string[]): Promise<string> {
    const child = this.#inPod(name, args);
    let stdout = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    await new Promise((resolve) => child.on('close', resolve));
    return stdout.trim();
  }

  /** Runs a program in a pod to its end. */
  async runProgram(name: string, program: string, args: readonly string[]): Promise<ClientResult> {
    const child = spawn('ip', ['netns', 'exec', this.#ns(name), program, ...args]);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.end();
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { status, stdout, stderr };
  }

  /** The path of a pod's namespace. */
  netnsPath(name: string): string {
    return `/run/netns/${this.#ns(name)}`;
  }

  /** A path for a file of the test. */
  pathOf(name: string): string {
    return join(this.#dir, name);
  }

  /** Starts the line server in a pod. */
  async serve(name: string, port = 8080): Promise<ChildProcess> {
    const child = this.#inPod(name, ['test/support/line-server.ts', name, String(port)]);
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      child.once('exit', () => reject(new Error(`line server in ${name} ended`)));
    });
    return child;
  }

  /** Runs the line client in a pod; without input the caller writes to `stdin`. */
  client(name: string, host: string, port: number): ChildProcess {
    return this.#inPod(name, ['test/support/line-client.ts', host, String(port)]);
  }

  /** New connections without end from a pod, `workers` at a time. */
  load(name: string, host: string, port = 8080, workers = 8): ConnectLoad {
    const args = [host, String(port), String(workers)];
    const child = this.#inPod(name, ['test/support/connect-load.ts', ...args]);
    let stdout = '';
    let served = 0;
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (served += chunk.length));
    const closed = new Promise((resolve) => child.on('close', resolve));
    return {
      more: async (count) => {
        const wanted = served + count;
        await eventually(`${wanted} connections are served`, () => served >= wanted);
      },
      end: async () => {
        child.stdin?.end();
        await closed;
        return JSON.parse(stdout) as LoadResult;
      },
    };
  }

  /** Sends one line and reads to the end. */
  async ask(name: string, host: string, port = 8080): Promise<ClientResult> {
    const child = this.client(name, host, port);
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin?.end('hello\n');
    const patience = setTimeout(() => child.kill('SIGKILL'), ANSWER_MS);
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    clearTimeout(patience);
    if (status === null) throw new Error(`${name} has no end of its connection to ${host}:${port}`);
    return { status, stdout, stderr };
  }

  /** Acts as a peer that misbehaves (bad-peer.ts), from a pod, on 15008; what it saw. */
  async misbehave(
    name: string,
    act: string,
    host: string,
    tls: PeerTls,
    authority = `${host}:8080`,
  ): Promise<string> {
    const args = ['test/support/bad-peer.ts', act, host, '15008', authority];
    const child = this.#inPod(name, args, { CERT: tls.cert, KEY: tls.key });
    let stdout = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    await new Promise((resolve) => child.on('close', resolve));
    return stdout.trim();
  }

  /** Opens a tunnel by hand, with a certificate of the mesh's root for any identity; the status or `ended`. */
  knock(name: string, host: string, identity: string, authority: string): Promise<string> {
    return this.misbehave(name, 'tunnel', host, this.certificate(identity), authority);
  }

  /** A certificate of the mesh for any identity. */
  certificate(identity: string): PeerTls {
    const key = generateKeyPair();
    const { publicKeyDer } = parseCsr(buildCsr(identity, key));
    const [cert = ''] = this.#ca.issueWorkload(publicKeyDer, identity, 600);
    return { cert, key: key.privateKeyPem };
  }

  /** Starts a network gateway in a pod that joins all tunnels to `host`; what it has seen, line by line. */
  async startGateway(name: string, identity: string, host: string): Promise<() => string> {
    const { cert, key } = this.certificate(identity);
    const child = this.#inPod(name, ['test/support/network-gateway.ts', host], {
      CERT: cert,
      KEY: key,
    });
    let stdout = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    await eventually('the gateway listens', () => stdout.includes('listening'));
    return () => stdout;
  }

  /** Runs a script in a pod with a certificate (CERT, KEY) of an identity of the mesh. */
  scriptAs(
    name: string,
    identity: string,
    args: readonly (string | number)[],
    env: NodeJS.ProcessEnv = {},
  ): ChildProcess {
    const { cert, key } = this.certificate(identity);
    return this.#inPod(name, args.map(String), { ...env, CERT: cert, KEY: key });
  }

  /** Runs a script in a pod. */
  script(name: string, args: readonly (string | number)[], env?: NodeJS.ProcessEnv): ChildProcess {
    return this.#inPod(name, args.map(String), env);
  }

  /** The process id of a node's proxy. */
  pid(name: string): number {
    return this.#node(name).process?.pid ?? 0;
  }

  /** Starts a program in a pod; it ends with the mesh. */
  startProgram(name: string, program: string, args: readonly string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.#ns(name), program, ...args]);
    this.#children.push(child);
    return child;
  }

  #inPod(name: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const argv = ['netns', 'exec', this.#ns(name), process.execPath, ...args];
    const child = spawn('ip', argv, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    child.stdin.on('error', () => undefined);
    this.#children.push(child);
    return child;
  }

  /** Starts a node's proxy, or a holder with a proxy, and waits until it is ready. */
  async startNode(name: string, command: ProxyCommand = 'proxy'): Promise<void> {
    await this.addNode(name);
    await this.startProxy(name, command);
  }

  /** A node without a proxy; the socket of its node agent. */
  async addNode(name: string): Promise<string> {
    const zds = SeqpacketServer.listen(join(this.#dir, `${name}.sock`));
    const ports = await freePorts();
    const node: TestNode = {
      ...{ name, ports, zds, session: undefined, process: undefined, log: '' },
      ...{ isWithholding: false, hasAdded: false },
    };
    this.#nodes.set(name, node);
    this.#serveZds(node).catch((err: unknown) => {
      node.log += `zds: ${String(err)}\n`;
    });
    return zds.path;
  }

  /**
   * Starts a proxy in dedicated mode in a pod, with a way to the control plane, and waits until it serves. A user: the
   * proxy has that user's rights and no others. What it has logged.
   */
  async startDedicated(
    name: string,
    env: { readonly user?: number; readonly [name: string]: unknown },
  ): Promise<() => string> {
    const dedicated = { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: `default/${name}/${name}` };
    const { log } = await this.startInPod(name, { ...dedicated, ...env }, 'serving the only pod');
    return log;
  }

  /** Starts a proxy, or a holder, in a pod, with a way to the control plane, and waits until it has said `started`. */
  async startInPod(
    name: string,
    { user, ...env }: { readonly user?: number; readonly [name: string]: unknown },
    started: string,
    program: ProxyCommand = 'proxy',
  ): Promise<{ readonly child: ChildProcess; readonly log: () => string }> {
    const address = await this.controlPlaneFor(name);
    const rights = ['--reuid', user, '--regid', user, '--clear-groups'].map(String);
    const command = [process.execPath, 'ztunnel/main.ts', program];
    const child = spawn(
      'ip',
      [
        ...['netns', 'exec', this.#ns(name)],
        ...(user === undefined ? command : ['setpriv', ...rights, ...command]),
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          PATH: process.env['PATH'],
          LOG_FORMAT: 'json',
          XDS_ADDRESS: address,
          CA_ADDRESS: address,
          ...Object.fromEntries(Object.entries(env).map(([key, value]) => [key, String(value)])),
        },
      },
    );
    this.#children.push(child);
    let log = '';
    const keep = (chunk: Buffer): void => void (log += chunk.toString());
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    await eventually(`the proxy says: ${started}`, () => {
      if (child.exitCode !== null) throw new Error(log);
      return log.includes(started);
    });
    return { child, log: () => log };
  }

  /** Gives a pod a way to the control plane; its address there. */
  async controlPlaneFor(name: string): Promise<string> {
    const relay = this.#inPod(name, ['test/support/unix-relay.ts', this.#controlPlaneSocket()]);
    const port = await new Promise<string>((resolve) => {
      relay.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()));
    });
    return `http://127.0.0.1:${port}`;
  }

  /** A Unix socket that leads to the control plane, which pods cannot reach by their network. */
  #controlPlaneSocket(): string {
    const path = join(this.#dir, 'control-plane.sock');
    if (this.#controlPlane !== undefined) return path;
    this.#controlPlane = createServer((client) => {
      const upstream = connect(this.#grpc?.port ?? 0, '127.0.0.1');
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
    }).listen(path);
    return path;
  }

  /** The node agent goes: no session, and its socket does not answer. */
  stopAgent(name: string): void {
    const node = this.#node(name);
    node.zds.close();
    node.session?.close();
    node.session = undefined;
  }

  /** The node agent is back. */
  startAgent(name: string): void {
    const node = this.#node(name);
    node.zds = SeqpacketServer.listen(node.zds.path);
    this.#serveZds(node).catch((err: unknown) => {
      node.log += `zds: ${String(err)}\n`;
    });
  }

  /** (Re)starts the proxy process of a node. */
  async startProxy(name: string, command: ProxyCommand = 'proxy'): Promise<void> {
    const node = this.#node(name);
    node.session = undefined;
    node.process = this.#spawnProxy(node, command);
    await this.whenReady(name);
  }

  /**
   * Starts another instance beside the node's own, as a rollout does: with its own ports, which become the node's. The
   * instance before is returned and ends when it is signalled.
   */
  async startBeside(name: string, command: ProxyCommand = 'proxy'): Promise<ChildProcess> {
    const node = this.#node(name);
    const before = node.process;
    if (before === undefined) throw new Error(`node ${name} has no proxy`);
    node.ports = await freePorts();
    await this.startProxy(name, command);
    return before;
  }

  /** Starts an instance beside the node's own that serves the pods and never becomes ready; resolves when it serves. */
  async startUnready(name: string, command: ProxyCommand): Promise<ChildProcess> {
    const node = this.#node(name);
    const ports = await freePorts();
    Object.assign(node, { isWithholding: true, hasAdded: false });
    const child = this.#spawnProxy({ ...node, ports }, command);
    await eventually('it serves the pods', () => node.hasAdded);
    node.isWithholding = false;
    return child;
  }

  #spawnProxy(node: TestNode, command: ProxyCommand): ChildProcess {
    const address = `http://127.0.0.1:${this.#grpc?.port ?? 0}`;
    const flags = command === 'proxy' ? PROXY_NODE_FLAGS : [];
    const child = spawn(process.execPath, [...flags, 'ztunnel/main.ts', command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        LOG_FORMAT: 'json',
        NODE_COMPILE_CACHE: join(this.#dir, 'compile-cache'),
        NODE_NAME: node.name,
        XDS_ADDRESS: address,
        CA_ADDRESS: address,
        INPOD_UDS: node.zds.path,
        ADMIN_PORT: String(node.ports.admin),
        STATS_PORT: String(node.ports.stats),
        READINESS_PORT: String(node.ports.readiness),
        CONNECTION_TERMINATION_DEADLINE: '3s',
        ...this.proxyEnv,
      },
    });
    const keep = (chunk: Buffer): void => {
      node.log += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.#children.push(child);
    return child;
  }

  /** What the node's proxy says of its readiness. */
  readiness(name: string): Promise<Response> {
    const { host, port } = this.readinessAddress(name);
    return fetch(`http://${host}:${port}/healthz/ready`);
  }

  /** Where it says that. */
  readinessAddress(name: string): { readonly host: string; readonly port: number } {
    return { host: '127.0.0.1', port: this.#node(name).ports.readiness };
  }

  /** Waits until the node's proxy says that it is ready. */
  async whenReady(name: string): Promise<void> {
    await eventually(
      `proxy of ${name} is ready`,
      async () => (await this.readiness(name)).status === 200,
    );
  }

  /** Sends a signal to a node's proxy; resolves with its exit code. */
  async endProxy(name: string, signal: NodeJS.Signals): Promise<number | null> {
    const { process: child } = this.#node(name);
    if (child?.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    child.kill(signal);
    return ended;
  }

  /** The proxy that a node's holder started last. */
  proxyPid(name: string): number {
    const started = [...this.log(name).matchAll(/"process":(\d+),[^\n]*"proxy started"/g)];
    return Number(started.at(-1)?.[1] ?? 0);
  }

  /** kill -9 of the proxy under a node's holder. */
  killProxy(name: string): number {
    const pid = this.proxyPid(name);
    process.kill(pid, 'SIGKILL');
    this.#node(name).session = undefined;
    return pid;
  }

  log(name: string): string {
    return this.#node(name).log;
  }

  /** Sum of the samples of a metric whose labels contain all the given texts. */
  async metric(node: string, metric: string, ...labels: string[]): Promise<number> {
    const answer = await fetch(`http://127.0.0.1:${this.#node(node).ports.stats}/metrics`);
    const lines = (await answer.text()).split('\n');
    return lines
      .filter((line) => line.startsWith(`${metric}{`) && labels.every((one) => line.includes(one)))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  async configDump(node: string): Promise<Record<string, unknown>> {
    return (await (await this.admin(node, '/config_dump')).json()) as Record<string, unknown>;
  }

  /** Asks a node's admin port. */
  admin(node: string, path: string, method = 'GET'): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.#node(node).ports.admin}${path}`, { method });
  }

  /** A pod's workload record; `more` overrides. */
  async putPod(name: string, more: object = {}): Promise<void> {
    const pod = this.#pod(name);
    await this.putAddress(name, {
      type: {
        case: 'workload',
        value: {
          uid: name,
          name,
          namespace: 'default',
          serviceAccount: name,
          addresses: addressesOf(pod).map((ip) => parseIp(ip) ?? new Uint8Array()),
          tunnelProtocol: TunnelProtocol.HBONE,
          node: pod.node,
          workloadName: name,
          canonicalName: name,
          canonicalRevision: 'v1',
          ...more,
        },
      },
    });
  }

  /** Hands a pod to its node's proxy and writes the redirect rules. Its account is its name unless it is given. */
  async enrol(name: string, { serviceAccount = name } = {}): Promise<void> {
    const pod = { ...this.#pod(name), serviceAccount };
    this.#pods.set(name, pod);
    const session = await this.#session(pod.node);
    this.#meshed.add(name);
    await this.#sendAdd(session, pod);
    run('ip', ['netns', 'exec', this.#ns(name), 'nft', '-f', '-'], POD_RULES);
  }

  /** A proxy says that it is ready at the time it acknowledges its snapshot; what comes here first is not certain. */
  async #session(nodeName: string): Promise<SeqpacketSocket> {
    const node = this.#node(nodeName);
    await eventually(`the proxy of ${nodeName} has its pods`, () => node.session !== undefined);
    if (node.session === undefined) throw new Error(`no session with ${nodeName}`);
    return node.session;
  }

  /** Takes a pod away from its proxy, rules first. */
  async unenrol(name: string): Promise<void> {
    const pod = this.#pod(name);
    this.#meshed.delete(name);
    const nft = (...args: string[]): void =>
      void run('ip', ['netns', 'exec', this.#ns(name), 'nft', ...args]);
    // As the node agent: new connections pass by, what runs has a moment to end, then the proxy forgets the pod. Marks of
    // connections stay as long as they do: their answers would go past the proxy.
    for (const chain of ['nat-pre', 'nat-out']) nft('flush', 'chain', 'inet', 'test', chain);
    const netns = Netns.open(`/run/netns/${this.#ns(name)}`);
    // Twice in a row, because a connection may just be about to come.
    for (let looks = 0, calm = 0; looks < 40 && calm < 2; looks++) {
      calm = redirectedConnections(netns) === 0 ? calm + 1 : 0;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    netns.close();
    await this.#exchange(await this.#session(pod.node), encodeRequest({ kind: 'del', uid: name }));
    nft('delete', 'table', 'inet', 'test');
  }

  async #serveZds(node: TestNode): Promise<void> {
    for (;;) {
      const socket = await node.zds.accept();
      if (socket === undefined) return;
      await socket.receive(); // hello
      for (const name of this.#meshed) {
        const pod = this.#pod(name);
        if (pod.node === node.name) await this.#sendAdd(socket, pod);
      }
      if (node.isWithholding) {
        node.hasAdded = true;
        continue;
      }
      await this.#exchange(socket, encodeRequest({ kind: 'snapshotSent' }));
      node.session = socket;
    }
  }

  async #sendAdd(socket: SeqpacketSocket, pod: TestPod): Promise<void> {
    const fd = openSync(`/run/netns/${this.#ns(pod.name)}`, 'r');
    const info = {
      name: pod.name,
      namespace: 'default',
      serviceAccount: pod.serviceAccount ?? pod.name,
    };
    const packet = encodeRequest({ kind: 'add', uid: pod.name, pod: info });
    try {
      await this.#exchange(socket, packet, [fd]);
    } finally {
      closeSync(fd);
    }
  }

  async #exchange(
    socket: SeqpacketSocket | undefined,
    packet: Uint8Array,
    fds: readonly number[] = [],
  ): Promise<void> {
    socket?.send(packet, fds);
    const answer = await socket?.receive();
    const error = answer === undefined ? 'session ended' : decodeAck(answer.data);
    if (error !== undefined) throw new Error(`zds: ${error}`);
  }

  /** Publishes an Address resource and waits for all proxies to acknowledge. */
  async putAddress(
    name: string,
    init: Parameters<typeof create<typeof AddressSchema>>[1],
  ): Promise<void> {
    await this.#put(ADDRESS_TYPE_URL, name, toBinary(AddressSchema, create(AddressSchema, init)));
  }

  /** Removes an Address resource and waits for all proxies to acknowledge. */
  async removeAddress(name: string): Promise<void> {
    await this.#put(ADDRESS_TYPE_URL, name, undefined);
  }

  /** Publishes a policy; undefined removes it. */
  async putPolicy(
    name: string,
    init: Parameters<typeof create<typeof AuthorizationSchema>>[1] | undefined,
  ): Promise<void> {
    const value = init && toBinary(AuthorizationSchema, create(AuthorizationSchema, init));
    await this.#put(AUTHORIZATION_TYPE_URL, name, value);
  }

  /**
   * That many workloads on nodes that do not exist, published at once. `begin` is awaited before. Milliseconds until all
   * proxies have acknowledged.
   */
  async putPods(count: number, begin?: () => Promise<unknown>): Promise<number> {
    this.#generation++;
    for (let i = 0; i < count; i++) {
      const name = `Kubernetes//Pod/many/pod-${i}`;
      const value = {
        uid: name,
        name: `pod-${i}`,
        namespace: 'many',
        serviceAccount: `account-${i % 500}`,
        addresses: [Uint8Array.of(10, 100 + (i >> 16), (i >> 8) & 255, i & 255)],
        tunnelProtocol: TunnelProtocol.HBONE,
        node: `node-${i % 1000}`,
        workloadName: `workload-${i >> 3}`,
        canonicalName: `workload-${i >> 3}`,
        canonicalRevision: 'v1',
      };
      const message = create(AddressSchema, { type: { case: 'workload', value } });
      // Content hashes are as long as this.
      const version = `${i}-${this.#generation}`.padEnd(16, '0');
      const resource = { name, version, value: toBinary(AddressSchema, message) };
      this.#resources.get(ADDRESS_TYPE_URL)?.set(name, resource);
    }
    await begin?.();
    const started = performance.now();
    this.#xds.publish();
    const patience = AbortSignal.timeout(120_000);
    const isAcked = await this.#xds.whenAcked(ADDRESS_TYPE_URL, this.#generation, patience);
    if (!isAcked) throw new Error('the workloads were not acknowledged');
    return performance.now() - started;
  }

  async #put(typeUrl: string, name: string, value: Uint8Array | undefined): Promise<void> {
    this.#generation++;
    if (value === undefined) this.#resources.get(typeUrl)?.delete(name);
    else
      this.#resources.get(typeUrl)?.set(name, { name, version: String(this.#generation), value });
    this.#xds.publish();
    const isAcked = await this.#xds.whenAcked(
      typeUrl,
      this.#generation,
      AbortSignal.timeout(ANSWER_MS),
    );
    if (!isAcked) throw new Error(`${name} was not acknowledged`);
  }

  #pod(name: string): TestPod {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new Error(`no pod ${name}`);
    return pod;
  }

  #node(name: string): TestNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  async close(): Promise<void> {
    for (const name of this.#nodes.keys()) await this.endProxy(name, 'SIGKILL');
    for (const { zds, session } of this.#nodes.values()) {
      session?.close();
      zds.close();
    }
    for (const child of this.#children) child.kill('SIGKILL');
    this.#controlPlane?.close();
    await this.#grpc?.close();
    for (const name of this.#namespaces) spawnSync('ip', ['netns', 'del', name]);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function freePorts(): Promise<TestNode['ports']> {
  return { admin: await freePort(), stats: await freePort(), readiness: await freePort() };
}

/** What a client prints next. Rejects when it ends instead, or says nothing for long. */
export async function nextOutput(client: ChildProcess): Promise<string> {
  const { stdout } = client;
  if (stdout === null) throw new Error('the client has no output');
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), ANSWER_MS);
  const onClose = (): void => patience.abort();
  client.once('close', onClose);
  try {
    const [data] = (await once(stdout, 'data', { signal: patience.signal })) as [Buffer];
    return data.toString();
  } catch (err) {
    const how = client.exitCode === null ? 'said nothing' : `ended with ${client.exitCode}`;
    throw new Error(`the client ${how}`, { cause: err });
  } finally {
    clearTimeout(timer);
    client.off('close', onClose);
  }
}

/** Polls until the check holds; the last error is in the message when it never does. */
export async function eventually(
  claim: string,
  check: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const until = Date.now() + timeoutMs;
  let last = '';
  while (Date.now() < until) {
    try {
      if (await check()) return;
      last = '';
    } catch (err) {
      last = ` (${errorMessage(err)})`;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not within ${timeoutMs} ms: ${claim}${last}`);
}
