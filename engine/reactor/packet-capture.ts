// Reads the frames that cross a network interface (AF_PACKET, packet(7)), in both directions. For diagnosis and
// checks, not for the data path: it polls from Node's own loop and keeps what it saw, up to a limit.
import {
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  bind,
  close,
  errno,
  ifNameToIndex,
  recv,
  socket,
} from '../native/libc.ts';
import {
  BLOCK_BYTES,
  copyBytes,
  releaseBlock,
  reserve,
  scratch,
  takeBlock,
} from '../native/memory.ts';
import { errnoError } from './stream-error.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 3;
const ADDRESS_BYTES = 20;
const POLL_MS = 2;
const MAX_CAPTURED_BYTES = 64 << 20;

const addressOffset = reserve(ADDRESS_BYTES);

/** A running capture. */
export class PacketCapture {
  readonly #fd: number;
  readonly #frames: Buffer[] = [];
  readonly #timer: NodeJS.Timeout;
  #bytes = 0;

  /** Starts to capture at an interface of this network namespace. Throws StreamError. */
  constructor(interfaceName: string) {
    // Not from /sys, which in a user namespace may show another network namespace.
    const index = ifNameToIndex(interfaceName);
    if (index === 0) throw errnoError(errno(), `capture at ${interfaceName}`);
    // The socket takes no frames before it is bound: protocol 0.
    this.#fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw errnoError(errno(), 'packet socket');
    const { view } = scratch;
    scratch.bytes.fill(0, addressOffset, addressOffset + ADDRESS_BYTES);
    view.setUint16(addressOffset, AF_PACKET, true);
    view.setUint16(addressOffset + 2, ETH_P_ALL, false);
    view.setInt32(addressOffset + 4, index, true);
    if (bind(this.#fd, scratch.address + addressOffset, ADDRESS_BYTES) < 0) {
      const code = errno();
      close(this.#fd);
      throw errnoError(code, `capture at ${interfaceName}`);
    }
    this.#timer = setInterval(() => this.#drain(), POLL_MS);
  }

  /** What was captured so far, in order. */
  get frames(): readonly Buffer[] {
    return this.#frames;
  }

  /** Ends the capture; what has arrived until now is in `frames`. */
  close(): void {
    clearInterval(this.#timer);
    this.#drain();
    close(this.#fd);
  }

  #drain(): void {
    const block = takeBlock();
    try {
      while (this.#bytes < MAX_CAPTURED_BYTES) {
        const length = recv(this.#fd, block.address, BLOCK_BYTES, 0);
        if (length <= 0) return;
        this.#frames.push(copyBytes(block.address, length));
        this.#bytes += length;
      }
    } finally {
      releaseBlock();
    }
  }
}
