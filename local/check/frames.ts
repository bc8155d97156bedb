// Looks into captured Ethernet frames: texts in them, and the TLS version a server chose. Pure.

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const PROTOCOL_TCP = 6;
const RECORD_HANDSHAKE = 0x16;
const SERVER_HELLO = 2;
const SUPPORTED_VERSIONS = 0x002b;

export interface TcpSegment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** Where the TCP header begins and the packet ends. IPv6 extension headers do not occur between our pods. */
function findTcp(frame: Buffer): { readonly tcp: number; readonly end: number } | undefined {
  const type = frame.readUInt16BE(12);
  if (type === ETHERTYPE_IPV4 && frame[23] === PROTOCOL_TCP) {
    return { tcp: 14 + (frame.readUInt8(14) & 15) * 4, end: 14 + frame.readUInt16BE(16) };
  }
  if (type === ETHERTYPE_IPV6 && frame[20] === PROTOCOL_TCP) {
    return { tcp: 54, end: 54 + frame.readUInt16BE(18) };
  }
  return undefined;
}

/** The TCP segment in a frame; undefined for other frames. */
export function parseSegment(frame: Buffer): TcpSegment | undefined {
  const found = frame.length < 54 ? undefined : findTcp(frame);
  if (found === undefined || frame.length < found.tcp + 20) return undefined;
  const { tcp } = found;
  const end = Math.min(frame.length, found.end);
  const start = tcp + (frame.readUInt8(tcp + 12) >> 4) * 4;
  return {
    sourcePort: frame.readUInt16BE(tcp),
    destinationPort: frame.readUInt16BE(tcp + 2),
    payload: frame.subarray(start, Math.max(start, end)),
  };
}

/** Whether any frame carries the text. */
export function carriesText(frames: readonly Buffer[], text: string): boolean {
  return frames.some((frame) => frame.includes(text));
}

/** The version of a TLS ServerHello at the start of a segment (0x0304 is TLS 1.3). */
export function serverHelloVersion(payload: Buffer): number | undefined {
  if (payload.length < 49 || payload[0] !== RECORD_HANDSHAKE || payload[5] !== SERVER_HELLO) {
    return undefined;
  }
  const extensions = 44 + payload.readUInt8(43) + 3;
  for (let at = extensions + 2; at + 4 <= payload.length; at += 4 + payload.readUInt16BE(at + 2)) {
    if (payload.readUInt16BE(at) !== SUPPORTED_VERSIONS) continue;
    return at + 6 <= payload.length ? payload.readUInt16BE(at + 4) : undefined;
  }
  return payload.readUInt16BE(9);
}

/** The versions servers on this port chose in the captured handshakes. */
export function serverVersions(frames: readonly Buffer[], port: number): number[] {
  return frames.flatMap((frame) => {
    const segment = parseSegment(frame);
    if (segment?.sourcePort !== port) return [];
    const version = serverHelloVersion(segment.payload);
    return version === undefined ? [] : [version];
  });
}
