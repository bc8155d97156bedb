// The control plane's HTTP port: whatever a request asks for is a page, not found, or no path, and never a failure.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, it } from 'node:test';
import { openHttpServer, type HttpServer } from '../../../controlplane/http-server.ts';

let server: HttpServer;
before(async () => {
  server = await openHttpServer({
    host: '::1',
    port: 0,
    pages: { '/readyz': () => ({ type: 'text/plain', body: 'ok\n' }) },
  });
});
after(() => server.close());

async function statusOf(target: string): Promise<number> {
  const socket = connect({ host: '::1', port: server.port });
  socket.write(`GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1]);
}

it('control plane pages: any target is a page, not found, or refused', async () => {
  const rows: readonly (readonly [target: string, status: number])[] = [
    ['/readyz', 200],
    ['/readyz?x=%zz', 200],
    ['http://elsewhere/readyz', 200],
    ['//', 404],
    ['//x/readyz', 404],
    ['/__proto__', 404],
    ['/%00', 404],
    ['http://', 400],
    ['//[', 404],
    ['*', 400],
  ];
  for (const [target, status] of rows) assert.equal(await statusOf(target), status, target);
});
