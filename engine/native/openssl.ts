// OpenSSL 3.5 by FFI, from the Node binary itself: contexts, connections, memory BIOs and the few X.509 calls that
// read a peer's URI SANs. Pointers are numbers; ownership is as OpenSSL documents it and is kept in engine/tls.
import koffi from 'koffi';

const lib = koffi.load(null);

type Pointer = number;
const P = 'uintptr_t';

export const TLS_server_method: () => Pointer = lib.func('TLS_server_method', P, []);
export const TLS_client_method: () => Pointer = lib.func('TLS_client_method', P, []);
export const SSL_CTX_new: (method: Pointer) => Pointer = lib.func('SSL_CTX_new', P, [P]);
export const SSL_CTX_free: (ctx: Pointer) => void = lib.func('SSL_CTX_free', 'void', [P]);
export const SSL_CTX_ctrl: (ctx: Pointer, cmd: number, value: number, ptr: Pointer) => number =
  lib.func('SSL_CTX_ctrl', 'long', [P, 'int', 'long', P]);
export const SSL_CTX_set_options: (ctx: Pointer, options: number) => number = lib.func(
  'SSL_CTX_set_options',
  'uint64_t',
  [P, 'uint64_t'],
);
export const SSL_CTX_set_ciphersuites: (ctx: Pointer, list: string) => number = lib.func(
  'SSL_CTX_set_ciphersuites',
  'int',
  [P, 'const char *'],
);
export const SSL_CTX_set_cipher_list: (ctx: Pointer, list: string) => number = lib.func(
  'SSL_CTX_set_cipher_list',
  'int',
  [P, 'const char *'],
);
export const SSL_CTX_set_default_read_buffer_len: (ctx: Pointer, length: number) => void = lib.func(
  'SSL_CTX_set_default_read_buffer_len',
  'void',
  [P, 'size_t'],
);
export const SSL_CTX_set_num_tickets: (ctx: Pointer, count: number) => number = lib.func(
  'SSL_CTX_set_num_tickets',
  'int',
  [P, 'size_t'],
);
export const SSL_CTX_set_verify: (ctx: Pointer, mode: number, callback: Pointer) => void = lib.func(
  'SSL_CTX_set_verify',
  'void',
  [P, 'int', P],
);
export const SSL_CTX_set_verify_depth: (ctx: Pointer, depth: number) => void = lib.func(
  'SSL_CTX_set_verify_depth',
  'void',
  [P, 'int'],
);
export const SSL_CTX_use_certificate: (ctx: Pointer, cert: Pointer) => number = lib.func(
  'SSL_CTX_use_certificate',
  'int',
  [P, P],
);
export const SSL_CTX_use_PrivateKey: (ctx: Pointer, key: Pointer) => number = lib.func(
  'SSL_CTX_use_PrivateKey',
  'int',
  [P, P],
);
export const SSL_CTX_check_private_key: (ctx: Pointer) => number = lib.func(
  'SSL_CTX_check_private_key',
  'int',
  [P],
);
export const SSL_CTX_get_cert_store: (ctx: Pointer) => Pointer = lib.func(
  'SSL_CTX_get_cert_store',
  P,
  [P],
);
export const SSL_CTX_set_alpn_protos: (ctx: Pointer, list: Pointer, length: number) => number =
  lib.func('SSL_CTX_set_alpn_protos', 'int', [P, P, 'uint']);
export const SSL_CTX_set_alpn_select_cb: (ctx: Pointer, fn: bigint, arg: Pointer) => void =
  lib.func('SSL_CTX_set_alpn_select_cb', 'void', [P, 'void *', P]);
export const X509_STORE_add_cert: (store: Pointer, cert: Pointer) => number = lib.func(
  'X509_STORE_add_cert',
  'int',
  [P, P],
);
export const X509_STORE_set_flags: (store: Pointer, flags: number) => number = lib.func(
  'X509_STORE_set_flags',
  'int',
  [P, 'ulong'],
);
export const X509_STORE_add_crl: (store: Pointer, crl: Pointer) => number = lib.func(
  'X509_STORE_add_crl',
  'int',
  [P, P],
);

