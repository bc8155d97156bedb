// Tells the node agent about a pod: HTTP over its unix socket, as Istio's plugin does.
import { request } from 'node:http';
import type { CniAddEvent } from '../rules/event.ts';

const TIMEOUT_MS = 5000;
const MAX_TEXT = 2000;

/** Resolves when the agent has enrolled the pod; rejects with its reason otherwise. */
export function callAgent(socketPath: string, event: CniAddEvent): Promise<void> {
  const body = JSON.stringify(event);
  return new Promise((resolve, reject) => {
    const call = request({
      socketPath,
      path: '/cmdadd',
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    });
    const timer = setTimeout(
      () => call.destroy(new Error('the node agent did not answer in time')),
      TIMEOUT_MS,
    );
    call.on('error', (err) => {
      clearTimeout(timer);
      reject(new Error(`the pod must be in the mesh, and the node agent failed: ${err.message}`));
    });
    call.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        if (text.length < MAX_TEXT) text += chunk;
      });
      response.on('end', () => {
        clearTimeout(timer);
        if (response.statusCode === 200) resolve();
        else reject(new Error(`the node agent refused the pod: ${text.trim()}`));
      });
    });
    call.end(body);
  });
}
