// L4 authorization policies as the proxies execute them; made from Istio's `istio.security.Authorization`.
// All fields are plain data so that a policy can be sent to another thread.

export type StringMatch =
  | { readonly kind: 'exact'; readonly value: string }
  | { readonly kind: 'prefix'; readonly value: string }
  | { readonly kind: 'suffix'; readonly value: string }
  | { readonly kind: 'presence' };

/** An address range; `bytes` is 4 or 16 long. */
export interface Cidr {
  readonly bytes: Uint8Array;
  readonly length: number;
}

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** One condition of a clause: AND over the kinds, each with a list and a `not` list. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

/** OR of rules, each an AND of clauses, each an OR of matches. */
export interface Policy {
  /** `namespace/name`, the resource's name. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly scope: 'GLOBAL' | 'NAMESPACE' | 'WORKLOAD_SELECTOR';
  readonly action: 'ALLOW' | 'DENY';
  readonly isDryRun: boolean;
  readonly rules: ReadonlyArray<ReadonlyArray<readonly PolicyMatch[]>>;
}
