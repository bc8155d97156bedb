// The helloworld sample: says which version and instance answered.
import { hostname } from 'node:os';
import { sendJson, sendText, serveApp } from './http-app.ts';

serveApp('helloworld', Number(process.argv[2] ?? 5000), (_req, res, url) => {
  const version = process.env['SERVICE_VERSION'] ?? 'v1';
  if (url.pathname === '/hello') {
    sendText(res, `Hello version: ${version}, instance: ${hostname()}\n`);
  } else {
    sendJson(res, 404, { error: 'not found' });
  }
});