export const SSL_new: (ctx: Pointer) => Pointer = lib.func('SSL_new', P, [P]);
export const SSL_free: (ssl: Pointer) => void = lib.func('SSL_free', 'void', [P]);
export const SSL_set0_rbio: (ssl: Pointer, bio: Pointer) => void = lib.func(
  'SSL_set0_rbio',
  'void',
  [P, P],
);
export const SSL_set0_wbio: (ssl: Pointer, bio: Pointer) => void = lib.func(
  'SSL_set0_wbio',
  'void',
  [P, P],
);
export const SSL_set_accept_state: (ssl: Pointer) => void = lib.func(
  'SSL_set_accept_state',
  'void',
  [P],
);
export const SSL_set_connect_state: (ssl: Pointer) => void = lib.func(
  'SSL_set_connect_state',
  'void',
  [P],
);
export const SSL_ctrl: (ssl: Pointer, cmd: number, value: number, ptr: Pointer) => number =
  lib.func('SSL_ctrl', 'long', [P, 'int', 'long', P]);
export const SSL_set1_host: (ssl: Pointer, name: string) => number = lib.func(
  'SSL_set1_host',
  'int',
  [P, 'const char *'],
);
export const SSL_do_handshake: (ssl: Pointer) => number = lib.func('SSL_do_handshake', 'int', [P]);
export const SSL_read: (ssl: Pointer, to: Pointer, length: number) => number = lib.func(
  'SSL_read',
  'int',
  [P, P, 'int'],
);
export const SSL_write: (ssl: Pointer, from: Pointer, length: number) => number = lib.func(
  'SSL_write',
  'int',
  [P, P, 'int'],
);
export const SSL_shutdown: (ssl: Pointer) => number = lib.func('SSL_shutdown', 'int', [P]);
export const SSL_get_error: (ssl: Pointer, result: number) => number = lib.func(
  'SSL_get_error',
  'int',
  [P, 'int'],
);
export const SSL_has_pending: (ssl: Pointer) => number = lib.func('SSL_has_pending', 'int', [P]);
export const SSL_get_verify_result: (ssl: Pointer) => number = lib.func(
  'SSL_get_verify_result',
  'long',
  [P],
);
export const SSL_get0_alpn_selected: (ssl: Pointer, data: Pointer, length: Pointer) => void =
  lib.func('SSL_get0_alpn_selected', 'void', [P, P, P]);
export const X509_STORE_set_verify_cb: (store: Pointer, callback: bigint) => void = lib.func(
  'X509_STORE_set_verify_cb',
  'void',
  [P, 'void *'],
);
export const X509_STORE_CTX_new: () => Pointer = lib.func('X509_STORE_CTX_new', P, []);
export const X509_STORE_CTX_free: (ctx: Pointer) => void = lib.func('X509_STORE_CTX_free', 'void', [
  P,
]);
export const X509_STORE_CTX_init: (
  ctx: Pointer,
  store: Pointer,
  leaf: Pointer,
  chain: Pointer,
) => number = lib.func('X509_STORE_CTX_init', 'int', [P, P, P, P]);
export const X509_STORE_CTX_set_flags: (ctx: Pointer, flags: number) => void = lib.func(
  'X509_STORE_CTX_set_flags',
  'void',
  [P, 'unsigned long'],
);
export const X509_STORE_CTX_get_error: (ctx: Pointer) => number = lib.func(
  'X509_STORE_CTX_get_error',
  'int',
  [P],
);
export const X509_STORE_CTX_set_error: (ctx: Pointer, error: number) => void = lib.func(
  'X509_STORE_CTX_set_error',
  'void',
  [P, 'int'],
);
export const X509_verify_cert: (ctx: Pointer) => number = lib.func('X509_verify_cert', 'int', [P]);
export const SSL_get_peer_cert_chain: (ssl: Pointer) => Pointer = lib.func(
  'SSL_get_peer_cert_chain',
  P,
  [P],
);
export const SSL_get1_peer_certificate: (ssl: Pointer) => Pointer = lib.func(
  'SSL_get1_peer_certificate',
  P,
  [P],
);
export const SSL_select_next_proto: (
  out: Pointer,
  outLength: Pointer,
  ...lists: [server: Pointer, serverLength: number, client: Pointer, clientLength: number]
) => number = lib.func('SSL_select_next_proto', 'int', [P, P, P, 'uint', P, 'uint']);

