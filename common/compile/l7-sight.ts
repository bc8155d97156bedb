// Whose HTTP the node proxies observe on its way (docs/design/l7-sight.md): the pods of a namespace that asks for it, and how many
// of their connections. Not a waypoint's: it counts requests itself.
import type { ResourceMeta } from '../resources/resource.ts';
import type { PodEntity } from './entities.ts';
import type { MeshModel } from './mesh-model.ts';
import type { L7Rates } from './types.ts';

/** Label on a namespace: `enabled` or `disabled`. As label or annotation on a pod, `disabled` leaves it out. */
export const L7_SIGHT_SWITCH = 'ambient-mesh.io/l7-sight';
/** Label on a namespace beside it: how many connections are looked at, in percent. */
export const L7_SIGHT_PERCENT = 'ambient-mesh.io/l7-sight-percent';
const ON = 'enabled';
const OFF = 'disabled';
const PERCENT = /^\d{1,3}(?:\.\d{1,3})?$/;

/** The namespaces that ask, with their rates. One with a wrong value keeps what it had in `last`; without that it does not ask. */
export function readL7Rates(model: MeshModel, last: L7Rates = new Map()): L7Rates {
  const rates = new Map<string, number>();
  for (const namespace of model.namespaces.values()) {
    const read = readRate(namespace);
    if (read.problem !== undefined) {
      const { label, message } = read.problem;
      model.log.nowhere(namespace, `metadata.labels[${label}]`, 'Invalid', message);
    }
    const percent = read.problem === undefined ? read.percent : (last.get(namespace.name) ?? 0);
    if (percent > 0) rates.set(namespace.name, percent);
  }
  return rates;
}

/** How many of a pod's connections are to be observed, in percent. */
export function l7PercentOf(rates: L7Rates, pod: PodEntity): number {
  if (pod.isWaypoint) return 0;
  if (pod.labels[L7_SIGHT_SWITCH] === OFF || pod.annotations[L7_SIGHT_SWITCH] === OFF) return 0;
  return rates.get(pod.namespace) ?? 0;
}

interface Reading {
  readonly percent: number;
  readonly problem?: { readonly label: string; readonly message: string };
}

function readRate({ labels, name }: ResourceMeta): Reading {
  const wrong = (label: string, wanted: string): Reading => ({
    percent: 0,
    problem: {
      label,
      message: `Namespace ${name}: label ${label} is "${labels[label] ?? ''}", not ${wanted}; what was valid before stays`,
    },
  });
  switch (labels[L7_SIGHT_SWITCH]) {
    case undefined:
    case OFF:
      return { percent: 0 };
    case ON:
      break;
    default:
      return wrong(L7_SIGHT_SWITCH, `${ON} or ${OFF}`);
  }
  const text = labels[L7_SIGHT_PERCENT] ?? '100';
  const percent = PERCENT.test(text) ? Number(text) : Number.NaN;
  return percent <= 100 ? { percent } : wrong(L7_SIGHT_PERCENT, 'a number from 0 to 100');
}
