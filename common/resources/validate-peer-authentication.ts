// Istio's validation rules for PeerAuthentication.
import type { PeerAuthentication } from './gen/security_pb.ts';
import type { Problems } from './problem.ts';

/** Checks a PeerAuthentication's spec. */
export function validatePeerAuthentication(spec: PeerAuthentication, problems: Problems): void {
  const ports = Object.keys(spec.portLevelMtls);
  const at = problems.at('portLevelMtls');
  for (const port of ports) {
    const isPort = Number(port) >= 1 && Number(port) <= 65535;
    at.at(port).check(isPort, 'must be a port number');
  }
  const hasSelector = Object.keys(spec.selector?.matchLabels ?? {}).length > 0;
  at.check(ports.length === 0 || hasSelector, 'needs a selector with labels');
}
