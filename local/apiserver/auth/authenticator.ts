// Who is asking: the administrator's token from the kubeconfig, or a service account's token signed here. There are
// no rights: everyone who is known may do everything (RBAC objects are stored, not enforced).
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { unauthorized } from '../status-error.ts';
import type { TokenSigner } from './tokens.ts';
import type { User } from './user.ts';

const ADMIN: User = {
  username: 'kubernetes-admin',
  groups: ['system:masters', 'system:authenticated'],
};

/** Checks bearer tokens. */
export class Authenticator {
  readonly #adminToken: Buffer;
  readonly #tokens: TokenSigner;

  constructor(adminToken: string, tokens: TokenSigner) {
    this.#adminToken = Buffer.from(adminToken);
    this.#tokens = tokens;
  }

  /** The user behind a request; throws 401. */
  authenticate(request: IncomingMessage): User {
    const token = bearerOf(request);
    const given = Buffer.from(token);
    if (given.length === this.#adminToken.length && timingSafeEqual(given, this.#adminToken)) {
      return ADMIN;
    }
    const review = this.#tokens.review(token, [this.#tokens.issuer]);
    if (review.user === undefined) throw unauthorized();
    return review.user;
  }
}

function bearerOf(request: IncomingMessage): string {
  const header = request.headers.authorization ?? '';
  if (header.startsWith('Bearer ')) return header.slice('Bearer '.length).trim();
  // Browsers cannot set headers on a WebSocket, so its token comes as a subprotocol.
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',');
  const prefix = 'base64url.bearer.authorization.k8s.io.';
  const found = protocols.map((name) => name.trim()).find((name) => name.startsWith(prefix));
  if (found === undefined) throw unauthorized();
  return Buffer.from(found.slice(prefix.length), 'base64url').toString();
}
