// The tcp-echo sample: `tcp-echo PORT[,PORT...] PREFIX` answers each line with the prefix and the line.
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [ports = '9000', prefix = 'hello'] = process.argv.slice(2);

for (const port of ports.split(',').map(Number)) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => socket.write(`${prefix} ${line}\n`));
    lines.on('close', () => socket.end());
    socket.on('error', () => socket.destroy());
  });
  server.once('error', () => server.listen(port, '0.0.0.0'));
  server.listen(port, '::');
}
process.once('SIGTERM', () => process.exit(0));
console.log(`tcp-echo listens on ports ${ports}`);
