// The one memory BIO into which every TLS connection of the thread writes. It must be empty whenever another
// connection's SSL call begins, so each call that can write is followed by a drain.
import { reserve, scratch, releaseBlock, takeBlock, BLOCK_BYTES } from '../native/memory.ts';
import {
  BIO_CTRL_INFO,
  BIO_CTRL_RESET,
  BIO_ctrl,
  BIO_new,
  BIO_read,
  BIO_s_mem,
  BIO_up_ref,
} from '../native/openssl.ts';

// Above this, clearing the whole capacity costs less than copying the bytes out.
const RESET_ABOVE_BYTES = 48 * 1024;
const pointerOffset = reserve(8);
let bio = 0;

/** The BIO with one more reference, for SSL_set0_wbio. */
export function shareWriteBio(): number {
  if (bio === 0) bio = BIO_new(BIO_s_mem());
  BIO_up_ref(bio);
  return bio;
}

/** Bytes waiting in the BIO; their address is then `writtenAddress()`. */
export function writtenBytes(): number {
  return bio === 0 ? 0 : BIO_ctrl(bio, BIO_CTRL_INFO, 0, scratch.address + pointerOffset);
}

/** Address of the bytes, valid after `writtenBytes` until the next call on the BIO. */
export function writtenAddress(): number {
  return Number(scratch.view.getBigUint64(pointerOffset, true));
}

/** Empties the BIO, which holds `length` bytes. */
export function emptyWriteBio(length: number): void {
  if (length > RESET_ABOVE_BYTES || length > BLOCK_BYTES) {
    BIO_ctrl(bio, BIO_CTRL_RESET, 0, 0);
    return;
  }
  const block = takeBlock();
  BIO_read(bio, block.address, length);
  releaseBlock();
}
