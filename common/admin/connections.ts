// What the node proxy's /connections answers: the live connections with bytes and age, and what each pod uses.
// `ambientctl` reads it. Null is unknown.

export const CONNECTION_SORTS = ['bytes', 'age', 'rate'] as const;
export type ConnectionSort = (typeof CONNECTION_SORTS)[number];

/** What a pod uses of this proxy. */
export interface PodUse {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Live connections. */
  readonly inbound: number;
  readonly outbound: number;
  /** Since the pod joined, as the bytes are. */
  readonly openedTotal: number;
  /** Refused by a limit of the pod. */
  readonly limitedTotal: number;
  /** Accepted while the pod was held to a rate of new connections. */
  readonly delayedTotal: number;
  /** TLS handshakes in progress, and since the pod joined. */
  readonly handshakes: number;
  readonly handshakesTotal: number;
  readonly tunnels: number;
  readonly waiting: number;
  /** Estimates from the counts: nothing is measured for each pod on the way. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

/** A live connection. */
export interface LiveConnection {
  /** The pod it is served for: `namespace/name`, as `source` and `destination` are. */
  readonly pod: string;
  readonly uid: string;
  readonly direction: 'inbound' | 'outbound';
  readonly src: string;
  readonly originalDst: string | null;
  readonly actualDst: string;
  readonly protocol: 'TCP' | 'HBONE' | 'DOUBLEHBONE' | 'NODE_LOCAL';
  readonly source: string | null;
  readonly destination: string | null;
  /** Host name. */
  readonly service: string | null;
  readonly sourceIdentity: string | null;
  readonly destinationIdentity: string | null;
  /** Client to server. */
  readonly bytesReceived: number;
  /** Server to client. */
  readonly bytesSent: number;
  readonly ageMs: number;
}

/** The whole answer. */
export interface ConnectionsAnswer {
  /** RFC 3339. */
  readonly now: string;
  readonly isDraining: boolean;
  /** Those with most connections first. */
  readonly pods: readonly PodUse[];
  readonly connectionCount: number;
  /** Of these, not listed below. */
  readonly omitted: number;
  readonly connections: readonly LiveConnection[];
}
