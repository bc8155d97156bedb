// Virtual addresses for ServiceEntry hosts that bring none, as Istio allocates them: one of
// 240.240.0.0/16 and one of 2001:2::/48 for each host, kept in the entry's status, which is the only record. Pure.
import { createHash } from 'node:crypto';
import { ServiceEntrySchema, ServiceEntry_Resolution } from '../resources/gen/service_entry_pb.ts';
import { isRecord } from '../resources/read-message.ts';
import { byAge, readResource } from '../resources/resource.ts';
import { validateServiceEntry } from '../resources/validate-service-entry.ts';
import type { ConfigObject } from './types.ts';

const OPT_OUT_LABEL = 'networking.istio.io/enable-autoallocate-ip';
/** Numbers in the /16 that are handed out: neither its first nor its last address. */
const COUNT = 0xfffe;

/** An allocated address, as it stands in `status.addresses`. */
export interface AutoAddress {
  readonly value: string;
  readonly host: string;
}

/** What an entry's `status.addresses` is to be. */
export interface AddressUpdate {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly AutoAddress[];
}

interface Entry {
  readonly namespace: string;
  readonly name: string;
  readonly created: number;
  readonly hosts: readonly string[];
  readonly held: readonly AutoAddress[];
}

/** Hosts of an entry that get addresses. */
export function autoAddressHosts(
  spec: {
    readonly hosts: readonly string[];
    readonly addresses: readonly string[];
    readonly resolution: ServiceEntry_Resolution;
  },
  labels: Readonly<Record<string, string>>,
): string[] {
  if (spec.addresses.length > 0 || spec.resolution === ServiceEntry_Resolution.NONE) return [];
  if (labels[OPT_OUT_LABEL] === 'false') return [];
  return [...new Set(spec.hosts.filter((host) => !host.includes('*')))];
}

/** The addresses in an object's status; what cannot be read is left out. */
export function readStatusAddresses(object: ConfigObject): AutoAddress[] {
  const status = isRecord(object.status) ? object.status : {};
  const listed: unknown[] = Array.isArray(status['addresses']) ? status['addresses'] : [];
  return listed.flatMap((entry) => {
    if (!isRecord(entry)) return [];
    const { value, host } = entry;
    return typeof value === 'string' && typeof host === 'string' ? [{ value, host }] : [];
  });
}

/**
 * Entries whose status must change: hosts without addresses get some, those that need none lose them. Of two that hold
 * the same address the older keeps it.
 */
export function allocateAddresses(objects: readonly ConfigObject[]): AddressUpdate[] {
  const entries = objects.flatMap((object) => readEntry(object) ?? []).sort(byAge);
  const owners = new Map<number, string>();
  for (const entry of entries) {
    for (const host of entry.hosts) {
      const held = numberOf(entry, host);
      if (held !== undefined && !owners.has(held)) owners.set(held, ownerOf(entry, host));
    }
  }
  return entries.flatMap((entry) => {
    const addresses = entry.hosts.flatMap((host) => {
      const number = chooseNumber(entry, host, owners);
      if (number === undefined) return [];
      owners.set(number, ownerOf(entry, host));
      return addressesOf(number).map((value) => ({ value, host }));
    });
    const isSame = JSON.stringify(addresses) === JSON.stringify(entry.held);
    return isSame ? [] : [{ namespace: entry.namespace, name: entry.name, addresses }];
  });
}

function readEntry(object: ConfigObject): Entry | undefined {
  if (object.metadata?.deletionTimestamp !== undefined) return undefined;
  const entry = readResource('ServiceEntry', ServiceEntrySchema, object, validateServiceEntry);
  const { namespace, name, created } = entry;
  const hosts = entry.isInvalid ? [] : autoAddressHosts(entry.spec, entry.labels);
  const held = readStatusAddresses(object).map(({ value, host }) => ({ value, host }));
  return { namespace, name, created, hosts, held };
}

function ownerOf({ namespace, name }: Entry, host: string): string {
  return `${namespace}/${name}/${host}`;
}

/** The number a host holds; both of its addresses have it. */
function numberOf(entry: Entry, host: string): number | undefined {
  const first = entry.held.find((address) => address.host === host)?.value ?? '';
  const [, high, low] = /^240\.240\.(\d{1,3})\.(\d{1,3})$/.exec(first) ?? [];
  if (high === undefined || low === undefined) return undefined;
  const number = Number(high) * 256 + Number(low);
  return Number(high) < 256 && Number(low) < 256 && number >= 1 && number <= COUNT
    ? number
    : undefined;
}

/** What it holds already, else the first free one from where its name hashes to: stable without a record. */
function chooseNumber(
  entry: Entry,
  host: string,
  owners: ReadonlyMap<number, string>,
): number | undefined {
  const owner = ownerOf(entry, host);
  const held = numberOf(entry, host);
  if (held !== undefined && owners.get(held) === owner) return held;
  const start = createHash('sha256').update(owner).digest().readUInt32BE(0);
  for (let step = 0; step < COUNT; step++) {
    const number = 1 + ((start + step) % COUNT);
    if (!owners.has(number)) return number;
  }
  return undefined;
}

function addressesOf(number: number): string[] {
  return [`240.240.${number >> 8}.${number & 0xff}`, `2001:2::${number.toString(16)}`];
}
