// What the control thread and the data thread tell each other. Plain data only. The control thread wakes the
// reactor after each message. Requests carry `seq`; the data thread answers each with `done` of the same `seq`.
import type {
  ConnectionSort,
  ConnectionsAnswer,
  LiveConnection,
} from '../common/admin/connections.ts';
import type { WorkloadCertificate } from '../common/identity/secret-manager.ts';
import type { Policy } from '../common/policy/model.ts';
import type { CpuProfileRequest, HeapProfileAction } from '../common/telemetry/profiler.ts';
import type { SeriesMessage } from '../common/telemetry/series-table.ts';
import type { AddressResource } from '../common/workload/model.ts';
import type { PodInfo } from '../common/zds/codec.ts';
import type { Config } from './config.ts';
import type { Revocations } from '../common/hbone/revocation-lists.ts';
import type { HostAddressAnswer, HostQuestion } from './proxy/host-addresses.ts';
import type { PodSocket } from './inpod/pod-sockets.ts';

/** Control to data. */
export type DataRequest =
  | {
      readonly kind: 'state';
      readonly seq: number;
      readonly upserts: readonly AddressResource[];
      readonly removed: readonly string[];
      /** `network/ip` keys that were asked for and are answered now, also when nothing is there. */
      readonly answers: readonly string[];
      /** Those for which the control plane had no answer in time. */
      readonly unanswered: readonly string[];
      /** Those that are to be asked for again when they are needed. */
      readonly forgotten: readonly string[];
      /** Forget everything first: too many addresses had been asked for. */
      readonly isReset: boolean;
    }
  | {
      readonly kind: 'policies';
      readonly seq: number;
      readonly upserts: readonly Policy[];
      readonly removed: readonly string[];
    }
  | {
      readonly kind: 'certificate';
      readonly seq: number;
      readonly certificate: WorkloadCertificate;
    }
  | {
      readonly kind: 'certificateFailed';
      readonly seq: number;
      readonly identity: string;
      readonly error: string;
    }
  | {
      readonly kind: 'revocations';
      readonly seq: number;
      readonly revocations: Revocations;
    }
  | { readonly kind: 'forgetCertificate'; readonly seq: number; readonly identity: string }
  | {
      readonly kind: 'addPod';
      readonly seq: number;
      readonly uid: string;
      readonly pod: PodInfo;
      /** The data thread duplicates it; the control thread keeps its own. */
      readonly netnsFd: number;
      /** The data thread's from here on, also when it answers with an error. */
      readonly sockets: readonly PodSocket[];
      /** The pod's counts in all data threads; undefined where there is only one. */
      readonly shared?: SharedArrayBuffer | undefined;
      /** It is the proxy's own pod, with this identity: only its tunnels are served. */
      readonly ownIdentity?: string;
    }
  | { readonly kind: 'removePod'; readonly seq: number; readonly uid: string }
  /** What `resolveHost` asked for; none: it has none, or the resolver failed. */
  | ({ readonly kind: 'hostAddresses'; readonly seq: number } & HostAddressAnswer)
  | { readonly kind: 'dump'; readonly seq: number }
  | ({ readonly kind: 'connections'; readonly seq: number } & ConnectionQuery)
  | ({ readonly kind: 'cpuProfile'; readonly seq: number } & CpuProfileRequest)
  | { readonly kind: 'heapProfile'; readonly seq: number; readonly action: HeapProfileAction }
  /** The levels in force from now on. */
  | { readonly kind: 'logLevel'; readonly seq: number; readonly levels: string }
  | {
      readonly kind: 'drain';
      readonly seq: number;
      readonly deadlineMs: number;
      /** A successor accepts on the same sockets. */
      readonly isReplaced: boolean;
    };

/** Tracked connections of a pod, for the admin dump. */
export type ConnectionDump = Pick<LiveConnection, 'src' | 'originalDst' | 'actualDst' | 'protocol'>;

/** A live connection, without the pod it belongs to. */
export type ConnectionDetails = Omit<LiveConnection, 'pod' | 'uid'>;

/** Which connections are wanted. */
export interface ConnectionQuery {
  /** At most so many, the first by `sort`. */
  readonly top: number;
  readonly sort: ConnectionSort;
  /** `namespace/name`; undefined is all pods. */
  readonly pod: string | undefined;
}

/** The answer to {@link ConnectionQuery}; the count is of all that were asked for, shown or not. */
export type ConnectionReport = Pick<ConnectionsAnswer, 'pods' | 'connections' | 'connectionCount'>;

export interface PodDump {
  readonly uid: string;
  readonly pod: PodInfo;
  readonly inbound: readonly ConnectionDump[];
  readonly outbound: readonly ConnectionDump[];
}

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
      readonly pods?: readonly PodDump[];
      readonly report?: ConnectionReport;
      readonly profile?: string;
    }
  | { readonly kind: 'series'; readonly message: SeriesMessage }
  /** Finished lines; the control thread writes them. */
  | { readonly kind: 'log'; readonly text: string }
  | { readonly kind: 'needCertificate'; readonly identity: string }
  | { readonly kind: 'lookup'; readonly key: string }
  | ({ readonly kind: 'resolveHost' } & HostQuestion);

/** `workerData` of the data thread. */
export interface DataThreadOptions {
  readonly config: Config;
  /** Its number, from 0. */
  readonly thread: number;
}
