// What the control thread and a data thread tell each other. Plain data only. The control thread wakes the reactor
// after each message; each request is answered with `done` of the same `seq`.
import type { Revocations } from '../common/hbone/revocation-lists.ts';
import type { WorkloadCertificate } from '../common/identity/secret-manager.ts';
import type { SeriesMessage } from '../common/telemetry/series-table.ts';
import type { AddressResource } from '../common/workload/model.ts';
import type { Config } from './config.ts';
import type { L7Kind } from './state/l7-config.ts';

/** Control to data. L7 resources travel as bytes: compiled ones hold functions. */
export type DataRequest =
  | {
      readonly kind: 'addresses';
      readonly seq: number;
      readonly upserts: readonly AddressResource[];
      readonly removed: readonly string[];
    }
  | {
      readonly kind: 'l7';
      readonly seq: number;
      readonly type: L7Kind;
      readonly upserts: ReadonlyArray<{ readonly name: string; readonly value: Uint8Array }>;
      readonly removed: readonly string[];
    }
  | {
      readonly kind: 'certificate';
      readonly seq: number;
      readonly certificate: WorkloadCertificate;
    }
  | {
      readonly kind: 'revocations';
      readonly seq: number;
      readonly revocations: Revocations;
    }
  | { readonly kind: 'listen'; readonly seq: number; readonly fd: number }
  | { readonly kind: 'dump'; readonly seq: number }
  /** The levels in force from now on. */
  | { readonly kind: 'logLevel'; readonly seq: number; readonly levels: string }
  | { readonly kind: 'drain'; readonly seq: number; readonly deadlineMs: number };

/** A request without its number. */
export type DataCommand = DataRequest extends infer R
  ? R extends DataRequest
    ? Omit<R, 'seq'>
    : never
  : never;

/** Data to control. */
export type DataEvent =
  | { readonly kind: 'ready'; readonly wakeFd: number }
  | {
      readonly kind: 'done';
      readonly seq: number;
      readonly error?: string;
      readonly dump?: unknown;
    }
  | { readonly kind: 'series'; readonly message: SeriesMessage };

/** What a data thread starts with. */
export interface DataThreadOptions {
  readonly config: Config;
}
