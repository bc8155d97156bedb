// A peer that opens tunnels and ends none, as a process outside the mesh with a certificate of it (CERT, KEY): COUNT streams,
// as many to a connection as that allows, each answered or refused before the next wave. Says `ready` at the end, with what
// became of them, and stays until its standard input ends.
import { once } from 'node:events';
import { connect } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';

const [host = '', authority = '', count = '0'] = process.argv.slice(2);
const total = Number(count);
const { CERT: cert = '', KEY: key = '' } = process.env;
/** More than the proxy says it takes are not sent, but wait in this process. */
const MAX_STREAMS = 100;

const outcomes = new Map<string, number>();

async function openSession(): Promise<ClientHttp2Session> {
  const session = connect(`https://${host}:15008`, { cert, key, rejectUnauthorized: false });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return session;
}

/** One stream that stays open: its status, or that it was reset. */
function open(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    const settle = (outcome: string): void => {
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      resolve();
    };
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
    stream.once('response', (headers) => settle(String(headers[':status'])));
    stream.once('error', () => settle('reset'));
  });
}

for (let opened = 0; opened < total; opened += MAX_STREAMS) {
  const session = await openSession();
  const wave = Math.min(MAX_STREAMS, total - opened);
  await Promise.all(Array.from({ length: wave }, () => open(session)));
}
process.stdout.write(`ready ${JSON.stringify(Object.fromEntries(outcomes))}\n`);
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
