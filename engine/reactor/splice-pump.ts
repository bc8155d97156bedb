// One direction of a relay between two sockets. It copies through a block, as any stream does, until the flow has
// filled one; then the kernel moves the pages through a pipe (splice(2)) and no byte enters the process. A flow that
// has become small again copies: one call less each way.
import { BLOCK_BYTES } from '../native/memory.ts';
import { releasePipe, takePipe, PIPE_BYTES, type Pipe } from './pipe-pool.ts';
import { READ_END, type ReadPuller, type TcpStream } from './tcp-stream.ts';

// Pipes filled for one flow in one turn; then others have their turn.
const FILLS_PER_TURN = 4;
// Less than this in a turn, and copying is cheaper.
const SMALL_TURN_BYTES = 32 * 1024;

/** Moves what `from` receives to `to` while there is much of it. */
export class SplicePump implements ReadPuller {
  readonly #from: TcpStream;
  readonly #to: TcpStream;
  readonly #count: (bytes: number) => void;
  /** Holds bytes that `to` had no room for. */
  #pipe: Pipe | undefined;
  #held = 0;

  constructor(from: TcpStream, to: TcpStream, count: (bytes: number) => void) {
    this.#from = from;
    this.#to = to;
    this.#count = count;
  }

  /** A read was copied: with a full block the next ones are not. */
  noteCopied(bytes: number): void {
    if (bytes === BLOCK_BYTES) this.#from.setPuller(this);
  }

  onReadable(): void {
    const pipe = this.#pipe ?? takePipe();
    if (pipe === undefined) {
      this.#copyAgain();
      return;
    }
    this.#pipe = pipe;
    let moved = 0;
    for (let fills = 0; fills < FILLS_PER_TURN; fills++) {
      if (!this.#push(pipe)) return;
      const length = this.#from.spliceInto(pipe.writeFd, PIPE_BYTES);
      if (length <= 0) {
        this.#release();
        if (length === READ_END) this.#from.finishRead();
        else if (moved < SMALL_TURN_BYTES) this.#copyAgain();
        return;
      }
      moved += length;
      this.#held = length;
      this.#count(length);
    }
    if (this.#push(pipe)) {
      this.#release();
      this.#from.readLater();
    }
  }

  /** Empties the pipe into `to`. False when it has no room: reading waits for its `onDrain`. */
  #push(pipe: Pipe): boolean {
    while (this.#held > 0) {
      const length = this.#to.spliceFrom(pipe.readFd, this.#held);
      if (length <= 0) {
        this.#from.pause();
        return false;
      }
      this.#held -= length;
    }
    return true;
  }

  #copyAgain(): void {
    this.#from.setPuller(undefined);
    if (this.#from.canReadNow()) this.#from.readLater();
  }

  #release(): void {
    const pipe = this.#pipe;
    this.#pipe = undefined;
    if (pipe !== undefined) releasePipe(pipe, this.#held === 0);
    this.#held = 0;
  }

  /** The relay is over: what the pipe still holds is lost. */
  close(): void {
    this.#release();
  }
}
