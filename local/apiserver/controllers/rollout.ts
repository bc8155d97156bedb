// The arithmetic of a rollout, pure: how large each ReplicaSet of a Deployment should be next.

export interface SetSize {
  /** Wanted. */
  readonly replicas: number;
  readonly available: number;
  /** Pods that exist. */
  readonly running: number;
}

export interface RolloutInput {
  readonly desired: number;
  readonly recreate: boolean;
  readonly maxSurge: number;
  readonly maxUnavailable: number;
  readonly current: SetSize;
  readonly others: readonly SetSize[];
}

export interface RolloutPlan {
  readonly current: number;
  readonly others: readonly number[];
}

const sum = (sizes: readonly SetSize[], member: keyof SetSize): number =>
  sizes.reduce((total, size) => total + size[member], 0);

/** The next sizes; called again after every change until nothing changes. */
export function planRollout(input: RolloutInput): RolloutPlan {
  const { desired, current, others } = input;
  if (input.recreate) {
    const isGone = sum(others, 'running') === 0 && sum(others, 'replicas') === 0;
    return { current: isGone ? desired : current.replicas, others: others.map(() => 0) };
  }
  // Both zero would never move; Kubernetes lets one be unavailable then.
  const maxUnavailable =
    input.maxSurge === 0 && input.maxUnavailable === 0 ? 1 : input.maxUnavailable;
  const total = current.replicas + sum(others, 'replicas');
  const room = Math.max(0, desired + input.maxSurge - total);
  const next = current.replicas >= desired ? desired : Math.min(desired, current.replicas + room);
  return { current: next, others: shrinkOthers(input, Math.min(maxUnavailable, desired)) };
}

/** Old sets lose what is not available first, then what the minimum allows. */
function shrinkOthers(input: RolloutInput, maxUnavailable: number): number[] {
  const { desired, current, others } = input;
  const minAvailable = desired - maxUnavailable;
  const sizes = others.map((size) => size.replicas);
  const total = current.replicas + sum(others, 'replicas');
  const pending = Math.max(0, current.replicas - current.available);
  let removable = Math.max(0, total - minAvailable - pending);
  for (const [index, size] of others.entries()) {
    const unhealthy = Math.max(0, size.replicas - size.available);
    const cut = Math.min(unhealthy, removable);
    sizes[index] = (sizes[index] ?? 0) - cut;
    removable -= cut;
  }
  let spare = Math.max(0, current.available + sum(others, 'available') - minAvailable);
  spare = Math.min(spare, removable);
  for (const [index, size] of sizes.entries()) {
    const cut = Math.min(size, spare);
    sizes[index] = size - cut;
    spare -= cut;
  }
  return sizes;
}
