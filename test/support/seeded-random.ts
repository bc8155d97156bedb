// Numbers for fuzz tests, the same everywhere for a seed.

/** Whole numbers from 0 up to, not including, `below`: xorshift32, which is enough. */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