export const BIO_new: (type: Pointer) => Pointer = lib.func('BIO_new', P, [P]);
export const BIO_s_mem: () => Pointer = lib.func('BIO_s_mem', P, []);
export const BIO_new_socket: (fd: number, closeFlag: number) => Pointer = lib.func(
  'BIO_new_socket',
  P,
  ['int', 'int'],
);
export const BIO_new_mem_buf: (data: Pointer, length: number) => Pointer = lib.func(
  'BIO_new_mem_buf',
  P,
  [P, 'int'],
);
export const BIO_free: (bio: Pointer) => number = lib.func('BIO_free', 'int', [P]);
export const BIO_up_ref: (bio: Pointer) => number = lib.func('BIO_up_ref', 'int', [P]);
export const BIO_ctrl: (bio: Pointer, cmd: number, value: number, ptr: Pointer) => number =
  lib.func('BIO_ctrl', 'long', [P, 'int', 'long', P]);
export const BIO_write: (bio: Pointer, from: Pointer, length: number) => number = lib.func(
  'BIO_write',
  'int',
  [P, P, 'int'],
);
export const BIO_number_read: (bio: Pointer) => number = lib.func('BIO_number_read', 'uint64_t', [
  P,
]);

export const PEM_read_bio_X509: (bio: Pointer, out: 0, callback: 0, arg: 0) => Pointer = lib.func(
  'PEM_read_bio_X509',
  P,
  [P, P, P, P],
);
export const PEM_read_bio_X509_CRL: (bio: Pointer, out: 0, callback: 0, arg: 0) => Pointer =
  lib.func('PEM_read_bio_X509_CRL', P, [P, P, P, P]);
export const PEM_read_bio_PrivateKey: (bio: Pointer, out: 0, callback: 0, arg: 0) => Pointer =
  lib.func('PEM_read_bio_PrivateKey', P, [P, P, P, P]);
export const X509_free: (cert: Pointer) => void = lib.func('X509_free', 'void', [P]);
export const X509_CRL_free: (crl: Pointer) => void = lib.func('X509_CRL_free', 'void', [P]);
export const EVP_PKEY_free: (key: Pointer) => void = lib.func('EVP_PKEY_free', 'void', [P]);
export const X509_get_ext_d2i: (cert: Pointer, nid: number, critical: 0, index: 0) => Pointer =
  lib.func('X509_get_ext_d2i', P, [P, 'int', P, P]);
export const GENERAL_NAMES_free: (names: Pointer) => void = lib.func('GENERAL_NAMES_free', 'void', [
  P,
]);
export const GENERAL_NAME_get0_value: (name: Pointer, type: Pointer) => Pointer = lib.func(
  'GENERAL_NAME_get0_value',
  P,
  [P, P],
);
export const OPENSSL_sk_num: (stack: Pointer) => number = lib.func('OPENSSL_sk_num', 'int', [P]);
export const OPENSSL_sk_value: (stack: Pointer, index: number) => Pointer = lib.func(
  'OPENSSL_sk_value',
  P,
  [P, 'int'],
);
export const ASN1_STRING_get0_data: (text: Pointer) => Pointer = lib.func(
  'ASN1_STRING_get0_data',
  P,
  [P],
);
export const ASN1_STRING_length: (text: Pointer) => number = lib.func('ASN1_STRING_length', 'int', [
  P,
]);
export const OPENSSL_cleanse: (address: Pointer, length: number) => void = lib.func(
  'OPENSSL_cleanse',
  'void',
  [P, 'size_t'],
);

