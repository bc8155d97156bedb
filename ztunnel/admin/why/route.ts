// GET /debug/why?src=&dst=: see explain.ts.
import { errorMessage, MeshError } from '../../../common/errors.ts';
import type { SecretManager } from '../../../common/identity/secret-manager.ts';
import type { EndpointAnswer } from '../../../common/telemetry/http-endpoint.ts';
import type { AdminRoute } from '../../../common/telemetry/proxy-endpoints.ts';
import type { Config } from '../../config.ts';
import type { PodState } from '../../inpod/zds-session.ts';
import type { MeshModel } from '../../state/model.ts';
import { explain } from './explain.ts';

/** Where the route looks. */
export interface WhyParts {
  readonly model: Pick<MeshModel, 'store' | 'policies'>;
  readonly secrets: Pick<SecretManager, 'states'>;
  readonly registry: { states(): PodState[] };
  readonly config: Pick<Config, 'network' | 'isNodeLocal' | 'isSocks5'>;
}

/** The route. */
export function whyRoute(parts: WhyParts): AdminRoute {
  return {
    help: 'what would become of a connection, step by step: ?src=namespace/pod|address&dst=address|host|namespace/pod:port',
    handle: (_request, url) => {
      const src = url.searchParams.get('src');
      const dst = url.searchParams.get('dst');
      if (src === null || dst === null) return json(400, { error: 'src and dst are required' });
      try {
        return json(200, explain(sourcesOf(parts), src, dst));
      } catch (err) {
        if (err instanceof MeshError && err.code === 'why_query') {
          return json(400, { error: errorMessage(err) });
        }
        throw err;
      }
    },
  };
}

function sourcesOf({ model, secrets, registry, config }: WhyParts): Parameters<typeof explain>[0] {
  return {
    store: model.store,
    policies: model.policies,
    network: config.network,
    isNodeLocal: config.isNodeLocal,
    isSocks5: config.isSocks5,
    podState: (namespace, name) =>
      registry.states().find(({ pod }) => pod.namespace === namespace && pod.name === name)?.state,
    certificateState: (identity) => {
      const found = secrets.states().find((one) => one.identity === identity);
      if (found === undefined) return undefined;
      if (found.certificate !== undefined) return 'Available';
      return found.error === undefined ? 'Initializing' : `Unavailable: ${found.error}`;
    },
  };
}

function json(status: number, body: object): EndpointAnswer {
  return { status, type: 'application/json', body: `${JSON.stringify(body, undefined, 2)}\n` };
}
