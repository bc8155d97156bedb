// What a node proxy and its holder tell each other: JSON packets on a SEQPACKET socketpair, descriptors beside them
// (SCM_RIGHTS, in the order of `names`). The proxy asks, one request at a time; the holder also speaks unasked.
import { MeshError } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';

/** A pod's sockets as they are held. `netnsId` is the namespace's device and inode. */
export interface HeldPod {
  readonly uid: string;
  readonly netnsId: string;
  readonly pod: PodInfo;
  /** Names of the descriptors: `netns`, `tcp/15001`, ... */
  readonly names: readonly string[];
}

/** Connections that a pod still has in a draining proxy. */
export interface PodConnections {
  readonly name: string;
  readonly namespace: string;
  readonly connections: number;
}

/** Proxy to holder; each is answered. */
export type HolderRequest =
  /** Uids that are held, in order, after this one. */
  | { readonly kind: 'list'; readonly after: string }
  /** Copies of a pod's descriptors. */
  | { readonly kind: 'take'; readonly uid: string }
  /** Hold these; refused when the same pod is held already. */
  | { readonly kind: 'keep'; readonly held: HeldPod }
  /** The pod has left. */
  | { readonly kind: 'release'; readonly uid: string }
  /** Serving: the proxy before this one may drain. */
  | { readonly kind: 'ready' }
  /** What is left while draining; the last of several packets has `isLast`. */
  | { readonly kind: 'report'; readonly pods: readonly PodConnections[]; readonly isLast: boolean }
  /** Start a successor. */
  | { readonly kind: 'replace' }
  /** End everything, as SIGTERM does. */
  | { readonly kind: 'quit' };

/** Holder to proxy. */
export type HolderMessage =
  /** The first packet. A replacement serves beside its predecessor until it is ready. */
  | {
      readonly kind: 'welcome';
      readonly isReplacement: boolean;
      /** Proxies that have died since the holder started. */
      readonly crashes: number;
    }
  | {
      readonly kind: 'answer';
      readonly error?: string;
      readonly uids?: readonly string[];
      /** Absent: nothing is held. */
      readonly held?: HeldPod;
    }
  /** Stop accepting, let connections end. Replaced: a successor has the same sockets. */
  | { readonly kind: 'drain'; readonly isReplaced: boolean }
  /** The pod has left: end what it still has. */
  | { readonly kind: 'gone'; readonly uid: string }
  /** What a draining predecessor reports; empty and last when it has ended. */
  | {
      readonly kind: 'draining';
      readonly process: number;
      readonly pods: readonly PodConnections[];
      readonly isLast: boolean;
    };

/** Pods in one report, so that a packet stays well below the limit. */
export const REPORT_PODS = 32;
/** Uids in one answer to `list`. */
export const LIST_UIDS = 100;

/** Encodes a packet. */
export function encodePacket(message: HolderRequest | HolderMessage): Uint8Array {
  return Buffer.from(JSON.stringify(message));
}

/** Decodes what a proxy sent. Throws `MeshError('holder_protocol')`. */
export function decodeRequest(packet: Uint8Array): HolderRequest {
  return decode(packet, REQUEST_KINDS) as HolderRequest;
}

/** Decodes what the holder sent. Throws `MeshError('holder_protocol')`. */
export function decodeMessage(packet: Uint8Array): HolderMessage {
  return decode(packet, MESSAGE_KINDS) as HolderMessage;
}

type Check = (value: unknown) => boolean;
type Shape = Readonly<Record<string, Check>>;

const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const isCount: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const shaped =
  (shape: Shape): Check =>
  (value) =>
    typeof value === 'object' && value !== null && fits(value, shape);
const isPod = shaped({ name: isText, namespace: isText, serviceAccount: isText });
const isHeld = shaped({ uid: isText, netnsId: isText, pod: isPod, names: listOf(isText) });
const isReport: Shape = {
  pods: listOf(shaped({ name: isText, namespace: isText, connections: isCount })),
  isLast: isFlag,
};

const REQUEST_KINDS: Readonly<Record<string, Shape>> = {
  list: { after: isText },
  take: { uid: isText },
  keep: { held: isHeld },
  release: { uid: isText },
  ready: {},
  report: isReport,
  replace: {},
  quit: {},
};

const MESSAGE_KINDS: Readonly<Record<string, Shape>> = {
  welcome: { isReplacement: isFlag, crashes: isCount },
  answer: { error: optional(isText), uids: optional(listOf(isText)), held: optional(isHeld) },
  drain: { isReplaced: isFlag },
  gone: { uid: isText },
  draining: { process: isCount, ...isReport },
};

function fits(value: object, shape: Shape): boolean {
  const fields = new Map(Object.entries(value));
  return Object.entries(shape).every(([name, check]) => check(fields.get(name)));
}

function decode(packet: Uint8Array, kinds: Readonly<Record<string, Shape>>): unknown {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(packet).toString());
  } catch (err) {
    throw new MeshError('holder_protocol', 'packet is not JSON', { cause: err });
  }
  const kind =
    typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
  const shape = typeof kind === 'string' && Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (shape === undefined || !shaped(shape)(value)) {
    throw new MeshError('holder_protocol', `packet of kind ${String(kind)} has another form`);
  }
  return value;
}
