// Which chains revocation lists end at a handshake, by Istio's rules. Certificates by the openssl command, clients of
// node:tls. Files, reloads and established connections: test/cluster/revocation.test.ts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import tls from 'node:tls';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { startTls } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import type { TlsMaterial } from '../../../engine/tls/types.ts';
import { revocationList } from '../../support/revocation-list.ts';
import { TestAuthority, spiffe } from './certificates.ts';
import { startReactor, until } from './support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
after(() => {
  authority.remove();
  reactor.close();
});

const read = (name: string): string => readFileSync(authority.path(name), 'utf8');
const own = authority.issue('own', spiffe('own'));
const direct = authority.issue('direct', spiffe('client'));
const other = authority.issue('other', spiffe('client'));
const far = authority.issueByIntermediate('far', spiffe('client'));
const root = { certPem: authority.rootsPem, keyPem: read('ca.key') };
const intermediate = { certPem: read('far-ca.pem'), keyPem: read('far-ca.key') };
const DAY_MS = 86_400_000;

/** Whether a server with these lists takes this client. */
async function isTaken(client: TlsMaterial, crlPem: string): Promise<boolean> {
  const context = TlsContext.server(own, { crlPem });
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  let result: boolean | undefined;
  const listener = new TcpListener(reactor, bound.fd, (tcp) => {
    startTls(tcp, context).then(
      (connection) => {
        result = true;
        connection.reset();
      },
      () => (result = false),
    );
  });
  const socket = tls.connect({
    ...{ host: '127.0.0.1', port: bound.port, ca: authority.rootsPem, ALPNProtocols: ['h2'] },
    ...{ cert: client.certChainPem, key: client.privateKeyPem },
    checkServerIdentity: () => undefined,
  });
  socket.on('error', () => undefined);
  await until(() => result !== undefined, 'a verdict');
  socket.destroy();
  listener.close();
  context.close();
  return result === true;
}

describe('revocation lists', () => {
  const rows: readonly [claim: string, client: TlsMaterial, lists: string, isTaken: boolean][] = [
    [
      'a leaf that is on the list of its issuer',
      direct,
      revocationList(root, [direct.certChainPem]),
      false,
    ],
    ['a leaf that is not', other, revocationList(root, [direct.certChainPem]), true],
    [
      'an intermediate on the root’s list',
      far,
      revocationList(root, [intermediate.certPem]),
      false,
    ],
    [
      'a leaf on its intermediate’s list',
      far,
      revocationList(intermediate, [far.certChainPem]),
      false,
    ],
    ['an issuer that has no list', far, revocationList(root, [direct.certChainPem]), true],
    [
      'a list past its time that names it',
      direct,
      revocationList(root, [direct.certChainPem], DAY_MS),
      false,
    ],
    [
      'a list past its time that does not',
      other,
      revocationList(root, [direct.certChainPem], DAY_MS),
      true,
    ],
    [
      'our own certificate: that is for others to judge',
      other,
      revocationList(root, [own.certChainPem]),
      true,
    ],
  ];
  for (const [claim, client, lists, expected] of rows) {
    it(`${expected ? 'pass' : 'refuse'} ${claim}`, async () => {
      assert.equal(await isTaken(client, lists), expected);
    });
  }
});
