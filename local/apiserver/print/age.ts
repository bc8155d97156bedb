// Durations as kubectl shows them (k8s.io/apimachinery HumanDuration).

/** `45s`, `3m12s`, `5h`, `2d3h`, `1y20d` since a time. */
export function age(time: string, nowMs = Date.now()): string {
  const since = Date.parse(time);
  return Number.isNaN(since) ? '<unknown>' : duration(nowMs - since);
}

/** A span in kubectl's words. */
export function duration(spanMs: number): string {
  const seconds = Math.max(0, Math.floor(spanMs / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  const years = Math.floor(days / 365);
  const pair = (a: number, unit: string, b: number, small: string): string =>
    b === 0 ? `${a}${unit}` : `${a}${unit}${b}${small}`;
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return pair(minutes, 'm', seconds % 60, 's');
  if (hours < 3) return `${minutes}m`;
  if (hours < 8) return pair(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  if (days < 8) return pair(days, 'd', hours % 24, 'h');
  if (days < 730) return `${days}d`;
  return years < 8 ? pair(years, 'y', days % 365, 'd') : `${years}y`;
}
