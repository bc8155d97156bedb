// What a verified peer certificate says: its URI subject alternative names, in order.
import { readLatin1, reserve, scratch } from '../native/memory.ts';
import {
  ASN1_STRING_get0_data,
  ASN1_STRING_length,
  GENERAL_NAMES_free,
  GENERAL_NAME_get0_value,
  GEN_URI,
  NID_SUBJECT_ALT_NAME,
  OPENSSL_sk_num,
  OPENSSL_sk_value,
  SSL_get0_alpn_selected,
  SSL_get1_peer_certificate,
  X509_free,
  X509_get_ext_d2i,
} from '../native/openssl.ts';

const MAX_NAMES = 64;
const typeOffset = reserve(8);
const alpnOffset = reserve(16);

/** URI SANs of the peer's leaf; none without a certificate. */
export function readUriSans(ssl: number): string[] {
  const cert = SSL_get1_peer_certificate(ssl);
  if (cert === 0) return [];
  const names = X509_get_ext_d2i(cert, NID_SUBJECT_ALT_NAME, 0, 0);
  X509_free(cert);
  if (names === 0) return [];
  const uris: string[] = [];
  const count = Math.min(OPENSSL_sk_num(names), MAX_NAMES);
  for (let i = 0; i < count; i++) {
    const value = GENERAL_NAME_get0_value(OPENSSL_sk_value(names, i), scratch.address + typeOffset);
    if (scratch.view.getInt32(typeOffset, true) !== GEN_URI) continue;
    uris.push(readLatin1(ASN1_STRING_get0_data(value), ASN1_STRING_length(value)));
  }
  GENERAL_NAMES_free(names);
  return uris;
}

/** The negotiated application protocol, or ''. */
export function readAlpn(ssl: number): string {
  const { address, view } = scratch;
  SSL_get0_alpn_selected(ssl, address + alpnOffset, address + alpnOffset + 8);
  const length = view.getUint32(alpnOffset + 8, true);
  if (length === 0) return '';
  return readLatin1(Number(view.getBigUint64(alpnOffset, true)), length);
}
