// Records Kubernetes Events about pods. The same event is sent again at most every ten seconds, with its count.
import { errorMessage } from '../../common/errors.ts';
import type { ApiClient } from './api.ts';
import { log } from './log.ts';
import type { Pod } from './objects.ts';

const REPEAT_MS = 10_000;
const MAX_KNOWN = 1000;

interface Known {
  readonly path: string;
  count: number;
  sentAt: number;
}

export class EventRecorder {
  readonly #api: ApiClient;
  readonly #node: string;
  readonly #known = new Map<string, Known>();

  constructor(api: ApiClient, node: string) {
    this.#api = api;
    this.#node = node;
  }

  /** Sends the event in the background. */
  record(pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const id = `${pod.metadata.uid ?? ''}/${reason}/${message}`;
    const known = this.#known.get(id);
    const now = new Date();
    const stamp = now.toISOString().replace(/\.\d+Z$/, 'Z');
    if (known !== undefined) {
      known.count++;
      if (now.getTime() - known.sentAt < REPEAT_MS) return;
      known.sentAt = now.getTime();
      const update = { count: known.count, lastTimestamp: stamp };
      this.#api.patch(known.path, update).catch((err: unknown) => {
        log.debug({ err: errorMessage(err) }, 'event not updated');
      });
      return;
    }
    const { namespace = 'default', name, uid, resourceVersion } = pod.metadata;
    const eventName = `${name}.${process.hrtime.bigint().toString(16)}`;
    const path = `/api/v1/namespaces/${namespace}/events`;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(id, { path: `${path}/${eventName}`, count: 1, sentAt: now.getTime() });
    const event = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: eventName, namespace },
      involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid, resourceVersion },
      reason,
      message: message.slice(0, 1000),
      type,
      count: 1,
      firstTimestamp: stamp,
      lastTimestamp: stamp,
      source: { component: 'kubelet', host: this.#node },
      reportingComponent: 'kubelet',
      reportingInstance: this.#node,
    };
    this.#api.create(path, event).catch((err: unknown) => {
      log.debug({ err: errorMessage(err) }, 'event not recorded');
    });
  }
}
