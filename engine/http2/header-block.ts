// Header lists as nghttp2_nv arrays in native memory, and the settings frame's entries.
import {
  BLOCK_BYTES,
  releaseBlock,
  reserve,
  scratch,
  setUint64,
  takeBlock,
} from '../native/memory.ts';
import {
  SETTINGS_ENABLE_CONNECT_PROTOCOL,
  SETTINGS_ENABLE_PUSH,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_CONCURRENT_STREAMS,
  SETTINGS_MAX_FRAME_SIZE,
  SETTINGS_MAX_HEADER_LIST_SIZE,
} from '../native/nghttp2.ts';
import { StreamError } from '../reactor/stream-error.ts';
import type { HeaderList, Http2Settings } from './types.ts';

const NV_BYTES = 40;
const MAX_SETTINGS = 6;
const settingsOffset = reserve(MAX_SETTINGS * 8);

/** Calls `use` with the list as an nghttp2_nv array, which nghttp2 copies. Text is written as latin1. */
export function withHeaderBlock(
  headers: HeaderList,
  use: (address: number, count: number) => number,
): number {
  const block = takeBlock();
  try {
    const { bytes, view } = block.slab;
    let nv = block.offset;
    let text = block.offset + headers.length * NV_BYTES;
    const end = block.offset + BLOCK_BYTES;
    for (const [name, value] of headers) {
      if (text + name.length + value.length > end) {
        throw new StreamError('limit', 'header list too large');
      }
      const base = block.slab.address;
      setUint64(view, nv, base + text);
      setUint64(view, nv + 8, base + text + name.length);
      setUint64(view, nv + 16, name.length);
      setUint64(view, nv + 24, value.length);
      setUint64(view, nv + 32, 0);
      bytes.write(name, text, 'latin1');
      bytes.write(value, text + name.length, 'latin1');
      text += name.length + value.length;
      nv += NV_BYTES;
    }
    return use(block.address, headers.length);
  } finally {
    releaseBlock();
  }
}

/** Writes the entries of our SETTINGS frame; returns their address and count. */
export function writeSettings(settings: Http2Settings): { address: number; count: number } {
  const flag = (value: boolean | undefined): number | undefined =>
    value === undefined ? undefined : Number(value);
  const entries: (readonly [number, number | undefined])[] = [
    [SETTINGS_ENABLE_PUSH, flag(settings.enablePush)],
    [SETTINGS_MAX_CONCURRENT_STREAMS, settings.maxConcurrentStreams],
    [SETTINGS_INITIAL_WINDOW_SIZE, settings.initialWindowSize],
    [SETTINGS_MAX_FRAME_SIZE, settings.maxFrameSize],
    [SETTINGS_MAX_HEADER_LIST_SIZE, settings.maxHeaderListSize],
    [SETTINGS_ENABLE_CONNECT_PROTOCOL, flag(settings.enableConnectProtocol)],
  ];
  let count = 0;
  for (const [id, value] of entries) {
    if (value === undefined) continue;
    scratch.view.setInt32(settingsOffset + count * 8, id, true);
    scratch.view.setUint32(settingsOffset + count * 8 + 4, value, true);
    count++;
  }
  return { address: scratch.address + settingsOffset, count };
}

/** A tunnel's request (RFC 9113 section 8.5); extended CONNECT (RFC 8441) names a protocol, and is none. */
export function isConnect(headers: HeaderList): boolean {
  let is = false;
  for (const [name, value] of headers) {
    if (!name.startsWith(':')) break;
    if (name === ':protocol') return false;
    if (name === ':method') is = value === 'CONNECT';
  }
  return is;
}
