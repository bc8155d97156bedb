// Debug pages: what was compiled, who is connected and how far each proxy has confirmed.
import { toJson } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { CompileOutput } from '../common/compile/types.ts';
import {
  AuthorizationPolicySchema,
  ClusterSchema,
  ServiceRoutesSchema,
  SubsetMembersSchema,
} from '../common/l7/gen/l7_pb.ts';
import { AuthorizationSchema } from '../common/policy/gen/authorization_pb.ts';
import { AddressSchema } from '../common/workload/gen/workload_pb.ts';
import { jsonPage } from './http-server.ts';
import type { HttpServerOptions, Page } from './http-server.ts';
import type { ConnectedClient } from './serve/discovery.ts';

/** Where the pages read. */
export interface DebugSources {
  output(): CompileOutput | undefined;
  clients(): Iterable<ConnectedClient>;
  /** Settings without secrets. */
  settings(): unknown;
}

/** The pages under /debug. */
export function debugPages(sources: DebugSources): HttpServerOptions['pages'] {
  const withOutput = (build: (output: CompileOutput) => unknown) => (): Page => {
    const output = sources.output();
    return output === undefined
      ? { type: 'text/plain', body: 'nothing compiled yet\n', status: 503 }
      : jsonPage(build(output));
  };
  return {
    '/debug/ambientz': withOutput((output) => ({
      addresses: asJson(AddressSchema, output.addresses),
      authorizations: asJson(AuthorizationSchema, output.authorizations),
    })),
    '/debug/registryz': withOutput((output) => asJson(AddressSchema, output.addresses)),
    '/debug/configz': withOutput((output) =>
      [...output.waypoints].map(([gateway, config]) => ({
        gateway,
        serviceRoutes: asJson(ServiceRoutesSchema, config.serviceRoutes),
        clusters: asJson(ClusterSchema, config.clusters),
        subsetMembers: asJson(SubsetMembersSchema, config.subsetMembers),
        authorizationPolicies: asJson(AuthorizationPolicySchema, config.authorizationPolicies),
      })),
    ),
    '/debug/verdicts': withOutput(({ verdicts, bindings }) => ({ verdicts, bindings })),
    '/debug/syncz': () =>
      jsonPage(
        [...sources.clients()].map(({ session, caller, peer, connectedAtMs }) => ({
          node: session.node?.id,
          serviceAccount: `${caller.namespace}/${caller.serviceAccount}`,
          peer,
          connectedAt: new Date(connectedAtMs).toISOString(),
          types: session.status(),
        })),
      ),
    '/debug/config': () => jsonPage(sources.settings()),
  };
}

function asJson<Desc extends DescMessage>(
  schema: Desc,
  messages: ReadonlyMap<string, MessageShape<Desc>>,
): Record<string, unknown> {
  return Object.fromEntries(
    [...messages].map(([name, message]) => [name, toJson(schema, message)]),
  );
}
