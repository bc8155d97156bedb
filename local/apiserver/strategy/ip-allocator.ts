// Cluster addresses and node ports of Services. What is taken is read from the services themselves when asked,
// so it can never disagree with them.
import { StatusError } from '../status-error.ts';

const FIRST_DYNAMIC = 20;

/** `10.96.0.0/16` as its first address and size. */
export interface ServiceCidr {
  readonly base: number;
  readonly size: number;
}

export function parseIpv4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (const part of match.slice(1)) {
    if (Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff).join('.');
}

/** Parses an IPv4 CIDR; undefined when it is none, or too small or large to allocate from. */
export function parseServiceCidr(text: string): ServiceCidr | undefined {
  const [address = '', prefix = ''] = text.split('/');
  const value = parseIpv4(address);
  const bits = /^\d+$/.test(prefix) ? Number(prefix) : NaN;
  if (value === undefined || !(bits >= 8 && bits <= 26)) return undefined;
  const size = 2 ** (32 - bits);
  return { base: value - (value % size), size };
}

/** Hands out addresses in turn, so that a deleted service's is not reused at once. */
export class IpAllocator {
  readonly #cidr: ServiceCidr;
  #next = FIRST_DYNAMIC;

  constructor(cidr: ServiceCidr) {
    this.#cidr = cidr;
  }

  /** The n-th address of the range. */
  at(index: number): string {
    return formatIpv4(this.#cidr.base + index);
  }

  /** Whether an address lies in the range. */
  holds(address: string): boolean {
    const value = parseIpv4(address);
    return (
      value !== undefined &&
      value > this.#cidr.base &&
      value < this.#cidr.base + this.#cidr.size - 1
    );
  }

  allocate(taken: ReadonlySet<string>): string {
    for (let tried = 0; tried < this.#cidr.size; tried += 1) {
      const address = this.at(this.#next);
      this.#next += 1;
      if (this.#next >= this.#cidr.size - 1) this.#next = FIRST_DYNAMIC;
      if (!taken.has(address)) return address;
    }
    throw new StatusError(500, 'InternalError', 'failed to allocate a service IP: range is full');
  }
}

const NODE_PORT_FIRST = 30_000;
const NODE_PORTS = 2768;

/** A free node port. */
export function allocateNodePort(taken: ReadonlySet<number>): number {
  const start = Math.floor(Math.random() * NODE_PORTS);
  for (let tried = 0; tried < NODE_PORTS; tried += 1) {
    const port = NODE_PORT_FIRST + ((start + tried) % NODE_PORTS);
    if (!taken.has(port)) return port;
  }
  throw new StatusError(500, 'InternalError', 'failed to allocate a nodePort: range is full');
}
