// Which compression an answer gets: the encodings of Istio's node proxy (gzip, br, zstd, deflate), by the client's
// preference; ours where it has none. Fast levels: a scrape should cost little.
import type { Duplex } from 'node:stream';
import {
  constants,
  createBrotliCompress,
  createDeflate,
  createGzip,
  createZstdCompress,
} from 'node:zlib';

/** A chosen encoding. */
export interface Compressor {
  readonly encoding: string;
  create(): Duplex;
}

/** In our order of preference. */
const COMPRESSORS: readonly Compressor[] = [
  { encoding: 'zstd', create: () => createZstdCompress() },
  { encoding: 'gzip', create: () => createGzip({ level: 4 }) },
  {
    encoding: 'br',
    create: () => createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  },
  { encoding: 'deflate', create: () => createDeflate({ level: 4 }) },
];

/** The best encoding of an Accept-Encoding header; undefined is none. */
export function compressorFor(
  acceptEncoding: string | string[] | undefined,
): Compressor | undefined {
  const weights = parseWeights(String(acceptEncoding ?? ''));
  let best: Compressor | undefined;
  let bestWeight = weights.get('identity') ?? 0;
  for (const compressor of COMPRESSORS) {
    const weight = weights.get(compressor.encoding) ?? weights.get('*') ?? 0;
    if (weight > bestWeight || (best === undefined && weight > 0 && weight === bestWeight)) {
      best = compressor;
      bestWeight = weight;
    }
  }
  return best;
}

function parseWeights(header: string): Map<string, number> {
  const weights = new Map<string, number>();
  for (const part of header.split(',')) {
    const [name = '', ...parameters] = part.split(';').map((word) => word.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    const weight = q === undefined ? 1 : Number(q);
    if (name !== '' && weight >= 0 && weight <= 1) weights.set(name, weight);
  }
  return weights;
}
