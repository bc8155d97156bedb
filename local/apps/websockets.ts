// The websockets sample: a page, and /ws which sends every message it gets to all that are connected.
import { WebSocket, WebSocketServer } from 'ws';
import { sendText, serveApp } from './http-app.ts';

const MAX_MESSAGE_BYTES = 64 * 1024;
const PAGE = `<!doctype html><title>WebSocket sample</title><pre id=log></pre><input id=text>
<script>
const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
socket.onmessage = (event) => { log.textContent += event.data + '\\n'; };
text.onchange = () => { socket.send(text.value); text.value = ''; };
</script>
`;

const server = serveApp('websockets', Number(process.argv[2] ?? 8888), (_req, res) =>
  sendText(res, PAGE, 'text/html'),
);
server.removeAllListeners('upgrade');
const sockets = new WebSocketServer({ server, path: '/ws', maxPayload: MAX_MESSAGE_BYTES });
sockets.on('connection', (socket) => {
  socket.on('error', () => socket.terminate());
  socket.on('message', (message, isBinary) => {
    for (const peer of sockets.clients) {
      if (peer.readyState === WebSocket.OPEN) peer.send(message, { binary: isBinary });
    }
  });
});
