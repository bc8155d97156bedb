// The HTTPS front: authentication, routing, errors as Status objects, upgrades. One handler serves all listeners.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Logger } from '../../../common/telemetry/logger.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { reviewAccess, reviewRules, reviewSelf, reviewToken } from '../auth/reviews.ts';
import { StatusError, unknownPath } from '../status-error.ts';
import { Discovery, REVIEWS, sendVersion } from './discovery.ts';
import { readObject, sendJson, sendText } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { rawFailure } from './kubelet-proxy.ts';
import { OpenApi } from './openapi.ts';
import { requireObject } from './read.ts';
import { parseResourcePath } from './request-path.ts';
import type { ResourcePath } from './request-path.ts';
import { handleResource, isStreaming } from './resource-handler.ts';
import type { ResourceContext } from './resource-handler.ts';

const HEALTH = new Set(['/healthz', '/livez', '/readyz']);

export interface ServerContext extends ResourceContext {
  readonly authenticator: Authenticator;
  readonly log: Logger;
}

/** Answers requests and upgrades. */
export class ApiHandler {
  readonly #context: ServerContext;
  readonly #discovery: Discovery;
  readonly #openApi: OpenApi;

  constructor(context: ServerContext) {
    this.#context = context;
    this.#discovery = new Discovery(context.registry);
    this.#openApi = new OpenApi(context.registry);
  }

  /** For `request` events. */
  request(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => response.destroy());
    this.#answer(request, response).catch((err: unknown) => {
      const error = this.#statusOf(err, request);
      if (response.headersSent) {
        response.destroy();
        return;
      }
      response.writeHead(error.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(error.toStatus()));
    });
  }

  /** For `upgrade` events. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    try {
      this.#context.authenticator.authenticate(request);
      const url = urlOf(request);
      const path = parseResourcePath(url.pathname);
      if (path?.name === undefined || !isStreaming(path)) throw unknownPath();
      const resource = this.#context.registry.find('', path.version, 'pods');
      if (resource === undefined) throw unknownPath();
      const { store } = this.#context.lifecycle;
      const pod = requireObject(store, resource, { namespace: path.namespace, name: path.name });
      const to = { pod, subresource: path.subresource ?? '', query: url.searchParams };
      this.#context.kubelets.upgrade(request, socket, head, to);
    } catch (err) {
      socket.end(rawFailure(this.#statusOf(err, request)));
    }
  }

  #statusOf(err: unknown, request: IncomingMessage): StatusError {
    if (err instanceof StatusError) return err;
    this.#context.log.error({ err, method: request.method, url: request.url }, 'request failed');
    const message = err instanceof Error ? err.message : String(err);
    return new StatusError(500, 'InternalError', `Internal error occurred: ${message}`);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = urlOf(request);
    const method = request.method ?? 'GET';
    if (HEALTH.has(url.pathname)) {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('ok');
      return;
    }
    const user = this.#context.authenticator.authenticate(request);
    const exchange: Exchange = {
      request,
      response,
      url,
      query: url.searchParams,
      method,
      user,
      warnings: [],
    };
    const path = parseResourcePath(url.pathname);
    if (path === undefined) this.#answerOther(exchange);
    else if (isReview(path)) await this.#review(exchange, path);
    else await handleResource(this.#context, exchange, path);
  }

  #answerOther(exchange: Exchange): void {
    const { pathname } = exchange.url;
    const { tokens } = this.#context;
    if (/^\/apis?(\/|$)/.test(pathname)) this.#discovery.handle(exchange);
    else if (pathname === '/version') sendVersion(exchange);
    else if (/^\/openapi\/v3(\/|$)/.test(pathname)) this.#openApi.handle(exchange);
    else if (pathname === '/openid/v1/jwks') sendJson(exchange, 200, tokens.jwks());
    else if (pathname === '/.well-known/openid-configuration') {
      sendJson(exchange, 200, {
        issuer: tokens.issuer,
        jwks_uri: `${tokens.issuer}/openid/v1/jwks`,
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
      });
    } else if (pathname === '/') {
      sendText(
        exchange,
        200,
        JSON.stringify({ paths: ['/api', '/apis', '/openapi/v3', '/version'] }),
      );
    } else throw unknownPath();
  }

  async #review(exchange: Exchange, path: ResourcePath): Promise<void> {
    if (exchange.method !== 'POST') {
      throw new StatusError(405, 'MethodNotAllowed', 'reviews are only created');
    }
    const body = await readObject(exchange.request);
    const { tokens, lifecycle } = this.#context;
    switch (path.resource) {
      case 'tokenreviews':
        sendJson(exchange, 201, reviewToken(tokens, body));
        return;
      case 'selfsubjectreviews':
        sendJson(exchange, 201, reviewSelf(exchange.user, lifecycle.now()));
        return;
      case 'selfsubjectrulesreviews':
        sendJson(exchange, 201, reviewRules(body));
        return;
      default:
        sendJson(exchange, 201, reviewAccess(body));
    }
  }
}

const isReview = (path: ResourcePath): boolean =>
  REVIEWS.some(
    ([group, version, resource]) =>
      group === path.group && version === path.version && resource === path.resource,
  );

function urlOf(request: IncomingMessage): URL {
  const target = request.url ?? '/';
  return URL.canParse(target, 'https://api')
    ? new URL(target, 'https://api')
    : new URL('https://api/');
}
