// Our extensions in `istio.workload.Workload.extensions`. A proxy that does not know them skips them.
import { create, toBinary, fromBinary } from '@bufbuild/protobuf';
import { DoubleValueSchema } from '@bufbuild/protobuf/wkt';
import { ExtensionSchema } from './gen/workload_pb.ts';
import type { Extension } from './gen/workload_pb.ts';

/**
 * The pod may be reached by the same-node path, which does not cross the pods' interfaces: no NetworkPolicy selects it.
 * Its absence, as under a control plane that does not know it, keeps the pod on HBONE.
 */
export const NODE_LOCAL_EXTENSION = 'ambient-mesh.io/node-local';

/** HTTP on the pod's connections is observed by the node proxies: its namespace asked for it. */
export const L7_SIGHT_EXTENSION = 'ambient-mesh.io/l7-sight';

const DOUBLE_TYPE_URL = `type.googleapis.com/${DoubleValueSchema.typeName}`;
const ALL = 100;

/** Allows the same-node path. */
export function nodeLocalExtension(): Extension {
  return create(ExtensionSchema, { name: NODE_LOCAL_EXTENSION });
}

/** Asks for L7 sight of so many percent of the connections. All is said by no config, as before there were rates. */
export function l7SightExtension(percent: number): Extension {
  if (percent === ALL) return create(ExtensionSchema, { name: L7_SIGHT_EXTENSION });
  const value = toBinary(DoubleValueSchema, create(DoubleValueSchema, { value: percent }));
  return create(ExtensionSchema, {
    name: L7_SIGHT_EXTENSION,
    config: { typeUrl: DOUBLE_TYPE_URL, value },
  });
}

/** What {@link l7SightExtension} asks for. 0 without it, and where it cannot be read: that must not cost the pod its record. */
export function readL7Percent(extensions: readonly Extension[]): number {
  const found = extensions.find(({ name }) => name === L7_SIGHT_EXTENSION);
  if (found === undefined) return 0;
  if (found.config === undefined) return ALL;
  if (found.config.typeUrl !== DOUBLE_TYPE_URL) return 0;
  try {
    const { value } = fromBinary(DoubleValueSchema, found.config.value);
    return value >= 0 && value <= ALL ? value : 0;
  } catch {
    return 0;
  }
}
