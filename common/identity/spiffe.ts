// SPIFFE identities of workloads as Istio writes them: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.

/** The parts of a workload's identity. */
export interface SpiffeId {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

const FORM = /^spiffe:\/\/([a-zA-Z0-9._-]+)\/ns\/([a-zA-Z0-9._-]+)\/sa\/([a-zA-Z0-9._-]+)$/;
const MAX_LENGTH = 2048;

/** The parts of a SPIFFE id; undefined when the text is not one of Istio's form. */
export function parseSpiffeId(text: string): SpiffeId | undefined {
  const match = text.length > MAX_LENGTH ? null : FORM.exec(text);
  const [, trustDomain, namespace, serviceAccount] = match ?? [];
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined) {
    return undefined;
  }
  return { trustDomain, namespace, serviceAccount };
}

/** The text of an identity. */
export function formatSpiffeId(id: SpiffeId): string {
  return `spiffe://${id.trustDomain}/ns/${id.namespace}/sa/${id.serviceAccount}`;
}
