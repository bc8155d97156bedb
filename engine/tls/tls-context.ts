// TLS contexts: one identity and its roots, built from PEM in memory. Policy as Istio's ztunnel has it: TLS 1.3,
// AES-GCM, ALPN, mutual authentication, no resumption (a resumed session would outlive the verification).
import { free, malloc } from '../native/libc.ts';
import { copyOut, reserve, scratch } from '../native/memory.ts';
import {
  ERR_clear_error,
  EVP_PKEY_free,
  OPENSSL_NPN_NEGOTIATED,
  PEM_read_bio_PrivateKey,
  PEM_read_bio_X509,
  SSL_CTRL_CHAIN_CERT,
  SSL_CTRL_MODE,
  SSL_CTRL_SET_GROUPS_LIST,
  SSL_CTRL_SET_MIN_PROTO_VERSION,
  SSL_CTRL_SET_READ_AHEAD,
  SSL_CTRL_SET_SESS_CACHE_MODE,
  SSL_CTX_check_private_key,
  SSL_CTX_ctrl,
  SSL_CTX_free,
  SSL_CTX_get_cert_store,
  SSL_CTX_new,
  SSL_CTX_set_alpn_protos,
  SSL_CTX_set_alpn_select_cb,
  SSL_CTX_set_cipher_list,
  SSL_CTX_set_ciphersuites,
  SSL_CTX_set_default_read_buffer_len,
  SSL_CTX_set_num_tickets,
  SSL_CTX_set_options,
  SSL_CTX_set_verify,
  SSL_CTX_set_verify_depth,
  SSL_CTX_use_PrivateKey,
  SSL_CTX_use_certificate,
  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
  SSL_MODE_NO_AUTO_CHAIN,
  SSL_MODE_RELEASE_BUFFERS,
  SSL_OP_NO_RENEGOTIATION,
  SSL_OP_NO_RX_CERTIFICATE_COMPRESSION,
  SSL_OP_NO_TICKET,
  SSL_OP_NO_TX_CERTIFICATE_COMPRESSION,
  SSL_TLSEXT_ERR_ALERT_FATAL,
  SSL_TLSEXT_ERR_OK,
  SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
  SSL_VERIFY_NONE,
  SSL_VERIFY_PEER,
  SSL_select_next_proto,
  TLS1_2_VERSION,
  TLS1_3_VERSION,
  TLS_client_method,
  TLS_server_method,
  X509_STORE_add_cert,
  X509_STORE_set_flags,
  X509_V_FLAG_PARTIAL_CHAIN,
  X509_free,
  registerAlpnCallback,
  takeErrorText,
} from '../native/openssl.ts';
import { readPem } from './pem.ts';
import { addRevocations } from './revocation.ts';
import { StreamError } from '../reactor/stream-error.ts';
import type { TlsMaterial } from './types.ts';

const SUITES_13 = 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';
const SUITES_12 =
  'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:' +
  'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256';
// X25519 first: it is the only key share sent, the others cost a round trip but are there.
const GROUPS = 'X25519:P-256:P-384:X25519MLKEM768';
// One read(2) fetches about four full records.
const READ_BUFFER_BYTES = 70_000;
const VERIFY_DEPTH = 8;

/** Deviations from the default policy. */
export interface TlsContextOptions {
  /** Protocols offered or accepted, in order of preference. Default `['h2']`; empty sends none. */
  readonly alpn?: readonly string[];
  /** Accept TLS 1.2 too (TLS12_ENABLED, and TLS origination to ordinary servers). */
  readonly allowTls12?: boolean;
  /** Key exchanges in OpenSSL's names, the first is offered at once. Default {@link GROUPS}. */
  readonly groups?: string;
  /** CRLs in PEM, may be empty; the whole chain is checked against them. See revocation.ts. */
  readonly crlPem?: string;
  /** Ask for no client certificate (servers), or accept any server (clients). */
  readonly insecureSkipVerify?: boolean;
}

/** What a context without an identity (plain TLS origination) is made of. */
export type TlsTrust = Pick<TlsMaterial, 'rootsPem'>;

// ALPN lists of this thread's server contexts, by the number passed as callback argument. C keeps no copy.
const serverLists = new Map<number, { address: number; length: number }>();
let nextListId = 1;
let alpnCallback: bigint | undefined;
const alpnOffset = reserve(256);
const groupsOffset = reserve(128);

