// An application for tests, run as a process in a pod's namespace: HTTP/1 and HTTP/2 (prior knowledge), which answer a path
// `/CODE` with that status, `/grpc/N` with that gRPC status in trailers, and send a body back; and a server that speaks first.
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';

const [http1 = '8080', http2 = '8081', first = '8082'] = process.argv.slice(2);

const codeOf = (path = ''): number => Number(/^\/(\d{3})$/.exec(path)?.[1] ?? 200);

const plain = createServer((request, response) => {
  response.writeHead(codeOf(request.url));
  request.pipe(response);
});
const binary = createHttp2Server();
binary.on('stream', (stream, headers) => {
  const path = headers[':path'];
  const grpc = /^\/grpc\/(\d+)$/.exec(path ?? '')?.[1];
  const type = grpc === undefined ? 'text/plain' : 'application/grpc';
  const answer = { ':status': codeOf(path), 'content-type': type };
  stream.respond(answer, { waitForTrailers: grpc !== undefined });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': grpc }));
  stream.on('error', () => undefined);
  stream.pipe(stream);
});
const greeting = createTcpServer((socket) => {
  socket.write(`220 ${'welcome '.repeat(50)}\r\n`);
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});

plain.listen(Number(http1), '::', () => {
  binary.listen(Number(http2), '::', () => {
    greeting.listen(Number(first), '::', () => process.stdout.write('listening\n'));
  });
});
