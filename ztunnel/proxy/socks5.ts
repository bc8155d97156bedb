// SOCKS5 of a pod (127.0.0.1:15080, off by default): reads the request, says success before anything is connected, as
// Istio's ztunnel does, and goes on as for a connection that was redirected. Names mean what the pod's DNS says.
import { IGNORE_STREAM } from '../../engine/reactor/duplex.ts';
import { isIP } from 'node:net';
import { isIpv6, normalizeIp } from '../../common/workload/ip.ts';
import { copyBytes } from '../../engine/reactor/bytes.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import { serveDestination } from './outbound.ts';
import type { OutboundPod } from './outbound.ts';
import type { ProxyContext } from './proxy-context.ts';
import {
  GREETING_REPLY,
  SOCKS5_HOST_UNREACHABLE,
  encodeReply,
  readGreeting,
  readRequest,
} from './socks5-message.ts';
import type { Socks5Request } from './socks5-message.ts';

const HANDSHAKE_MS = 10_000;
/** A greeting and a request are 519 bytes at most; what else comes so early belongs to the application. */
const MAX_INCOMPLETE_BYTES = 1024;

interface Wanted {
  readonly request: Socks5Request;
  /** What the client sent without waiting for the answer. */
  readonly early: Buffer;
}

/** Serves one accepted connection to its end. Never throws. */
export async function serveSocks5(
  context: ProxyContext,
  pod: OutboundPod & { readonly uid: string },
  stream: TcpStream,
): Promise<void> {
  const startedMs = Date.now();
  const wanted = await readWanted(context, stream);
  if (wanted === undefined) return;
  const { request, early } = wanted;
  const ip = await addressOf(context, request, pod.uid);
  if (stream.isClosed) return;
  if (ip === undefined) {
    refuse(stream, SOCKS5_HOST_UNREACHABLE);
    return;
  }
  stream.writeBytes(encodeReply(0));
  const { ips } = pod.local.current ?? { ips: [] };
  // The client came over loopback; to others the connection is the pod's.
  const address = ips.find((own) => isIpv6(own) === isIpv6(ip)) ?? ips[0] ?? stream.peer.address;
  const client = { ip: address, port: stream.peer.port };
  const destination = { ip, port: request.port };
  await serveDestination(context, pod, { stream, client, destination, startedMs, early });
}

async function addressOf(
  { hosts }: ProxyContext,
  { host, isName }: Socks5Request,
  pod: string,
): Promise<string | undefined> {
  if (!isName || isIP(host) !== 0) return normalizeIp(host);
  const known = hosts.known(host, pod);
  if (known === undefined) await hosts.resolve(host, pod);
  const found = known ?? hosts.known(host, pod) ?? [];
  // The listener is IPv4, and so are its clients.
  return found.find((ip) => !isIpv6(ip)) ?? found[0];
}

/** The request, or undefined when the stream has ended or was refused. The stream is paused then. */
function readWanted(context: ProxyContext, stream: TcpStream): Promise<Wanted | undefined> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    let isGreeted = false;
    let isDone = false;
    const finish = (wanted: Wanted | undefined): void => {
      isDone = true;
      timer.cancel();
      stream.pause();
      stream.handler = IGNORE_STREAM;
      resolve(wanted);
    };
    const fail = (code: number): void => {
      finish(undefined);
      refuse(stream, code);
    };
    const timer = context.reactor.after(HANDSHAKE_MS, () => {
      finish(undefined);
      stream.reset();
    });
    const advance = (): void => {
      if (!isGreeted) {
        const greeting = readGreeting(bytes);
        if (greeting === undefined) return;
        if ('refusal' in greeting) {
          fail(greeting.refusal);
          return;
        }
        isGreeted = true;
        bytes = bytes.subarray(greeting.length);
        stream.writeBytes(GREETING_REPLY);
      }
      const request = readRequest(bytes);
      if (request === undefined) return;
      if ('refusal' in request) fail(request.refusal);
      else finish({ request, early: bytes.subarray(request.length) });
    };
    stream.handler = {
      onData: (address, length) => {
        bytes = Buffer.concat([bytes, copyBytes(address, length)]);
        advance();
        if (!isDone && bytes.length > MAX_INCOMPLETE_BYTES) stream.reset();
      },
      onEnd: () => {
        finish(undefined);
        stream.reset();
      },
      onDrain: () => undefined,
      onClose: () => finish(undefined),
    };
    stream.resume();
  });
}

function refuse(stream: TcpStream, code: number): void {
  stream.writeBytes(encodeReply(code));
  stream.end();
  stream.resume();
}
