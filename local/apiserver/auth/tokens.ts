// Service account tokens as Kubernetes issues them: JWTs (RFC 7519, ES256) with an audience, an expiry and the object
// they are bound to. A token is refused once its service account or pod is gone.
import { createHash, createPublicKey, randomUUID, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { Clock } from '../../../common/clock.ts';
import { dict, field, list, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { Store } from '../storage/store.ts';
import type { User } from './user.ts';

export const DEFAULT_ISSUER = 'https://kubernetes.default.svc.cluster.local';
const MAX_TOKEN_BYTES = 8192;

export interface TokenSubject {
  readonly namespace: string;
  readonly account: KubeObject;
  /** The object the token lives and dies with. */
  readonly pod?: KubeObject;
  readonly node?: KubeObject;
}

export interface Review {
  readonly user: User | undefined;
  readonly audiences: readonly string[];
  readonly error: string;
}

const refuse = (error: string): Review => ({ user: undefined, audiences: [], error });

const encodePart = (value: unknown): string =>
  Buffer.from(JSON.stringify(value)).toString('base64url');

/** Signs and reviews tokens with one P-256 key. */
export class TokenSigner {
  readonly issuer = DEFAULT_ISSUER;
  readonly #key: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #store: Store;
  readonly #clock: Clock;

  constructor(key: KeyObject, store: Store, clock: Clock) {
    this.#key = key;
    this.#publicKey = createPublicKey(key);
    const der = this.#publicKey.export({ type: 'spki', format: 'der' });
    this.#keyId = createHash('sha256').update(der).digest('base64url');
    this.#store = store;
    this.#clock = clock;
  }

  /** The key set that verifies tokens (RFC 7517). */
  jwks(): Dict {
    const jwk = this.#publicKey.export({ format: 'jwk' });
    return { keys: [{ ...jwk, use: 'sig', alg: 'ES256', kid: this.#keyId }] };
  }

  /** A token for an account. */
  issue(subject: TokenSubject, audiences: readonly string[], lifeSec: number): string {
    const now = Math.floor(this.#clock.now() / 1000);
    const { name, uid } = subject.account.metadata;
    const refer = (object: KubeObject | undefined): Dict | undefined =>
      object === undefined ? undefined : { name: object.metadata.name, uid: object.metadata.uid };
    const claims = {
      aud: audiences,
      exp: now + lifeSec,
      iat: now,
      iss: this.issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace: subject.namespace,
        serviceaccount: { name, uid },
        pod: refer(subject.pod),
        node: refer(subject.node),
      },
      nbf: now,
      sub: `system:serviceaccount:${subject.namespace}:${name}`,
    };
    const head = encodePart({ alg: 'ES256', kid: this.#keyId });
    const body = `${head}.${encodePart(claims)}`;
    const signature = sign('sha256', Buffer.from(body), {
      key: this.#key,
      dsaEncoding: 'ieee-p1363',
    });
    return `${body}.${signature.toString('base64url')}`;
  }

  /** Who a token is, if it is meant for one of the audiences. */
  review(token: string, audiences: readonly string[]): Review {
    const claims = this.#verified(token);
    if (claims === undefined) return refuse('invalid bearer token');
    const now = this.#clock.now() / 1000;
    if (!(Number(claims['exp']) > now)) return refuse('token has expired');
    if (Number(claims['nbf'] ?? 0) > now + 60) return refuse('token is not valid yet');
    const granted = list(claims['aud']).filter(
      (audience): audience is string =>
        typeof audience === 'string' && audiences.includes(audience),
    );
    if (granted.length === 0) {
      return refuse(
        `token audiences ${JSON.stringify(claims['aud'])} is invalid for the target audiences ${JSON.stringify(audiences)}`,
      );
    }
    return this.#bound(claims, granted);
  }

  /** The claims of a token this key signed. */
  #verified(token: string): Dict | undefined {
    const [head = '', body = '', signature = '', ...rest] = token.split('.');
    if (rest.length > 0 || signature === '' || token.length > MAX_TOKEN_BYTES) return undefined;
    const key = { key: this.#publicKey, dsaEncoding: 'ieee-p1363' as const };
    try {
      const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as unknown;
      if (field(header, 'alg') !== 'ES256') return undefined;
      const isGood = verify(
        'sha256',
        Buffer.from(`${head}.${body}`),
        key,
        Buffer.from(signature, 'base64url'),
      );
      if (!isGood) return undefined;
      return dict(JSON.parse(Buffer.from(body, 'base64url').toString()) as unknown);
    } catch {
      return undefined;
    }
  }

  #bound(claims: Dict, audiences: readonly string[]): Review {
    const bound = dict(claims['kubernetes.io']);
    const namespace = text(bound['namespace']);
    const accountName = text(field(bound, 'serviceaccount', 'name'));
    const accountUid = text(field(bound, 'serviceaccount', 'uid'));
    const account = this.#store.get(BUCKETS.serviceAccounts, namespace, accountName);
    if (account?.metadata.uid !== accountUid) {
      return refuse(`service account ${namespace}/${accountName} is gone`);
    }
    const podName = text(field(bound, 'pod', 'name'));
    const podUid = text(field(bound, 'pod', 'uid'));
    if (podName !== '') {
      const pod = this.#store.get(BUCKETS.pods, namespace, podName);
      if (pod?.metadata.uid !== podUid) return refuse(`pod ${namespace}/${podName} is gone`);
    }
    const user: User = {
      username: text(claims['sub']),
      uid: accountUid,
      groups: [
        'system:serviceaccounts',
        `system:serviceaccounts:${namespace}`,
        'system:authenticated',
      ],
      extra: {
        'authentication.kubernetes.io/credential-id': [`JTI=${text(claims['jti'])}`],
        ...(podName === ''
          ? {}
          : {
              'authentication.kubernetes.io/pod-name': [podName],
              'authentication.kubernetes.io/pod-uid': [podUid],
            }),
        ...this.#nodeExtra(bound),
      },
    };
    return { user, audiences, error: '' };
  }

  #nodeExtra(bound: Dict): Record<string, readonly string[]> {
    const name = text(field(bound, 'node', 'name'));
    if (name === '') return {};
    const extra: Record<string, readonly string[]> = {
      'authentication.kubernetes.io/node-name': [name],
    };
    const uid = text(field(bound, 'node', 'uid'));
    if (uid !== '') extra['authentication.kubernetes.io/node-uid'] = [uid];
    return extra;
  }
}
