// What the plugin tells the agent when a pod's sandbox is made (Istio's JSON), and its validation.

export interface CniIpConfig {
  readonly Interface?: number;
  readonly Address: { readonly IP: string; readonly Mask: string };
  readonly Gateway?: string;
}

export interface CniAddEvent {
  readonly Netns: string;
  readonly PodName: string;
  readonly PodNamespace: string;
  readonly IPs: readonly CniIpConfig[];
}

/** The mask of a prefix length as Go prints it in JSON: base64 of its bytes. */
export function maskOf(prefix: number, isIpv6: boolean): string {
  const bytes = Buffer.alloc(isIpv6 ? 16 : 4);
  for (let bit = 0; bit < prefix; bit++) {
    bytes.writeUInt8(bytes.readUInt8(bit >> 3) | (0x80 >> (bit & 7)), bit >> 3);
  }
  return bytes.toString('base64');
}

/** Reads an event; undefined when it is not one. */
export function parseAddEvent(text: string): CniAddEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const event = value as Partial<CniAddEvent>;
  const isComplete =
    typeof event.Netns === 'string' &&
    typeof event.PodName === 'string' &&
    typeof event.PodNamespace === 'string' &&
    event.Netns !== '' &&
    event.PodName !== '';
  if (!isComplete) return undefined;
  const ips = Array.isArray(event.IPs) ? event.IPs : [];
  return { ...(event as CniAddEvent), IPs: ips };
}
