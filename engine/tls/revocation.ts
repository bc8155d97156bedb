// Certificate revocation lists (RFC 5280 section 5) in a context's trust store, with the rules of Istio's ztunnel: the
// whole chain is checked; where no list is known for an issuer, and where a list is past its time, the check passes.
import {
  ERR_clear_error,
  PEM_read_bio_X509_CRL,
  SSL_CTX_get_cert_store,
  SSL_get1_peer_certificate,
  SSL_get_peer_cert_chain,
  X509_CRL_free,
  X509_STORE_CTX_free,
  X509_STORE_CTX_get_error,
  X509_STORE_CTX_init,
  X509_STORE_CTX_new,
  X509_STORE_CTX_set_error,
  X509_STORE_CTX_set_flags,
  X509_STORE_add_crl,
  X509_STORE_set_flags,
  X509_STORE_set_verify_cb,
  X509_V_ERR_CERT_REVOKED,
  X509_V_ERR_CRL_HAS_EXPIRED,
  X509_V_ERR_CRL_NOT_YET_VALID,
  X509_V_ERR_UNABLE_TO_GET_CRL,
  X509_V_FLAG_CRL_CHECK,
  X509_V_FLAG_CRL_CHECK_ALL,
  X509_V_FLAG_NO_CHECK_TIME,
  X509_V_OK,
  X509_free,
  X509_verify_cert,
  registerVerifyCallback,
} from '../native/openssl.ts';
import { readPem } from './pem.ts';

const TOLERATED: ReadonlySet<number> = new Set([
  X509_V_ERR_UNABLE_TO_GET_CRL,
  X509_V_ERR_CRL_NOT_YET_VALID,
  X509_V_ERR_CRL_HAS_EXPIRED,
]);

let callback: bigint | undefined;

/** Called by OpenSSL for each certificate and problem of a chain. A throw would look like success. */
function judge(ok: number, ctx: number): number {
  if (ok !== 0) return 1;
  if (!TOLERATED.has(X509_STORE_CTX_get_error(ctx))) return 0;
  X509_STORE_CTX_set_error(ctx, X509_V_OK);
  return 1;
}

/** Number of lists in a PEM text that OpenSSL can read. */
export function countRevocationLists(pem: string): number {
  const lists = readPem(pem, PEM_read_bio_X509_CRL);
  for (const list of lists) X509_CRL_free(list);
  return lists.length;
}

/** Makes a trust store check the lists of a PEM text. */
export function addRevocations(store: number, pem: string): void {
  for (const list of readPem(pem, PEM_read_bio_X509_CRL)) {
    X509_STORE_add_crl(store, list);
    X509_CRL_free(list);
  }
  ERR_clear_error();
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  callback ??= registerVerifyCallback(judge);
  X509_STORE_set_verify_cb(store, callback);
}

/** Whether a context's lists revoke the chain that an established connection's peer has shown, whatever the time is. */
export function isPeerRevoked(ssl: number, contextPointer: number): boolean {
  const leaf = SSL_get1_peer_certificate(ssl);
  if (leaf === 0) return false;
  const ctx = X509_STORE_CTX_new();
  ERR_clear_error();
  X509_STORE_CTX_init(
    ctx,
    SSL_CTX_get_cert_store(contextPointer),
    leaf,
    SSL_get_peer_cert_chain(ssl),
  );
  X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_NO_CHECK_TIME);
  const isGood = X509_verify_cert(ctx) === 1;
  const isRevoked = !isGood && X509_STORE_CTX_get_error(ctx) === X509_V_ERR_CERT_REVOKED;
  X509_STORE_CTX_free(ctx);
  X509_free(leaf);
  ERR_clear_error();
  return isRevoked;
}
