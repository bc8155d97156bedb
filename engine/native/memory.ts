// Native memory of one thread. JavaScript sees it through `bytes` and `view` (one allocation that never moves);
// C sees addresses. The arena has fixed parts: scratch for system calls, and 128 KiB blocks that are taken and
// given back as a stack, so that the working set stays in cache while handlers nest.
import koffi from 'koffi';
import {
  free,
  giveBackLargeMemory,
  malloc,
  mapLowMemory,
  memcpy,
  memmove,
  realloc,
} from './libc.ts';

/** Size of a block: one batch of reading, framing or encrypting. */
export const BLOCK_BYTES = 128 * 1024;
const SCRATCH_BYTES = 64 * 1024;
const BLOCKS_PER_SLAB = 4;
const MAX_SLABS = 16;

/** Memory both sides see: `bytes[i]` is at `address + i`. */
export interface Slab {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly address: number;
}

giveBackLargeMemory();

// Slabs are never freed: their addresses may be held by C for the life of the thread.
const slabs: Slab[] = [];

function newSlab(size: number): Slab {
  const low = mapLowMemory(size);
  const bytes =
    low === 0 ? Buffer.allocUnsafeSlow(size) : Buffer.from(koffi.view(BigInt(low), size));
  const address = low === 0 ? Number(koffi.address(bytes)) : low;
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, size), address };
}

/**
 * Scratch for arguments and results of single calls. Nothing in it survives the next call into the engine,
 * except the constants placed by `reserve`.
 */
export const scratch: Slab = newSlab(SCRATCH_BYTES);
let reservedBytes = 0;

/** Takes a piece of scratch for the life of the thread; returns its offset (16-byte aligned). */
export function reserve(size: number): number {
  const offset = reservedBytes;
  reservedBytes += (size + 15) & ~15;
  if (reservedBytes > SCRATCH_BYTES) throw new RangeError('scratch memory exhausted');
  return offset;
}

/** Writes a safe integer (an address, a length) as 64 bits; a BigInt for each would cost more than the call it is for. */
export function setUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x100000000), true);
}

/** A 128 KiB block of a slab. `offset` is its place in `slab.bytes`. */
export interface Block {
  readonly slab: Slab;
  readonly offset: number;
  readonly address: number;
}

const blocks: Block[] = [];
let blocksInUse = 0;

/** Takes the next block. Give it back with `releaseBlock` in reverse order, in a `finally`. */
export function takeBlock(): Block {
  let block = blocks[blocksInUse];
  if (block === undefined) {
    if (slabs.length >= MAX_SLABS) throw new RangeError('too many nested blocks');
    const slab = newSlab(BLOCK_BYTES * BLOCKS_PER_SLAB);
    slabs.push(slab);
    for (let i = 0; i < BLOCKS_PER_SLAB; i++) {
      blocks.push({ slab, offset: i * BLOCK_BYTES, address: slab.address + i * BLOCK_BYTES });
    }
    block = blocks[blocksInUse];
  }
  blocksInUse++;
  if (block === undefined) throw new RangeError('no block');
  return block;
}

/** Gives back the block taken last. */
export function releaseBlock(): void {
  blocksInUse--;
}

/**
 * Memory of C as JavaScript sees it, for structs that stay where they are and are looked at often. The view does not
 * keep the memory alive: never use it after C has freed it. Making one costs 1-2 us; keep it.
 */
export function nativeView(address: number, length: number): DataView {
  return new DataView(koffi.view(BigInt(address), length));
}

const MAX_VIEWS = 256;
const views = new Map<number, DataView>();

/**
 * The view of `length` bytes (the same for all calls with this address) at an address that C passes again and again,
 * such as a frame that is part of its session. Use it only while C promises the memory.
 */
export function repeatedView(address: number, length: number): DataView {
  let view = views.get(address);
  if (view === undefined || view.byteLength < length) {
    if (views.size >= MAX_VIEWS) views.clear();
    view = nativeView(address, length);
    views.set(address, view);
  }
  return view;
}

/** Copies native memory into a new buffer. */
export function copyBytes(address: number, length: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(length);
  copyInto(address, length, copy);
  return copy;
}

/** Copies native memory to the start of `target`. */
export function copyInto(address: number, length: number, target: Uint8Array): void {
  if (length > target.length) throw new RangeError('target too small');
  for (let done = 0; done < length;) {
    const part = Math.min(length - done, TRANSFER_BYTES);
    memcpy(scratch.address + transferOffset, address + done, part);
    target.set(scratch.bytes.subarray(transferOffset, transferOffset + part), done);
    done += part;
  }
}

