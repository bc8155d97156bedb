// The frames that the engine reads and writes itself: what is fixed in them (RFC 9113 sections 4.1, 6.1, 6.9). See ADR 8.
import { FRAME_DATA, FRAME_WINDOW_UPDATE, NGHTTP2_FLAG_END_STREAM } from '../native/nghttp2.ts';

export const HEADER_BYTES = 9;
/** Payload of WINDOW_UPDATE. */
export const UPDATE_BYTES = 4;
/** The size of a window before SETTINGS say another. */
export const DEFAULT_WINDOW_BYTES = 65_535;
/** The widest window, and all of a stream id: the bit above is reserved. */
export const MAX_31_BITS = 0x7fff_ffff;

/** Type and flags, as they stand next to each other in a header. */
export const DATA_FRAME: number = FRAME_DATA << 8;
export const LAST_DATA_FRAME: number = DATA_FRAME | NGHTTP2_FLAG_END_STREAM;
const UPDATE_FRAME = FRAME_WINDOW_UPDATE << 8;

/** Writes a header at `at`; `length` is of the payload behind it, `kind` one of the above. */
export function putFrameHeader(
  view: DataView,
  at: number,
  length: number,
  kind: number,
  streamId: number,
): void {
  view.setUint32(at, (length << 8) | (kind >>> 8));
  view.setUint8(at + 4, kind & 0xff);
  view.setUint32(at + 5, streamId);
}

/** Writes a whole WINDOW_UPDATE at `at`. Returns its length. */
export function putWindowUpdate(
  view: DataView,
  at: number,
  streamId: number,
  increment: number,
): number {
  putFrameHeader(view, at, UPDATE_BYTES, UPDATE_FRAME, streamId);
  view.setUint32(at + HEADER_BYTES, increment);
  return HEADER_BYTES + UPDATE_BYTES;
}
