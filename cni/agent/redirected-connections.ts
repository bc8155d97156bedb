// How many connections of a pod still go through the node proxy, read from the socket tables of its netns. Pure
// but for the reading: outbound and plaintext inbound ones end at the proxy's ports; those the proxy opened to
// the application come from an address that is not the pod's. Pooled HBONE connections do not count: what runs
// in them is counted by its other end.
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Netns } from '../../engine/reactor/netns.ts';
import { INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from '../rules/marks.ts';

const TIME_WAIT = '06';
const CLOSED = '07';
const LISTEN = '0A';

/** An address of /proc/net/tcp or tcp6 (words in host order) as text; v4-mapped ones become IPv4. */
export function decodeAddress(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).toReversed());
  const isMapped =
    bytes.length === 16 && bytes.slice(0, 12).join('') === '00000000000000000000ffff';
  if (bytes.length === 4 || isMapped || hex.startsWith('0000000000000000FFFF0000')) {
    return bytes
      .slice(-4)
      .map((byte) => parseInt(byte, 16))
      .join('.');
  }
  return bytes.join('').toLowerCase();
}

function expandIpv6(address: string): string {
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...gap, ...right].map((part) => part.padStart(4, '0')).join('');
}

/** Counts the redirected connections in the text of a socket table. */
export function countRedirected(table: string, ownAddresses: ReadonlySet<string>): number {
  let count = 0;
  for (const line of table.split('\n').slice(1)) {
    const [, local, remote, state] = line.trim().split(/\s+/);
    if (local === undefined || remote === undefined || state === undefined) continue;
    if (state === LISTEN || state === TIME_WAIT || state === CLOSED) continue;
    const [address = '', port = ''] = local.split(':');
    const number = parseInt(port, 16);
    const isProxyPort = number === OUTBOUND_PORT || number === INBOUND_PLAINTEXT_PORT;
    if (isProxyPort || !ownAddresses.has(decodeAddress(address))) count++;
  }
  return count;
}

/** Reads the tables inside the namespace and counts. */
export function redirectedConnections(netns: Netns): number {
  return netns.runSync(() => {
    const own = new Set(['127.0.0.1', '0.0.0.0', '0'.repeat(31) + '1', '0'.repeat(32)]);
    for (const list of Object.values(networkInterfaces())) {
      for (const { address, family } of list ?? []) {
        own.add(family === 'IPv6' ? expandIpv6(address) : address);
      }
    }
    let count = 0;
    for (const name of ['tcp', 'tcp6']) {
      try {
        count += countRedirected(readFileSync(`/proc/thread-self/net/${name}`, 'utf8'), own);
      } catch {
        // No IPv6 on this machine.
      }
    }
    return count;
  });
}
