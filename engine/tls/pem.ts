// Reading PEM texts into OpenSSL objects.
import { free, malloc } from '../native/libc.ts';
import { copyOut } from '../native/memory.ts';
import { BIO_free, BIO_new_mem_buf, ERR_clear_error, OPENSSL_cleanse } from '../native/openssl.ts';

/** Number of objects in a PEM text that are read at most. */
const MAX_PEM_OBJECTS = 1000;

/** All objects of one kind, up to `limit`; the caller frees them. The text's copy is wiped. */
export function readPem(
  pem: string,
  readOne: (bio: number, out: 0, callback: 0, arg: 0) => number,
  limit = MAX_PEM_OBJECTS,
): number[] {
  const bytes = Buffer.from(pem);
  if (bytes.length === 0) return [];
  // BIO_new_mem_buf keeps the address, so the text must not be a JavaScript object. It may be a key: wiped.
  const address = malloc(bytes.length);
  copyOut(bytes, address);
  const bio = BIO_new_mem_buf(address, bytes.length);
  const found: number[] = [];
  for (let object = readOne(bio, 0, 0, 0); object !== 0; object = readOne(bio, 0, 0, 0)) {
    found.push(object);
    if (found.length >= limit) break;
  }
  BIO_free(bio);
  OPENSSL_cleanse(address, bytes.length);
  free(address);
  // The end of the text is an error in the queue too.
  ERR_clear_error();
  return found;
}
