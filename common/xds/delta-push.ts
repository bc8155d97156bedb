// One DeltaDiscoveryResponse as it came, read resource by resource: a push may hold 100,000 of them, and as messages they
// would take ten times the room of their bytes. Only the places of the resources are noted at first.
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { MeshError } from '../errors.ts';

/** A resource whose value has not been decoded. The value is a view of the push. */
export interface RawResource {
  readonly name: string;
  readonly version: string;
  /** Other names; only clients that ask on demand are told. */
  readonly aliases: readonly string[];
  readonly value: Uint8Array;
  /** Set where it is not the push's type: what the value is then. */
  readonly otherType?: string;
}

/** A push. Reading the resources throws `MeshError('bad_push')` where they cannot be understood. */
export interface DeltaPush {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly removedResources: readonly string[];
  readonly resources: Iterable<RawResource>;
}

const RESPONSE = { resources: 2, typeUrl: 4, nonce: 5, removedResources: 6 } as const;
const RESOURCE = { version: 1, resource: 2, name: 3, aliases: 4 } as const;
const ANY = { typeUrl: 1, value: 2 } as const;
const NO_NAMES: readonly string[] = [];
const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Reads everything but the resources. Throws `MeshError('bad_push')`. */
export function readDeltaPush(bytes: Uint8Array): DeltaPush {
  const removedResources: string[] = [];
  const places: number[] = [];
  const texts = { typeUrl: '', nonce: '' };
  readFields(bytes, (reader, field) => {
    if (field === RESPONSE.resources) {
      const length = reader.uint32();
      places.push(reader.pos, length);
      reader.pos += length;
      if (reader.pos > reader.len) throw new RangeError('premature end');
    } else if (field === RESPONSE.typeUrl) texts.typeUrl = reader.string();
    else if (field === RESPONSE.nonce) texts.nonce = reader.string();
    else if (field === RESPONSE.removedResources) removedResources.push(reader.string());
    else return false;
    return true;
  });
  return {
    ...texts,
    removedResources,
    resources: { [Symbol.iterator]: () => read(bytes, places, texts.typeUrl) },
  };
}

function* read(
  bytes: Uint8Array,
  places: readonly number[],
  typeUrl: string,
): Generator<RawResource> {
  for (let at = 0; at < places.length; at += 2) {
    const start = places[at] ?? 0;
    yield readResource(bytes.subarray(start, start + (places[at + 1] ?? 0)), typeUrl);
  }
}

function readResource(bytes: Uint8Array, typeUrl: string): RawResource {
  const resource = { name: '', version: '', aliases: NO_NAMES, value: NO_BYTES };
  let type = '';
  readFields(bytes, (reader, field) => {
    if (field === RESOURCE.name) resource.name = reader.string();
    else if (field === RESOURCE.version) resource.version = reader.string();
    else if (field === RESOURCE.aliases) {
      resource.aliases = [...resource.aliases, reader.string()];
    } else if (field === RESOURCE.resource) {
      readFields(reader.bytes(), (any, part) => {
        if (part === ANY.typeUrl) type = any.string();
        else if (part === ANY.value) resource.value = any.bytes();
        else return false;
        return true;
      });
    } else return false;
    return true;
  });
  return type === '' || type === typeUrl ? resource : { ...resource, otherType: type };
}

/** Calls `take` at each field that has a length; false passes over it, as over all others. */
function readFields(
  bytes: Uint8Array,
  take: (reader: BinaryReader, field: number) => boolean,
): void {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (type !== WireType.LengthDelimited || !take(reader, field)) reader.skip(type, field);
    }
  } catch (err) {
    throw new MeshError('bad_push', 'not a DeltaDiscoveryResponse', { cause: err });
  }
}
