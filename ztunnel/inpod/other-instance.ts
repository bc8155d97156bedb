// Whether another node proxy listens in a pod beside this one, read from the socket tables of the pod's namespace. The
// kernel lists listeners before connections, so that little is read of a pod with many.
import { closeSync, openSync, readSync } from 'node:fs';
import type { Netns } from '../../engine/reactor/netns.ts';
import { OUTBOUND_PORT } from './pod-sockets.ts';

const LISTEN = '0A';
const PORT = OUTBOUND_PORT.toString(16).toUpperCase().padStart(4, '0');
const CHUNK_BYTES = 64 * 1024;
/** Some thousand listeners; a pod that has more is taken to be served by nobody else. */
const MAX_BYTES = 1024 * 1024;

/** How many sockets listen at the outbound port, in the text of a socket table (/proc/net/tcp, tcp6). */
export function countListeners(table: string): number {
  return table.split('\n').filter((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return state === LISTEN && local?.endsWith(`:${PORT}`) === true;
  }).length;
}

/** True when a second socket listens beside ours. */
export function isServedByAnother(netns: Netns): boolean {
  const count = netns.runSync(
    () => countListeners(readListeners('tcp')) + countListeners(readListeners('tcp6')),
  );
  return count > 1;
}

/** A table up to its first connection; empty where there is none. */
function readListeners(name: 'tcp' | 'tcp6'): string {
  let fd: number;
  try {
    fd = openSync(`/proc/thread-self/net/${name}`, 'r');
  } catch {
    // No IPv6 on this machine.
    return '';
  }
  try {
    let text = '';
    const chunk = Buffer.alloc(CHUNK_BYTES);
    while (text.length < MAX_BYTES) {
      const length = readSync(fd, chunk);
      if (length === 0) break;
      text += chunk.toString('latin1', 0, length);
      if (hasConnection(text)) break;
    }
    return text;
  } finally {
    closeSync(fd);
  }
}

/** The last whole line is no listener any more. */
function hasConnection(text: string): boolean {
  const state = text.split('\n').at(-2)?.trim().split(/\s+/)[3];
  return state !== undefined && state !== 'st' && state !== LISTEN;
}
