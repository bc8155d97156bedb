// Asks a name server from inside a pod: `dns-client.ts SERVER TYPE NAME...`, by Node's own resolver (c-ares). Prints
// for each name a line: the sorted addresses, or the code of the failure. `repeat` as TYPE: asks A for one name for
// ever, one after another by a socket of its own, and prints a line for each answer that was late or none.
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { decode, encode } from 'dns-packet';

const [, , server = '', type = 'A', ...names] = process.argv;
const LATE_MS = 4000;

function ask(name: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const done = (text: string): void => {
      clearTimeout(timer);
      socket.close();
      resolve(text);
    };
    const timer = setTimeout(() => done('late'), LATE_MS);
    socket.once('message', (answer) => done(String(decode(answer).answers?.length)));
    socket.send(encode({ type: 'query', id: 1, questions: [{ type: 'A', name }] }), 53, server);
  });
}

if (type === 'repeat') {
  let asked = 0;
  const failed: string[] = [];
  process.stdout.write('asking\n');
  process.stdin.on('end', () => {
    process.stdout.write(`${JSON.stringify({ asked, failed })}\n`, () => process.exit(0));
  });
  process.stdin.resume();
  for (;;) {
    const answer = await ask(names[0] ?? '');
    asked++;
    if (answer !== '1') failed.push(answer);
  }
}
const resolver = new Resolver({ tries: 2, timeout: 5000 });
resolver.setServers([server]);
for (const name of names) {
  try {
    const found = await resolver.resolve(name, type);
    process.stdout.write(`${[...(found as string[])].sort().join(' ')}\n`);
  } catch (err) {
    process.stdout.write(`${(err as { code?: string }).code ?? 'failed'}\n`);
  }
}
