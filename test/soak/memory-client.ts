// Load from within a pod that holds memory at the proxies, as a process; says `ready` when it is in place and stays until
// its standard input ends. hold HOST PORT COUNT: idle connections, each answered once. slow HOST PORT COUNT: asks for
// data without end and reads none. scan PREFIX PORT COUNT: connects to addresses nobody has, PREFIX.x.y.
import { connect } from 'node:net';
import type { Socket } from 'node:net';

const [act = '', host = '', port = '0', count = '1'] = process.argv.slice(2);
const total = Number(count);
const sockets = new Set<Socket>();
let settled = 0;

function dial(address: string): Socket {
  const socket = connect({ host: address, port: Number(port) });
  sockets.add(socket);
  socket.on('error', () => undefined);
  socket.on('close', () => sockets.delete(socket));
  return socket;
}

function settle(): void {
  settled++;
  if (settled === total) process.stdout.write('ready\n');
}

/** One at a time for each lane: a storm is not what is measured. */
function hold(lanes: number): void {
  let begun = 0;
  const next = (): void => {
    if (begun++ >= total) return;
    const socket = dial(host);
    socket.once('connect', () => socket.write('x\n'));
    socket.once('data', () => {
      settle();
      next();
    });
  };
  for (let lane = 0; lane < lanes; lane++) next();
}

function slow(): void {
  for (let i = 0; i < total; i++) {
    const socket = dial(host);
    socket.once('connect', () => {
      socket.write('flood\n');
      // Never read: no handler of data, and paused.
      socket.pause();
      settle();
    });
  }
}

function scan(): void {
  const PER_TICK = 20;
  let begun = 0;
  const timer = setInterval(() => {
    for (let i = 0; i < PER_TICK && begun < total; i++, begun++) {
      const socket = dial(`${host}.${begun >> 8}.${begun & 255}`);
      setTimeout(() => {
        socket.destroy();
        settle();
      }, 200);
    }
    if (begun >= total) clearInterval(timer);
  }, 5);
}

if (act === 'hold') hold(32);
else if (act === 'slow') slow();
else scan();
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
