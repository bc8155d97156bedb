// Who asks: what authentication found out, in Kubernetes' own terms.

/** An authenticated user. */
export interface User {
  readonly username: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}
