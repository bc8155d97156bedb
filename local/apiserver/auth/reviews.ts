// The requests about identity: TokenRequest, TokenReview, and the access reviews, which allow everything.
import type { Clock } from '../../../common/clock.ts';
import { dict, list, number, text, timestamp } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { badRequest, conflict, notFound } from '../status-error.ts';
import type { Store } from '../storage/store.ts';
import type { User } from './user.ts';
import type { TokenSigner } from './tokens.ts';

const MIN_LIFE_SEC = 600;
const MAX_LIFE_SEC = 24 * 3600;

const words = (value: unknown): string[] =>
  list(value).filter((item): item is string => typeof item === 'string' && item !== '');

/** Answers a TokenRequest for a service account. */
export function requestToken(
  context: { store: Store; tokens: TokenSigner; clock: Clock },
  account: KubeObject,
  body: Dict,
): Dict {
  const { store, tokens, clock } = context;
  const namespace = account.metadata.namespace ?? '';
  const spec = dict(body['spec']);
  const wanted = words(spec['audiences']);
  const audiences = wanted.length === 0 ? [tokens.issuer] : wanted;
  const asked = number(spec['expirationSeconds'], 3600);
  if (asked < MIN_LIFE_SEC) {
    throw badRequest(
      'spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes',
    );
  }
  const lifeSec = Math.min(asked, MAX_LIFE_SEC);
  const pod = boundPod(store, account, dict(spec['boundObjectRef']));
  const nodeName = text(dict(pod?.['spec'])['nodeName']);
  const node = nodeName === '' ? undefined : store.get(BUCKETS.nodes, undefined, nodeName);
  const subject = {
    namespace,
    account,
    ...(pod === undefined ? {} : { pod }),
    ...(node === undefined ? {} : { node }),
  };
  const token = tokens.issue(subject, audiences, lifeSec);
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: {
      name: account.metadata.name,
      namespace,
      creationTimestamp: timestamp(clock.now()),
    },
    spec: {
      ...spec,
      audiences,
      expirationSeconds: lifeSec,
      boundObjectRef: spec['boundObjectRef'] ?? null,
    },
    status: { token, expirationTimestamp: timestamp(clock.now() + lifeSec * 1000) },
  };
}

/** The pod a token is to be bound to; undefined when it is bound to nothing. */
function boundPod(store: Store, account: KubeObject, bound: Dict): KubeObject | undefined {
  if (bound['kind'] === undefined) return undefined;
  if (bound['kind'] !== 'Pod') {
    throw badRequest(`cannot bind token to object of type ${text(bound['kind'])}`);
  }
  const pods = { group: '', resource: 'pods' };
  const name = text(bound['name']);
  const pod = store.get(BUCKETS.pods, account.metadata.namespace, name);
  if (pod === undefined) throw notFound(pods, name);
  if (text(bound['uid']) !== '' && bound['uid'] !== pod.metadata.uid) {
    const why = 'the UID in the bound object reference does not match the UID in record';
    throw conflict(pods, name, why);
  }
  if (dict(pod['spec'])['serviceAccountName'] !== account.metadata.name) {
    throw badRequest(
      'cannot bind token for this service account to a pod running with a different one',
    );
  }
  return pod;
}

/** Answers a TokenReview. */
export function reviewToken(tokens: TokenSigner, body: Dict): Dict {
  const spec = dict(body['spec']);
  const wanted = words(spec['audiences']);
  const audiences = wanted.length === 0 ? [tokens.issuer] : wanted;
  const review = tokens.review(text(spec['token']), audiences);
  const status =
    review.user === undefined
      ? { user: {}, error: review.error }
      : { authenticated: true, user: review.user, audiences: review.audiences };
  return { ...body, metadata: {}, status };
}

/** Answers an access review: RBAC is not enforced here, so everything is allowed. */
export function reviewAccess(body: Dict): Dict {
  return { ...body, metadata: {}, status: { allowed: true } };
}

/** Answers a SelfSubjectReview (`kubectl auth whoami`). */
export function reviewSelf(user: User, now: string): Dict {
  return {
    kind: 'SelfSubjectReview',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { creationTimestamp: now },
    status: { userInfo: user },
  };
}

/** Answers a SelfSubjectRulesReview (`kubectl auth can-i --list`). */
export function reviewRules(body: Dict): Dict {
  const everything = ['*'];
  return {
    ...body,
    metadata: {},
    status: {
      resourceRules: [{ verbs: everything, apiGroups: everything, resources: everything }],
      nonResourceRules: [{ verbs: everything, nonResourceURLs: everything }],
      incomplete: false,
    },
  };
}
