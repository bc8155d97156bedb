// Options of a socket as the kernel has them.
import assert from 'node:assert/strict';
import { getsockopt } from '../../engine/native/libc.ts';
import { reserve, scratch } from '../../engine/native/memory.ts';

const optionOffset = reserve(16);

/** A socket's option; those of one value only. */
export function socketOption(fd: number, level: number, name: number): number {
  const { address, view } = scratch;
  view.setInt32(optionOffset + 8, 4, true);
  const size = address + optionOffset + 8;
  assert.equal(getsockopt(fd, level, name, address + optionOffset, size), 0);
  return view.getInt32(optionOffset, true);
}