function selectAlpn(out: number, outLength: number, list: number, length: number): number {
  // One list a thread would do for HBONE; several contexts with different lists share it by id.
  const own = serverLists.get(activeListId);
  if (own === undefined) return SSL_TLSEXT_ERR_ALERT_FATAL;
  const found = SSL_select_next_proto(out, outLength, own.address, own.length, list, length);
  return found === OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// The context whose connection is in a handshake call now; everything is synchronous.
let activeListId = 0;

/** Tells the ALPN callback whose handshake runs. Called by TlsConnection before each handshake step. */
export function enterHandshake(context: TlsContext): void {
  activeListId = context.listId;
}

/** An identity ready for connections of this thread. Connections hold what they need of it after `close`. */
export class TlsContext {
  readonly isServer: boolean;
  /** SSL_CTX pointer; 0 once closed. */
  pointer: number;
  readonly listId: number;

  private constructor(pointer: number, isServer: boolean) {
    this.pointer = pointer;
    this.isServer = isServer;
    this.listId = nextListId++;
  }

  /** Server: demands a client certificate that chains to the roots. Throws StreamError(tls). */
  static server(material: TlsMaterial, options: TlsContextOptions = {}): TlsContext {
    return TlsContext.#build(true, material, options);
  }

  /** Client: shows the certificate, verifies the server's chain; names are checked by `verifyPeer`. */
  static client(material: TlsMaterial | TlsTrust, options: TlsContextOptions = {}): TlsContext {
    return TlsContext.#build(false, material, options);
  }

  static #build(
    isServer: boolean,
    material: TlsMaterial | TlsTrust,
    options: TlsContextOptions,
  ): TlsContext {
    ERR_clear_error();
    const pointer = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method());
    if (pointer === 0) throw tlsError('new context');
    const context = new TlsContext(pointer, isServer);
    try {
      context.#setPolicy(options);
      context.#setTrust(material.rootsPem, options);
      if ('privateKeyPem' in material) context.#setIdentity(material);
      context.#setAlpn(options.alpn ?? ['h2']);
    } catch (err) {
      context.close();
      throw err;
    }
    return context;
  }

  #setPolicy(options: TlsContextOptions): void {
    const ctx = this.pointer;
    const version = options.allowTls12 === true ? TLS1_2_VERSION : TLS1_3_VERSION;
    check(SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, version, 0), 'protocol version');
    check(SSL_CTX_set_ciphersuites(ctx, SUITES_13), 'cipher suites');
    if (options.allowTls12 === true) check(SSL_CTX_set_cipher_list(ctx, SUITES_12), 'ciphers');
    scratch.bytes.write(`${options.groups ?? GROUPS}\0`, groupsOffset, 'latin1');
    check(SSL_CTX_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, scratch.address + groupsOffset), 'groups');
    // What is sent is the chain we were given: OpenSSL would complete a lone leaf with the root.
    const mode =
      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN;
    SSL_CTX_ctrl(ctx, SSL_CTRL_MODE, mode, 0);
    SSL_CTX_ctrl(ctx, SSL_CTRL_SET_READ_AHEAD, 1, 0);
    SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, 0, 0);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_BYTES);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    // Brotli at its best level costs more than the rest of the handshake, and saves a hundred bytes.
    SSL_CTX_set_options(ctx, SSL_OP_NO_TX_CERTIFICATE_COMPRESSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
  }

  #setTrust(rootsPem: string, options: TlsContextOptions): void {
    const store = SSL_CTX_get_cert_store(this.pointer);
    const roots = readPem(rootsPem, PEM_read_bio_X509);
    for (const root of roots) {
      X509_STORE_add_cert(store, root);
      X509_free(root);
    }
    ERR_clear_error();
    const skip = options.insecureSkipVerify === true;
    if (roots.length === 0 && !skip) throw new StreamError('tls', 'no root certificate');
    // A root in the list is trusted even if it is not self-signed, as in other TLS stacks.
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    if (options.crlPem !== undefined) addRevocations(store, options.crlPem);
    SSL_CTX_set_verify_depth(this.pointer, VERIFY_DEPTH);
    const mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(this.pointer, skip ? SSL_VERIFY_NONE : mode, 0);
  }

  #setIdentity(material: TlsMaterial): void {
    const [leaf, ...rest] = readPem(material.certChainPem, PEM_read_bio_X509);
    if (leaf === undefined) throw new StreamError('tls', 'no certificate in the chain');
    const used = SSL_CTX_use_certificate(this.pointer, leaf);
    X509_free(leaf);
    for (const cert of rest) {
      SSL_CTX_ctrl(this.pointer, SSL_CTRL_CHAIN_CERT, 1, cert);
      X509_free(cert);
    }
    check(used, 'certificate');
    const [key] = readPem(material.privateKeyPem, PEM_read_bio_PrivateKey, 1);
    if (key === undefined) throw new StreamError('tls', 'no private key');
    const keyUsed = SSL_CTX_use_PrivateKey(this.pointer, key);
    EVP_PKEY_free(key);
    check(keyUsed, 'private key');
    check(SSL_CTX_check_private_key(this.pointer), 'private key does not match');
  }

  #setAlpn(protocols: readonly string[]): void {
    if (protocols.length === 0) return;
    const list = Buffer.concat(
      protocols.map((name) => Buffer.from([name.length, ...Buffer.from(name, 'latin1')])),
    );
    if (list.length > 255) throw new StreamError('tls', 'alpn list too long');
    if (!this.isServer) {
      scratch.bytes.set(list, alpnOffset);
      // Returns 0 on success, unlike everything else.
      if (SSL_CTX_set_alpn_protos(this.pointer, scratch.address + alpnOffset, list.length) !== 0) {
        throw tlsError('alpn');
      }
      return;
    }
    const address = malloc(list.length);
    copyOut(list, address);
    serverLists.set(this.listId, { address, length: list.length });
    alpnCallback ??= registerAlpnCallback((_ssl, out, outLength, offered, length) => {
      try {
        return selectAlpn(out, outLength, offered, length);
      } catch {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
      }
    });
    SSL_CTX_set_alpn_select_cb(this.pointer, alpnCallback, 0);
  }

  /**
   * No new connections. Established ones go on; a handshake in progress on a server context fails, so close a
   * replaced context only after the handshake timeout.
   */
  close(): void {
    if (this.pointer === 0) return;
    SSL_CTX_free(this.pointer);
    this.pointer = 0;
    const list = serverLists.get(this.listId);
    if (list !== undefined) free(list.address);
    serverLists.delete(this.listId);
  }
}

function check(result: number, what: string): void {
  if (result <= 0) throw tlsError(what);
}

function tlsError(what: string): StreamError {
  return new StreamError('tls', `${what}: ${takeErrorText()}`);
}