/** Native memory as JavaScript sees it lies in windows of this size, aligned. */
export const WINDOW_BYTES = 1024 * 1024;
const MAX_WINDOWS = 64;
const windows = new Map<number, Buffer>();
let windowBase = -1;
let windowBytes: Buffer | undefined;

/** The aligned window that starts at `base`, whether all of it is mapped or not: only what C names is looked at. */
function windowAt(base: number): Buffer {
  if (base === windowBase && windowBytes !== undefined) return windowBytes;
  let bytes = windows.get(base);
  if (bytes === undefined) {
    if (windows.size >= MAX_WINDOWS) windows.clear();
    bytes = Buffer.from(koffi.view(BigInt(base), WINDOW_BYTES));
    windows.set(base, bytes);
  }
  windowBase = base;
  windowBytes = bytes;
  return bytes;
}

/** The window an address lies in, whatever of it is mapped: only what C promises may be looked at. */
export function windowOf(address: number): Buffer {
  return windowAt(address - (address % WINDOW_BYTES));
}

/** Where an address lies in its window. */
export function windowIndex(address: number): number {
  return address % WINDOW_BYTES;
}

const TRANSFER_BYTES = 16 * 1024;
const transferOffset = reserve(TRANSFER_BYTES);

/** Reads native memory as latin1 text (header names and values, alert texts). C must hold the memory meanwhile. */
export function readLatin1(address: number, length: number): string {
  const start = address % WINDOW_BYTES;
  if (start + length > WINDOW_BYTES) return copyBytes(address, length).toString('latin1');
  return windowAt(address - start).toString('latin1', start, start + length);
}

/** Puts JavaScript bytes into native memory. */
export function copyOut(bytes: Uint8Array, address: number): void {
  for (let done = 0; done < bytes.length;) {
    const part = Math.min(bytes.length - done, TRANSFER_BYTES);
    scratch.bytes.set(bytes.subarray(done, done + part), transferOffset);
    memcpy(address + done, scratch.address + transferOffset, part);
    done += part;
  }
}

/**
 * Copies JavaScript bytes into a block of native memory, part by part, and hands out each until `use` says false. True
 * if all were handed out.
 */
export function eachBlock(
  bytes: Uint8Array,
  use: (address: number, length: number) => boolean,
): boolean {
  const block = takeBlock();
  try {
    for (let done = 0; done < bytes.length; done += BLOCK_BYTES) {
      const part = bytes.subarray(done, done + BLOCK_BYTES);
      copyOut(part, block.address);
      if (!use(block.address, part.length)) return false;
    }
    return true;
  } finally {
    releaseBlock();
  }
}

let queuesInUse = 0;

/** Number of byte queues that hold native memory now. For leak tests. */
export function nativeQueueCount(): number {
  return queuesInUse;
}

/** Bytes that wait in native memory, first in first out. Holds no memory while empty. */
export class ByteQueue {
  #address = 0;
  #capacity = 0;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Address of the first byte; valid until the next call. */
  get address(): number {
    return this.#address + this.#start;
  }

  push(address: number, length: number): void {
    memcpy(this.#room(length), address, length);
    this.#end += length;
  }

  pushBytes(bytes: Uint8Array): void {
    copyOut(bytes, this.#room(bytes.length));
    this.#end += bytes.length;
  }

  /** Drops `length` bytes from the front. */
  shift(length: number): void {
    this.#start += length;
    if (this.#start >= this.#end) this.clear();
  }

  clear(): void {
    if (this.#address !== 0) {
      free(this.#address);
      queuesInUse--;
    }
    this.#address = 0;
    this.#capacity = this.#start = this.#end = 0;
  }

  #room(length: number): number {
    if (this.#end + length > this.#capacity) {
      const held = this.#end - this.#start;
      if (this.#start > 0) {
        memmove(this.#address, this.#address + this.#start, held);
        this.#start = 0;
        this.#end = held;
      }
      if (held + length > this.#capacity) this.#grow(held + length);
    }
    return this.#address + this.#end;
  }

  #grow(needed: number): void {
    const capacity = Math.max(4096, needed, this.#capacity * 2);
    const address = this.#address === 0 ? malloc(capacity) : realloc(this.#address, capacity);
    if (address === 0) throw new RangeError('out of memory');
    if (this.#address === 0) queuesInUse++;
    this.#address = address;
    this.#capacity = capacity;
  }
}
