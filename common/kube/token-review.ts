// Asks the API server who a bearer token belongs to (TokenReview). Good answers are kept for a short time, so that
// a node proxy that asks for a hundred certificates costs one review; bad ones are never kept.
import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { KubeClient } from './client.ts';
import { KINDS, collectionPath } from './resource.ts';

/** A service account's identity as its token proves it. */
export interface TokenIdentity {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The pod the token is bound to. */
  readonly podName?: string;
  readonly podUid?: string;
}

interface ReviewAnswer {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly audiences?: readonly string[];
    readonly error?: string;
    readonly user?: {
      readonly username?: string;
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
  };
}

const KEEP_MS = 20_000;
const MAX_KEPT = 4096;
const MAX_TOKEN_LENGTH = 16_384;
const USERNAME = /^system:serviceaccount:([^:]+):([^:]+)$/;
const POD_NAME = 'authentication.kubernetes.io/pod-name';
const POD_UID = 'authentication.kubernetes.io/pod-uid';

/** Reviews tokens for one audience. */
export class TokenReviewer {
  readonly #client: KubeClient;
  readonly #audience: string;
  readonly #clock: Clock;
  /** By SHA-256 of the token, oldest first: a heap dump must not hold tokens. */
  readonly #kept = new Map<
    string,
    { readonly identity: TokenIdentity; readonly untilMs: number }
  >();

  constructor(client: KubeClient, audience: string, clock: Clock) {
    this.#client = client;
    this.#audience = audience;
    this.#clock = clock;
  }

  /** The identity; undefined when the token is not good. Rejects when the API cannot be asked. */
  async review(token: string): Promise<TokenIdentity | undefined> {
    if (token === '' || token.length > MAX_TOKEN_LENGTH) return undefined;
    const key = createHash('sha256').update(token).digest('base64');
    const known = this.#kept.get(key);
    if (known !== undefined && known.untilMs > this.#clock.now()) return known.identity;
    this.#kept.delete(key);
    const answer = await this.#client.json<ReviewAnswer>({
      method: 'POST',
      path: collectionPath(KINDS.tokenReviews),
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [this.#audience] },
      },
    });
    const identity = identityOf(answer, this.#audience);
    if (identity !== undefined) this.#keep(key, identity);
    return identity;
  }

  #keep(key: string, identity: TokenIdentity): void {
    const oldest = this.#kept.keys().next().value;
    if (this.#kept.size >= MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(key, { identity, untilMs: this.#clock.now() + KEEP_MS });
  }
}

function identityOf({ status }: ReviewAnswer, audience: string): TokenIdentity | undefined {
  // A server that ignores audiences leaves the list empty; such a token proves nothing here.
  if (status?.authenticated !== true || status.audiences?.includes(audience) !== true) {
    return undefined;
  }
  const match = USERNAME.exec(status.user?.username ?? '');
  const [, namespace, serviceAccount] = match ?? [];
  if (namespace === undefined || serviceAccount === undefined) return undefined;
  const podName = status.user?.extra?.[POD_NAME]?.[0];
  const podUid = status.user?.extra?.[POD_UID]?.[0];
  return {
    namespace,
    serviceAccount,
    ...(podName === undefined ? {} : { podName }),
    ...(podUid === undefined ? {} : { podUid }),
  };
}
