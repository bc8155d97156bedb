// Events (events.k8s.io/v1) on objects: what `kubectl describe` shows. Repeated ones within an hour are dropped
// here, because a controller that reconciles often would fill the event store; later ones, and those of a controller that was
// started again, count the Event up that is there.
import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import { isKubeStatus } from './client.ts';
import type { KubeClient, ObjectRef } from './client.ts';
import { KINDS, apiVersionOf } from './resource.ts';
import type { KubeObject, ResourceKind } from './resource.ts';

/** An event to record. */
export interface EventNote {
  readonly kind: ResourceKind;
  readonly object: KubeObject;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase code. */
  readonly reason: string;
  readonly action: string;
  readonly note: string;
}

const REPEAT_AFTER_MS = 3_600_000;
const MAX_REMEMBERED = 2000;
const MAX_NOTE_LENGTH = 1024;

/** Writes events; a failure is logged and otherwise ignored. */
export class EventRecorder {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #controller: string;
  /** Event text to the time it was written; oldest first. */
  readonly #recent = new Map<string, number>();

  constructor(client: KubeClient, options: { clock: Clock; logger: Logger; controller: string }) {
    this.#client = client;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#controller = options.controller;
  }

  async record(event: EventNote): Promise<void> {
    const { name = '', uid = '' } = event.object.metadata ?? {};
    const key = `${uid}/${event.reason}/${event.note}`;
    const now = this.#clock.now();
    const before = this.#recent.get(key);
    if (before !== undefined && now - before < REPEAT_AFTER_MS) return;
    this.#recent.delete(key);
    this.#recent.set(key, now);
    const oldest = this.#recent.keys().next().value;
    if (this.#recent.size > MAX_REMEMBERED && oldest !== undefined) this.#recent.delete(oldest);
    try {
      await this.#write(event, key, now);
    } catch (err) {
      const fields = { name, reason: event.reason, err: errorMessage(err) };
      this.#logger.warn(fields, 'event not written');
    }
  }

  async #write(event: EventNote, key: string, now: number): Promise<void> {
    const { name = '', namespace = 'default', uid = '' } = event.object.metadata ?? {};
    const id = createHash('sha256').update(`${this.#controller}/${key}`).digest('hex').slice(0, 16);
    const ref = { kind: KINDS.events, namespace, name: `${name}.${id}` };
    const time = `${new Date(now).toISOString().slice(0, -1)}000Z`;
    try {
      await this.#client.create(KINDS.events, {
        metadata: { name: ref.name, namespace },
        eventTime: time,
        reportingController: this.#controller,
        reportingInstance: this.#controller,
        action: event.action,
        reason: event.reason,
        type: event.type,
        note: event.note.slice(0, MAX_NOTE_LENGTH),
        regarding: {
          apiVersion: apiVersionOf(event.kind),
          kind: event.kind.kind,
          name,
          namespace: event.object.metadata?.namespace,
          uid,
        },
      });
    } catch (err) {
      if (!isKubeStatus(err, 409)) throw err;
      await this.#countUp(ref, time);
    }
  }

  /** The Event is there already. */
  async #countUp(ref: ObjectRef, lastObservedTime: string): Promise<void> {
    const found = await this.#client.get<{ series?: { count?: number } }>(ref);
    const count = (found?.series?.count ?? 1) + 1;
    await this.#client.mergePatch(ref, { series: { count, lastObservedTime } });
  }
}
