// The one memory BIO into which every TLS connection of the thread writes. It must be empty whenever another
// connection's SSL call begins, so each call that can write is followed by a drain. Its BUF_MEM (a public struct:
// length, data, max) is read in place, so that looking costs no call.
import { nativeView, scratch, reserve } from '../native/memory.ts';
import {
  BIO_C_FILE_SEEK,
  BIO_C_GET_BUF_MEM_PTR,
  BIO_ctrl,
  BIO_new,
  BIO_s_mem,
  BIO_up_ref,
} from '../native/openssl.ts';

const BUF_MEM_BYTES = 24;
const DATA_AT = 8;
const pointerOffset = reserve(8);
let bio = 0;
let bufMem: DataView | undefined;

/** The BIO with one more reference, for SSL_set0_wbio. */
export function shareWriteBio(): number {
  if (bio === 0) {
    bio = BIO_new(BIO_s_mem());
    BIO_ctrl(bio, BIO_C_GET_BUF_MEM_PTR, 0, scratch.address + pointerOffset);
    const address = Number(scratch.view.getBigUint64(pointerOffset, true));
    bufMem = nativeView(address, BUF_MEM_BYTES);
  }
  BIO_up_ref(bio);
  return bio;
}

/** Bytes waiting in the BIO; their address is then `writtenAddress()`. */
export function writtenBytes(): number {
  return bufMem === undefined ? 0 : bufMem.getUint32(0, true);
}

/** Address of the bytes, valid until the next call on the BIO. */
export function writtenAddress(): number {
  if (bufMem === undefined) return 0;
  return bufMem.getUint32(DATA_AT, true) + bufMem.getUint32(DATA_AT + 4, true) * 0x100000000;
}

/** Empties the BIO, which holds `length` bytes. Seeking past them copies and clears nothing, unlike BIO_read. */
export function emptyWriteBio(length: number): void {
  BIO_ctrl(bio, BIO_C_FILE_SEEK, length, 0);
  // The next write starts at the front and sets it; until then it would look unread.
  bufMem?.setUint32(0, 0, true);
}
