// Istio's validation rules for the parts of DestinationRule that are served.
import type {
  ConnectionPoolSettings,
  DestinationRule,
  OutlierDetection,
  TrafficPolicy,
} from './gen/destination_rule_pb.ts';
import { isValidHost } from './host-name.ts';
import type { Problems } from './problem.ts';
import { checkDuration, checkPercent, checkPort } from './validate-common.ts';

const SUBSET_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

/** Checks a DestinationRule's spec. */
export function validateDestinationRule(spec: DestinationRule, problems: Problems): void {
  const at = problems.at('host');
  at.check(isValidHost(spec.host), `${JSON.stringify(spec.host)} is not a host name`);
  const seen = new Set<string>();
  spec.subsets.forEach((subset, index) => {
    const name = problems.at('subsets', index, 'name');
    name.check(SUBSET_NAME.test(subset.name), `${JSON.stringify(subset.name)} is not a name`);
    name.check(!seen.has(subset.name), `subset ${subset.name} is defined twice`);
    seen.add(subset.name);
    validatePolicy(subset.trafficPolicy, problems.at('subsets', index, 'trafficPolicy'));
  });
  validatePolicy(spec.trafficPolicy, problems.at('trafficPolicy'));
}

function validatePolicy(policy: TrafficPolicy | undefined, problems: Problems): void {
  if (policy === undefined) return;
  validatePool(policy.connectionPool, problems.at('connectionPool'));
  validateOutlier(policy.outlierDetection, problems.at('outlierDetection'));
  policy.portLevelSettings.forEach((settings, index) => {
    const at = problems.at('portLevelSettings', index);
    if (settings.port === undefined) at.at('port').invalid('is needed');
    else checkPort(settings.port.number, at.at('port', 'number'));
    validatePool(settings.connectionPool, at.at('connectionPool'));
    validateOutlier(settings.outlierDetection, at.at('outlierDetection'));
  });
}

function validatePool(pool: ConnectionPoolSettings | undefined, problems: Problems): void {
  const { tcp, http } = pool ?? {};
  const tcpAt = problems.at('tcp');
  tcpAt.at('maxConnections').check((tcp?.maxConnections ?? 0) >= 0, 'must not be negative');
  checkDuration(tcp?.connectTimeout, tcpAt.at('connectTimeout'));
  if (http === undefined) return;
  const counts = {
    http1MaxPendingRequests: http.http1MaxPendingRequests,
    http2MaxRequests: http.http2MaxRequests,
    maxRequestsPerConnection: http.maxRequestsPerConnection,
  };
  for (const [name, value] of Object.entries(counts)) {
    problems.at('http', name).check(value >= 0, 'must not be negative');
  }
}

function validateOutlier(outlier: OutlierDetection | undefined, problems: Problems): void {
  if (outlier === undefined) return;
  checkDuration(outlier.interval, problems.at('interval'));
  checkDuration(outlier.baseEjectionTime, problems.at('baseEjectionTime'));
  checkPercent(outlier.maxEjectionPercent, problems.at('maxEjectionPercent'));
  checkPercent(outlier.minHealthPercent, problems.at('minHealthPercent'));
}