export const ERR_clear_error: () => void = lib.func('ERR_clear_error', 'void', []);
export const ERR_get_error: () => number = lib.func('ERR_get_error', 'ulong', []);
const reasonText: (code: number) => string | null = lib.func(
  'ERR_reason_error_string',
  'const char *',
  ['ulong'],
);
/** Text of the oldest error, and an empty queue after. */
export function takeErrorText(): string {
  const code = ERR_get_error();
  ERR_clear_error();
  return code === 0 ? '' : (reasonText(code) ?? `openssl error ${code.toString(16)}`);
}
export const X509_verify_cert_error_string: (code: number) => string = lib.func(
  'X509_verify_cert_error_string',
  'const char *',
  ['long'],
);

const alpnProto = koffi.proto('int', [P, P, P, P, 'uint', P]);
/** Registers the ALPN callback of this thread: (ssl, out, outLength, client list, its length) to SSL_TLSEXT_ERR. */
export function registerAlpnCallback(
  fn: (ssl: Pointer, out: Pointer, outLength: Pointer, list: Pointer, length: number) => number,
): bigint {
  return koffi.register(fn, koffi.pointer(alpnProto));
}

const verifyProto = koffi.proto('int', ['int', P]);
/** Registers a verification callback of this thread: (is it well so far, X509_STORE_CTX) to 1 (go on) or 0. */
export function registerVerifyCallback(fn: (ok: number, ctx: Pointer) => number): bigint {
  return koffi.register(fn, koffi.pointer(verifyProto));
}

// Constants of the C headers.
export const SSL_CTRL_MODE = 33;
export const SSL_CTRL_SET_READ_AHEAD = 41;
export const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
export const SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
export const SSL_CTRL_CHAIN_CERT = 89;
export const SSL_CTRL_SET_GROUPS_LIST = 92;
export const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
export const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
export const TLS1_2_VERSION = 0x0303;
export const TLS1_3_VERSION = 0x0304;
export const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2;
export const SSL_MODE_NO_AUTO_CHAIN = 0x8;
export const SSL_MODE_RELEASE_BUFFERS = 0x10;
export const SSL_OP_NO_TICKET = 1 << 14;
export const SSL_OP_NO_RENEGOTIATION = 1 << 30;
// Above 32 bits: to be added, not or-ed.
export const SSL_OP_NO_TX_CERTIFICATE_COMPRESSION = 2 ** 32;
export const SSL_OP_NO_RX_CERTIFICATE_COMPRESSION = 2 ** 33;
export const SSL_VERIFY_NONE = 0;
export const SSL_VERIFY_PEER = 1;
export const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
export const SSL_ERROR_WANT_READ = 2;
export const SSL_ERROR_WANT_WRITE = 3;
export const SSL_ERROR_ZERO_RETURN = 6;
export const SSL_TLSEXT_ERR_OK = 0;
export const SSL_TLSEXT_ERR_ALERT_FATAL = 2;
export const OPENSSL_NPN_NEGOTIATED = 1;
export const BIO_C_GET_BUF_MEM_PTR = 115;
export const BIO_C_FILE_SEEK = 128;
export const BIO_NOCLOSE = 0;
export const X509_V_FLAG_CRL_CHECK = 0x4;
export const X509_V_FLAG_CRL_CHECK_ALL = 0x8;
export const X509_V_FLAG_PARTIAL_CHAIN = 0x80000;
export const X509_V_FLAG_NO_CHECK_TIME = 0x200000;
export const X509_V_OK = 0;
export const X509_V_ERR_UNABLE_TO_GET_CRL = 3;
export const X509_V_ERR_CRL_NOT_YET_VALID = 11;
export const X509_V_ERR_CRL_HAS_EXPIRED = 12;
export const X509_V_ERR_CERT_REVOKED = 23;
export const NID_SUBJECT_ALT_NAME = 85;
export const GEN_URI = 6;
