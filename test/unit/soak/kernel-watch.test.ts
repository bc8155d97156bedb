import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { it } from 'node:test';
import { KernelWatch } from '../../soak/kernel-watch.ts';

it('a thread that computes is seen to run, and its wait for a processor is no negative number', () => {
  const watch = new KernelWatch({ self: process.pid });
  const until = performance.now() + 100;
  while (performance.now() < until);
  const self = watch.end().threads['self'];
  assert.ok(self !== undefined && self.ranPercent > 10, JSON.stringify(self));
  assert.ok(self.ranPercent <= 101 && self.waitedMsPerSec >= 0 && self.meanWaitUs >= 0);
});

it('connections without loss leave no counter of TCP behind, and a process that has ended keeps its last numbers', async () => {
  const watch = new KernelWatch({ self: process.pid, gone: 0x7fffff });
  const server = createServer((socket) => socket.end('x'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const client = connect(address.port, '127.0.0.1');
  await once(client.resume(), 'close');
  server.close();
  const report = watch.end();
  assert.equal(report.tcp['ListenOverflows'], undefined);
  assert.deepEqual(report.threads['gone'], { ranPercent: 0, waitedMsPerSec: 0, meanWaitUs: 0 });
});
