// What is known of a tunnel before its first byte: who calls (from the certificate), from where, and to what.
import type { AuthzPeer } from '../../common/l7/authorization.ts';
import type { Workload } from '../../common/workload/model.ts';

/** Where the caller wanted to go: a service's port, or one workload directly. */
export type Destination =
  | {
      readonly kind: 'service';
      /** `namespace/hostname`. */
      readonly key: string;
      readonly port: number;
    }
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: number };

/** Shared by all requests of a tunnel. */
export interface ConnectionContext {
  readonly peerIdentity: string | undefined;
  readonly peer: AuthzPeer;
  readonly sourceAddress: string;
  readonly sourcePort: number;
  readonly sourceIp: Uint8Array | undefined;
  readonly sourceWorkload: Workload | undefined;
  /** The `:authority` of the tunnel. */
  readonly authority: string;
  readonly destinationIp: Uint8Array | undefined;
  readonly destination: Destination;
}
