// Who may have a certificate for which identity: pure. A workload gets its own; a node proxy gets those of pods
// scheduled on its own node. Answers to a refused caller stay vague on purpose.
import { formatSpiffeId, parseSpiffeId } from '../../common/identity/spiffe.ts';
import type { TokenIdentity } from '../../common/kube/token-review.ts';

/** What is read of a pod. */
export interface PlacedPod {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
  };
  readonly spec?: { readonly nodeName?: string; readonly serviceAccountName?: string };
  readonly status?: { readonly phase?: string };
}

/** Why a request is refused; for logs, not for the caller. */
export const REFUSAL_REASONS = [
  'not a node proxy',
  'malformed identity',
  'foreign trust domain',
  'token names no pod',
  'caller pod unknown',
  'no such pod on the node',
] as const;

/** One of {@link REFUSAL_REASONS}. */
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

/** The identity to put into the certificate, or why there is none. */
export type IdentityDecision =
  | { readonly isAllowed: true; readonly identity: string }
  | { readonly isAllowed: false; readonly reason: RefusalReason };

/** What is known when a certificate is asked for. */
export interface IdentityQuestion {
  readonly caller: TokenIdentity;
  /** SPIFFE id asked for on behalf of a workload; undefined for the caller's own. */
  readonly impersonated: string | undefined;
  readonly trustDomain: string;
  /** `namespace/serviceAccount` of node proxies. */
  readonly nodeAccounts: readonly string[];
  /** By `namespace/name`. */
  readonly pods: ReadonlyMap<string, PlacedPod>;
}

/** Decides. */
export function decideIdentity(question: IdentityQuestion): IdentityDecision {
  const { caller, impersonated, trustDomain } = question;
  if (impersonated === undefined || impersonated === '') {
    const { namespace, serviceAccount } = caller;
    return {
      isAllowed: true,
      identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }),
    };
  }
  const account = `${caller.namespace}/${caller.serviceAccount}`;
  if (!question.nodeAccounts.includes(account)) return refuse('not a node proxy');
  const wanted = parseSpiffeId(impersonated);
  if (wanted === undefined) return refuse('malformed identity');
  if (wanted.trustDomain !== trustDomain) return refuse('foreign trust domain');
  if (caller.podName === undefined || caller.podUid === undefined) {
    return refuse('token names no pod');
  }
  const own = question.pods.get(`${caller.namespace}/${caller.podName}`);
  const node = own?.spec?.nodeName;
  if (own?.metadata?.uid !== caller.podUid || node === undefined || !runsAs(own, caller)) {
    return refuse('caller pod unknown');
  }
  for (const pod of question.pods.values()) {
    if (pod.spec?.nodeName === node && pod.status?.phase !== 'Failed' && runsAs(pod, wanted)) {
      return { isAllowed: true, identity: impersonated };
    }
  }
  return refuse('no such pod on the node');
}

function runsAs(
  pod: PlacedPod,
  account: { readonly namespace: string; readonly serviceAccount: string },
): boolean {
  return (
    pod.metadata?.namespace === account.namespace &&
    (pod.spec?.serviceAccountName ?? 'default') === account.serviceAccount
  );
}

function refuse(reason: RefusalReason): IdentityDecision {
  return { isAllowed: false, reason };
}
