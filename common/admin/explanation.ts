// What the node proxy's /debug/why answers: the decision about a connection that nobody made, step by step. `ambientctl`
// reads it; the words of `reason` are those of docs/errors.md.

/** One step. `refuse` ends the connection; `info` did not decide anything. */
export interface WhyStep {
  readonly step: string;
  readonly outcome: 'ok' | 'info' | 'refuse';
  readonly detail: string;
}

/** An endpoint that could be chosen, or why it could not. */
export interface WhyCandidate {
  /** `namespace/name`. */
  readonly workload: string;
  readonly uid: string;
  readonly isEligible: boolean;
  /** Of the endpoints this decision may take, the one shown in it. */
  readonly isChosen: boolean;
  readonly detail: string;
}

/** A policy in force at the destination, and what it says of this connection. */
export interface WhyPolicy {
  /** `namespace/name`. */
  readonly policy: string;
  readonly action: 'ALLOW' | 'DENY';
  readonly scope: string;
  readonly isDryRun: boolean;
  readonly isMatch: boolean;
  /** The first rule that matches. */
  readonly rule: number | null;
  readonly isDeciding: boolean;
  readonly detail: string;
}

/** What is connected to. */
export interface WhyDecision {
  readonly kind: string;
  readonly hop: string | null;
  /** How the bytes go; null where nothing is connected. */
  readonly path: 'plain' | 'tunnel' | 'double_tunnel' | 'node_local' | null;
  readonly address: string | null;
  readonly port: number | null;
  readonly authority: string | null;
  readonly workload: string | null;
  /** `namespace/hostname`. */
  readonly service: string | null;
  readonly expectedIdentities: readonly string[];
  /** Double tunnel: of whoever ends the inner one. */
  readonly innerIdentities: readonly string[];
}

/** The whole answer. */
export interface Explanation {
  readonly src: string;
  readonly dst: string;
  readonly isAllowed: boolean;
  readonly reason: string | null;
  readonly summary: string;
  readonly source: {
    readonly uid: string;
    readonly name: string;
    readonly namespace: string;
    readonly identity: string;
    readonly ips: readonly string[];
    readonly node: string;
    readonly protocol: string;
  } | null;
  readonly decision: WhyDecision | null;
  readonly steps: readonly WhyStep[];
  readonly candidates: readonly WhyCandidate[];
  /** What is tried, in this order, when the first connect fails: `namespace/name`. */
  readonly retries: readonly string[];
  readonly policies: readonly WhyPolicy[];
}
