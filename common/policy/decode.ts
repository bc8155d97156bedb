// Decodes Istio's `istio.security.Authorization`. A policy with anything that is not understood (an unknown enum,
// a bad CIDR, an empty string match) is refused as a whole: dropping a part could make an ALLOW wider.
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '../errors.ts';
import { Action, AuthorizationSchema, Scope } from './gen/authorization_pb.ts';
import type * as pb from './gen/authorization_pb.ts';
import type { Cidr, Policy, PolicyMatch, StringMatch } from './model.ts';

export const AUTHORIZATION_TYPE_URL = 'type.googleapis.com/istio.security.Authorization';

const SCOPES: Readonly<Record<number, Policy['scope']>> = {
  [Scope.GLOBAL]: 'GLOBAL',
  [Scope.NAMESPACE]: 'NAMESPACE',
  [Scope.WORKLOAD_SELECTOR]: 'WORKLOAD_SELECTOR',
};
const ACTIONS: Readonly<Record<number, Policy['action']>> = {
  [Action.ALLOW]: 'ALLOW',
  [Action.DENY]: 'DENY',
};

/** Decodes one policy; `key` is the resource's name. Throws `MeshError('bad_resource')`. */
export function decodeAuthorization(bytes: Uint8Array, key: string): Policy {
  let source: pb.Authorization;
  try {
    source = fromBinary(AuthorizationSchema, bytes);
  } catch (err) {
    throw new MeshError('bad_resource', 'not an istio.security.Authorization', { cause: err });
  }
  const scope = SCOPES[source.scope];
  const action = ACTIONS[source.action];
  if (scope === undefined) throw bad(`unknown scope ${source.scope}`);
  if (action === undefined) throw bad(`unknown action ${source.action}`);
  return {
    key,
    name: source.name,
    namespace: source.namespace,
    scope,
    action,
    isDryRun: source.dryRun,
    rules: source.rules.map(({ clauses }) => clauses.map(({ matches }) => matches.map(toMatch))),
  };
}

function bad(reason: string): MeshError {
  return new MeshError('bad_resource', reason);
}

function toMatch(source: pb.Match): PolicyMatch {
  return {
    namespaces: source.namespaces.map(toStringMatch),
    notNamespaces: source.notNamespaces.map(toStringMatch),
    serviceAccounts: source.serviceAccounts.map(toAccount),
    notServiceAccounts: source.notServiceAccounts.map(toAccount),
    principals: source.principals.map(toStringMatch),
    notPrincipals: source.notPrincipals.map(toStringMatch),
    sourceIps: source.sourceIps.map(toCidr),
    notSourceIps: source.notSourceIps.map(toCidr),
    destinationIps: source.destinationIps.map(toCidr),
    notDestinationIps: source.notDestinationIps.map(toCidr),
    destinationPorts: source.destinationPorts,
    notDestinationPorts: source.notDestinationPorts,
  };
}

function toAccount(source: pb.ServiceAccountMatch): PolicyMatch['serviceAccounts'][number] {
  return { namespace: source.namespace, serviceAccount: source.serviceAccount };
}

function toStringMatch(source: pb.StringMatch): StringMatch {
  const { matchType } = source;
  switch (matchType.case) {
    case 'exact':
    case 'prefix':
    case 'suffix':
      return { kind: matchType.case, value: matchType.value };
    case 'presence':
      return { kind: 'presence' };
    case undefined:
      throw bad('string match without a kind');
  }
}

function toCidr(source: pb.Address): Cidr {
  const { address, length } = source;
  if ((address.length !== 4 && address.length !== 16) || length > address.length * 8) {
    throw bad(`cidr of ${address.length} bytes with prefix length ${length}`);
  }
  // A copy: the decoded bytes alias the whole push.
  return { bytes: Uint8Array.from(address), length };
}
