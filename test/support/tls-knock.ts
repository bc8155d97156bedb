// A TLS client for tests, run as a process in a pod's namespace: HOST PORT, with CERT, KEY and ROOT in the
// environment; opens HTTP/2 and asks to CONNECT to AUTHORITY; prints the status, or `ended` when it is cut.
import { connect } from 'node:http2';

const [host = '', port = '0'] = process.argv.slice(2);
const { CERT: cert, KEY: key, ROOT: ca, AUTHORITY: authority } = process.env;
const session = connect(`https://${host}:${port}`, {
  cert,
  key,
  ca,
  checkServerIdentity: () => undefined,
});
const end = (text: string): void => {
  process.stdout.write(`${text}\n`);
  process.exit(0);
};
session.on('error', () => end('ended'));
session.on('close', () => end('ended'));
session.on('connect', () => {
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
  stream.on('response', (headers) => end(String(headers[':status'])));
  stream.on('error', () => undefined);
});
