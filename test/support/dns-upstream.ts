// A name server for tests, UDP and TCP on one port. What it does is in the first label of the name asked: see
// `behave`. As a program: `dns-upstream.ts ADDRESS PORT`, says `ready` when it serves.
import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { decode, encode } from 'dns-packet';
import type { Answer } from 'dns-packet';
import { frameMessage, MessageReader } from '../../common/dns/tcp-framing.ts';

const RCODES: Readonly<Record<string, number>> = { nx: 3, servfail: 2, refused: 5 };
const TRUNCATED = 0x200;

/** What came in. */
export interface SeenQuery {
  readonly name: string;
  readonly transport: 'udp' | 'tcp';
  readonly bytes: Buffer;
  readonly peerPort: number;
}

export interface DnsUpstream {
  readonly port: number;
  readonly seen: SeenQuery[];
  close(): void;
}

/** What a server does for every name: answers, nothing, or refuses all that do not end in a domain. */
export interface UpstreamMode {
  readonly isMute?: boolean;
  readonly onlyFor?: string;
}

/** Starts one. */
export async function openDnsUpstream(
  address = '127.0.0.1',
  port = 0,
  { isMute = false, onlyFor = '' }: UpstreamMode = {},
): Promise<DnsUpstream> {
  const seen: SeenQuery[] = [];
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const note = (bytes: Buffer, transport: 'udp' | 'tcp', peerPort: number): string => {
    const name = decode(bytes).questions?.[0]?.name ?? '';
    seen.push({ name, transport, bytes, peerPort });
    return name;
  };
  const answers = (query: Buffer, name: string, isUdp: boolean): Buffer[] =>
    name.endsWith(onlyFor) ? behave(query, name, isUdp) : [respond(query, [], RCODES['refused'])];
  udp.on('message', (query: Buffer, peer: RemoteInfo) => {
    const name = note(query, 'udp', peer.port);
    if (isMute) return;
    for (const answer of answers(query, name, true)) udp.send(answer, peer.port, peer.address);
  });
  const tcp = createServer((socket) => {
    const reader = new MessageReader();
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      for (const query of reader.push(chunk)) {
        const name = note(query, 'tcp', socket.remotePort ?? 0);
        if (isMute) continue;
        for (const answer of answers(query, name, false)) socket.write(frameMessage(answer));
      }
    });
  });
  // TCP first: far more of its ports are taken.
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject);
    tcp.listen(port, address, resolve);
  });
  const bound = (tcp.address() as AddressInfo).port;
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(bound, address, resolve);
  });
  return {
    port: bound,
    seen,
    close: () => {
      udp.close();
      tcp.close();
    },
  };
}

/** Answers to a query, in order. */
function behave(query: Buffer, name: string, isUdp: boolean): Buffer[] {
  const [word = ''] = name.split('.');
  // `ip-10-0-0-1` has that address.
  const data = /^ip(-\d+){4}$/.test(word) ? word.slice(3).replaceAll('-', '.') : '192.0.2.1';
  const good = respond(query, [{ type: 'A', name, ttl: 7, data }]);
  if (word === 'mute') return [];
  if (word === 'big') {
    if (isUdp) return [respond(query, [], TRUNCATED)];
    const many = Array.from({ length: 200 }, (_, i) => `192.0.2.${i}`);
    return [
      respond(
        query,
        many.map((data) => ({ type: 'A', name, ttl: 7, data })),
      ),
    ];
  }
  if (word === 'forged') {
    const other = Buffer.from(good);
    other.writeUInt16BE(other.readUInt16BE(0) ^ 1, 0);
    const stranger = respond(
      encode({ ...decode(query), questions: [{ type: 'A', name: 'evil.test' }] }),
      [{ type: 'A', name: 'evil.test', data: '6.6.6.6' }],
    );
    return [Buffer.from('x'), other, stranger, query, good];
  }
  const rcode = RCODES[word];
  return [rcode === undefined ? good : respond(query, [], rcode)];
}

function respond(query: Buffer, answers: Answer[], flags = 0): Buffer {
  const { id, questions } = decode(query);
  const opcode = query.readUInt16BE(2) & 0x7800;
  return encode({ type: 'response', id, flags: opcode | 0x180 | flags, questions, answers });
}

const [, program = '', address = '', port = ''] = process.argv;
if (program.endsWith('dns-upstream.ts')) {
  await openDnsUpstream(address, Number(port));
  process.stdout.write('ready\n');
}
