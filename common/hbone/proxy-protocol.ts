// The PROXY protocol header, version 2, that an application tunnel is told its client by.
import { isIpv6, parseIp } from '../workload/ip.ts';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;
/** Istio's type for the client's SPIFFE id. */
const TLV_IDENTITY = 0xd0;
const MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex');

/** One end of the connection. */
export interface ProxyEnd {
  readonly ip: string;
  readonly port: number;
}

/** Encodes the header. Ends of different families are both written as IPv6 (v4-mapped). */
export function encodeProxyHeader(
  source: ProxyEnd,
  destination: ProxyEnd,
  identity: string | undefined,
): Buffer {
  const isV6 = isIpv6(source.ip) || isIpv6(destination.ip);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const body = Buffer.concat([
    bytesOf(source.ip, isV6),
    bytesOf(destination.ip, isV6),
    ports,
    identity === undefined ? Buffer.alloc(0) : tlv(TLV_IDENTITY, identity),
  ]);
  const head = Buffer.alloc(4);
  head.writeUInt8(VERSION_2_PROXY, 0);
  head.writeUInt8(isV6 ? TCP_OVER_IPV6 : TCP_OVER_IPV4, 1);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([SIGNATURE, head, body]);
}

function bytesOf(ip: string, isV6: boolean): Uint8Array {
  const bytes = parseIp(ip) ?? new Uint8Array(4);
  return isV6 && bytes.length === 4 ? Buffer.concat([MAPPED_PREFIX, bytes]) : bytes;
}

function tlv(type: number, value: string): Buffer {
  const bytes = Buffer.from(value, 'ascii');
  const head = Buffer.alloc(3);
  head.writeUInt8(type, 0);
  head.writeUInt16BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}
