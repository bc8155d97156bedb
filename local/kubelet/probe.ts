// One probe attempt, made from the node's netns: http, tcp, exec, grpc. True is success.
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2, constants as h2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { joinHostPort } from '../../common/workload/ip.ts';
import { containerEnv, enterArgv } from './container.ts';
import type { Container, HttpGet, Probe } from './objects.ts';
import { tryCommand } from './run-command.ts';

export interface ProbeTarget {
  readonly podIp: string;
  readonly container: Container;
  readonly pid: () => number | undefined;
}

/** The outcome of an attempt; `detail` says why it failed. */
export interface ProbeResult {
  readonly ok: boolean;
  readonly detail: string;
}

function portNumber(container: Container, port: number | string): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find(({ name }) => name === port);
  return named?.containerPort ?? Number(port);
}

/** Sends one HTTP request as a probe does; 200 to 399 is success. */
export function probeHttp(
  target: ProbeTarget,
  http: HttpGet,
  timeoutMs: number,
): Promise<ProbeResult> {
  const send = http.scheme === 'HTTPS' ? httpsRequest : httpRequest;
  const headers = Object.fromEntries((http.httpHeaders ?? []).map((h) => [h.name, h.value]));
  return new Promise((resolve) => {
    const request = send({
      host: http.host ?? target.podIp,
      port: portNumber(target.container, http.port),
      path: http.path ?? '/',
      headers: { 'user-agent': 'kube-probe/1.35', accept: '*/*', connection: 'close', ...headers },
      agent: false,
      timeout: timeoutMs,
      rejectUnauthorized: false,
    });
    const timer = setTimeout(() => request.destroy(new Error('probe timed out')), timeoutMs);
    request.on('response', (response) => {
      clearTimeout(timer);
      response.resume();
      const status = response.statusCode ?? 0;
      response.on('error', () => undefined);
      resolve({
        ok: status >= 200 && status < 400,
        detail: `HTTP probe failed with statuscode: ${status}`,
      });
      response.on('end', () => request.destroy());
    });
    request.on('error', (err) => {
      clearTimeout(timer);
      resolve({ ok: false, detail: err.message });
    });
    request.end();
  });
}

function probeTcp(host: string, port: number, timeoutMs: number): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (ok: boolean, detail: string): void => {
      socket.destroy();
      resolve({ ok, detail });
    };
    socket.setTimeout(timeoutMs, () => end(false, 'probe timed out'));
    socket.on('connect', () => end(true, ''));
    socket.on('error', (err) => end(false, err.message));
  });
}

function grpcMessage(service: string): Buffer {
  const name = Buffer.from(service);
  const body = name.length === 0 ? name : Buffer.concat([Buffer.from([10, name.length]), name]);
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(body.length, 1);
  return Buffer.concat([frame, body]);
}

/** grpc.health.v1.Health/Check: SERVING is field 1, value 1. */
function probeGrpc(
  host: string,
  { port, service = '' }: NonNullable<Probe['grpc']>,
  timeoutMs: number,
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const authority = joinHostPort(host, port);
    const session = connectHttp2(`http://${authority}`);
    const timer = setTimeout(() => end(false, 'probe timed out'), timeoutMs);
    const end = (ok: boolean, detail: string): void => {
      clearTimeout(timer);
      session.destroy();
      resolve({ ok, detail });
    };
    session.on('error', (err: Error) => end(false, err.message));
    const stream = session.request({
      [h2.HTTP2_HEADER_METHOD]: 'POST',
      // Node's own leaves out the brackets of an IPv6 address.
      [h2.HTTP2_HEADER_AUTHORITY]: authority,
      [h2.HTTP2_HEADER_PATH]: '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (err: Error) => end(false, err.message));
    stream.on('end', () => {
      const answer = Buffer.concat(chunks);
      end(answer[5] === 8 && answer[6] === 1, 'service is not serving');
    });
    stream.end(grpcMessage(service));
  });
}

/** Runs a command inside the container. */
export async function probeExec(
  pid: number | undefined,
  command: readonly string[],
  timeoutMs: number,
): Promise<ProbeResult> {
  if (pid === undefined) return { ok: false, detail: 'container is not running' };
  const result = await tryCommand(enterArgv(pid, command), { timeoutMs, env: containerEnv(pid) });
  return { ok: result.code === 0, detail: (result.stderr || result.stdout).slice(0, 500) };
}

/** Makes one attempt. Never rejects. */
export async function attemptProbe(probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.httpGet !== undefined) return await probeHttp(target, probe.httpGet, timeoutMs);
    if (probe.tcpSocket !== undefined) {
      const { host = target.podIp, port } = probe.tcpSocket;
      return await probeTcp(host, portNumber(target.container, port), timeoutMs);
    }
    if (probe.grpc !== undefined) return await probeGrpc(target.podIp, probe.grpc, timeoutMs);
    return await probeExec(target.pid(), probe.exec?.command ?? [], timeoutMs);
  } catch (err) {
    return { ok: false, detail: String(err) };
  }
}
