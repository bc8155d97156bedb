// Looks into captured Ethernet frames: texts in them, and the TLS version a server chose. Pure.

const ETHERTYPE_IPV4 = 0x0800;
const PROTOCOL_TCP = 6;
const RECORD_HANDSHAKE = 0x16;
const SERVER_HELLO = 2;
const SUPPORTED_VERSIONS = 0x002b;

export interface TcpSegment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** The TCP segment in a frame; undefined for other frames. */
export function parseSegment(frame: Buffer): TcpSegment | undefined {
  if (frame.length < 54 || frame.readUInt16BE(12) !== ETHERTYPE_IPV4) return undefined;
  if (frame[23] !== PROTOCOL_TCP) return undefined;
  const tcp = 14 + (frame.readUInt8(14) & 15) * 4;
  if (frame.length < tcp + 20) return undefined;
  const end = Math.min(frame.length, 14 + frame.readUInt16BE(16));
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
