// Bytes for transfers that are checked: the same for the same name and count, no block like another, so that what is lost,
// doubled or out of place shows in the checksum.
import { createCipheriv, createHash } from 'node:crypto';

const BLOCK_BYTES = 256 << 10;

/** So many bytes in blocks. */
export function* checkedBytes(name: string, count: number): Generator<Buffer> {
  const key = createHash('sha256').update(name).digest().subarray(0, 16);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  const zeros = Buffer.alloc(BLOCK_BYTES);
  for (let left = count; left > 0; left -= BLOCK_BYTES) {
    yield cipher.update(left < BLOCK_BYTES ? zeros.subarray(0, left) : zeros);
  }
}

/** Their SHA-256. */
export function checkedDigest(name: string, count: number): string {
  const hash = createHash('sha256');
  for (const block of checkedBytes(name, count)) hash.update(block);
  return hash.digest('hex');
}
