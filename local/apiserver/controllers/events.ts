// Events of the controllers, counted up instead of repeated; old ones are removed after an hour.
import { number, text, timestamp } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { StoreEvent } from '../storage/store.ts';
import { deleteObject } from '../api/delete.ts';
import { builtin } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import type { Timer } from '../../../common/clock.ts';

const LIFE_MS = 3600_000;
const SWEEP_MS = 300_000;
const SEQUENCE_LIMIT = 2 ** 32;

export interface EventText {
  readonly reason: string;
  readonly message: string;
  readonly component: string;
  readonly type?: 'Normal' | 'Warning';
}

let sequence = 0;

/** Records what a controller did to an object; never fails. */
export function recordEvent(context: ControllerContext, about: KubeObject, event: EventText): void {
  const { lifecycle, clock } = context;
  const { store } = lifecycle;
  const namespace = about.metadata.namespace ?? 'default';
  const resource = builtin(context, BUCKETS.events);
  const now = timestamp(clock.now());
  for (const known of store.values(BUCKETS.events)) {
    const involved = (known['involvedObject'] ?? {}) as { uid?: string };
    if (involved.uid !== about.metadata.uid || known['message'] !== event.message) continue;
    if (known['reason'] !== event.reason) continue;
    lifecycle.modify(resource, known, (copy) => {
      copy['count'] = number(copy['count'], 1) + 1;
      copy['lastTimestamp'] = now;
    });
    return;
  }
  const owner = store.get(BUCKETS.namespaces, undefined, namespace);
  if (owner === undefined || owner.metadata.deletionTimestamp !== undefined) return;
  const { name, uid, resourceVersion } = about.metadata;
  sequence = (sequence + 1) % SEQUENCE_LIMIT;
  const suffix = `${clock.now().toString(16)}${sequence.toString(16).padStart(4, '0')}`;
  const body = {
    metadata: { name: `${name}.${suffix}`, namespace },
    involvedObject: {
      apiVersion: about.apiVersion,
      kind: about.kind,
      name,
      namespace: about.metadata.namespace,
      uid,
      resourceVersion,
    },
    reason: event.reason,
    message: event.message,
    type: event.type ?? 'Normal',
    source: { component: event.component },
    reportingComponent: event.component,
    reportingInstance: '',
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  };
  lifecycle.create(resource, namespace, body, { manager: event.component });
}

/** Removes events that have not been seen for an hour. */
export class EventExpiry implements Controller {
  readonly #context: ControllerContext;
  #timer: Timer;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#timer = context.clock.after(SWEEP_MS, () => this.#sweep());
  }

  onEvent(_event: StoreEvent): void {
    // Events expire by time alone.
  }

  close(): void {
    this.#timer.cancel();
  }

  #sweep(): void {
    const { lifecycle, clock } = this.#context;
    const resource = builtin(this.#context, BUCKETS.events);
    const oldest = clock.now() - LIFE_MS;
    for (const event of lifecycle.store.list(BUCKETS.events)) {
      const seen = Date.parse(text(event['lastTimestamp']) || event.metadata.creationTimestamp);
      if (seen < oldest) deleteObject(this.#context, resource, event, { policy: 'Background' });
    }
    this.#timer = clock.after(SWEEP_MS, () => this.#sweep());
  }
}
