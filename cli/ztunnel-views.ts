// Tables of a node proxy's config_dump, with the columns of `istioctl ztunnel-config`. Pure: a dump in, rows out.
// The dump may come from Istio's ztunnel as well.

interface GatewayView {
  readonly destination: string;
}

/** The fields of a config_dump the tables read. */
export interface ZtunnelDump {
  readonly workloads?: readonly WorkloadView[];
  readonly services?: readonly ServiceView[];
  readonly policies?: readonly PolicyView[];
  readonly certificates?: readonly CertificateView[];
  readonly workloadState?: Readonly<Record<string, PodConnections>>;
}

interface WorkloadView {
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps?: readonly string[];
  readonly hostname?: string;
  readonly node?: string;
  readonly protocol: string;
  readonly waypoint?: GatewayView;
}

interface ServiceView {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips?: readonly string[];
  readonly endpoints?: Readonly<Record<string, { readonly status?: string }>>;
  readonly waypoint?: GatewayView;
}

interface PolicyView {
  readonly name: string;
  readonly namespace: string;
  readonly action: string;
  readonly scope: string;
}

interface CertificateFile {
  readonly serialNumber: string;
  readonly validFrom: string;
  readonly expirationTime: string;
}

interface CertificateView {
  readonly identity: string;
  readonly state: string;
  readonly certChain?: readonly CertificateFile[];
  readonly rootCerts?: readonly CertificateFile[];
}

interface ConnectionView {
  readonly src: string;
  readonly originalDst?: string | null;
  readonly actualDst: string;
  readonly protocol?: string;
}

interface PodConnections {
  readonly info?: { readonly name: string; readonly namespace: string };
  readonly connections?: {
    readonly inbound?: readonly ConnectionView[];
    readonly outbound?: readonly ConnectionView[];
  };
}

/** A table and the part of the dump it shows. */
export interface DumpView {
  readonly head: readonly string[];
  rows(dump: ZtunnelDump, options: ViewOptions): string[][];
  part(dump: ZtunnelDump, options: ViewOptions): unknown;
}

/** What to leave out, and whether addresses stay addresses. */
export interface ViewOptions {
  readonly namespace: string | undefined;
  readonly isRaw: boolean;
  readonly nowMs: number;
}

const byNames = (
  a: { readonly namespace: string; readonly name: string },
  b: { readonly namespace: string; readonly name: string },
): number => a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name);

function ofNamespace<T extends { readonly namespace: string; readonly name: string }>(
  objects: readonly T[] = [],
  namespace: string | undefined,
): T[] {
  return objects
    .filter((object) => namespace === undefined || object.namespace === namespace)
    .toSorted(byNames);
}

const afterSlash = (text: string): string => text.slice(text.indexOf('/') + 1);

/** Name of a waypoint by its host name or its address, as the dump has either. */
function waypointName(dump: ZtunnelDump, waypoint: GatewayView | undefined): string {
  if (waypoint === undefined) return 'None';
  const target = afterSlash(waypoint.destination);
  const service = dump.services?.find(
    ({ hostname, vips = [] }) => hostname === target || vips.map(afterSlash).includes(target),
  );
  return service?.name ?? target;
}

const WORKLOADS: DumpView = {
  head: ['NAMESPACE', 'POD NAME', 'ADDRESS', 'NODE', 'WAYPOINT', 'PROTOCOL'],
  part: (dump, { namespace }) => ofNamespace(dump.workloads, namespace),
  rows: (dump, { namespace }) =>
    ofNamespace(dump.workloads, namespace).map((workload) => [
      workload.namespace,
      workload.name,
      (workload.workloadIps ?? []).join(',') || (workload.hostname ?? ''),
      workload.node ?? '',
      waypointName(dump, workload.waypoint),
      workload.protocol,
    ]),
};

const SERVICES: DumpView = {
  head: ['NAMESPACE', 'SERVICE NAME', 'SERVICE VIP', 'WAYPOINT', 'ENDPOINTS'],
  part: (dump, { namespace }) => ofNamespace(dump.services, namespace),
  rows: (dump, { namespace }) =>
    ofNamespace(dump.services, namespace).map((service) => {
      const endpoints = Object.values(service.endpoints ?? {});
      const healthy = endpoints.filter(({ status }) => status !== 'Unhealthy').length;
      return [
        service.namespace,
        service.name,
        (service.vips ?? []).map(afterSlash).join(','),
        waypointName(dump, service.waypoint),
        `${healthy}/${endpoints.length}`,
      ];
    }),
};

const POLICIES: DumpView = {
  head: ['NAMESPACE', 'POLICY NAME', 'ACTION', 'SCOPE'],
  part: (dump, { namespace }) => ofNamespace(dump.policies, namespace),
  rows: (dump, { namespace }) =>
    ofNamespace(dump.policies, namespace).map(({ namespace: ns, name, action, scope }) => [
      ns,
      name,
      action,
      scope,
    ]),
};

function certificateRow(
  { identity, state }: CertificateView,
  type: string,
  file: CertificateFile,
  nowMs: number,
): string[] {
  const isValid = Date.parse(file.validFrom) <= nowMs && nowMs < Date.parse(file.expirationTime);
  const serial = /^\d+$/.test(file.serialNumber) ? BigInt(file.serialNumber).toString(16) : 'NA';
  return [identity, type, state, String(isValid), serial, file.expirationTime, file.validFrom];
}

const certificatesOf = (dump: ZtunnelDump, namespace: string | undefined): CertificateView[] =>
  (dump.certificates ?? []).filter(
    ({ identity }) => namespace === undefined || identity.includes(`/ns/${namespace}/`),
  );

const CERTIFICATES: DumpView = {
  head: [
    'CERTIFICATE NAME',
    'TYPE',
    'STATUS',
    'VALID CERT',
    'SERIAL NUMBER',
    'NOT AFTER',
    'NOT BEFORE',
  ],
  part: (dump, { namespace }) => certificatesOf(dump, namespace),
  rows: (dump, { namespace, nowMs }) =>
    certificatesOf(dump, namespace).flatMap((certificate) => {
      const { certChain = [], rootCerts = [], identity, state } = certificate;
      // `Unavailable: why` keeps the table in shape; the reason is in -o json.
      const status = state.split(':')[0] ?? state;
      if (certChain.length === 0) return [[identity, 'NA', status, 'false', 'NA', 'NA', 'NA']];
      return [
        ...certChain.map((file, at) =>
          certificateRow(certificate, at === 0 ? 'Leaf' : 'Intermediate', file, nowMs),
        ),
        ...rootCerts.map((file) => certificateRow(certificate, 'Root', file, nowMs)),
      ];
    }),
};

function podsOf(dump: ZtunnelDump, namespace: string | undefined): Required<PodConnections>[] {
  return Object.values(dump.workloadState ?? {})
    .map(({ info, connections }) => ({
      info: info ?? { name: '', namespace: '' },
      connections: connections ?? {},
    }))
    .filter(({ info }) => namespace === undefined || info.namespace === namespace)
    .toSorted((a, b) => byNames(a.info, b.info));
}

/** Addresses to names: a service for its address, otherwise a workload. */
function addressNames(dump: ZtunnelDump): Map<string, string> {
  const workloads = (dump.workloads ?? []).flatMap(({ name, namespace, workloadIps = [] }) =>
    workloadIps.map((ip): [string, string] => [ip, `${name}.${namespace}`]),
  );
  const services = (dump.services ?? []).flatMap(({ hostname, vips = [] }) =>
    vips.map((vip): [string, string] => [afterSlash(vip), hostname]),
  );
  return new Map([...workloads, ...services]);
}

const CONNECTIONS: DumpView = {
  head: ['WORKLOAD', 'DIRECTION', 'LOCAL', 'REMOTE', 'REMOTE TARGET', 'PROTOCOL'],
  part: (dump, { namespace }) => podsOf(dump, namespace),
  rows: (dump, { namespace, isRaw }) => {
    const names = isRaw ? new Map<string, string>() : addressNames(dump);
    const show = (address: string | null | undefined): string => {
      const [, ip = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address ?? '') ?? [];
      const name = names.get(ip);
      return name === undefined ? (address ?? '') : `${name}:${port}`;
    };
    return podsOf(dump, namespace).flatMap(({ info, connections }) => {
      const workload = `${info.name}.${info.namespace}`;
      const { inbound = [], outbound = [] } = connections;
      return [
        ...inbound.map((each) => [
          ...[workload, 'Inbound', show(each.actualDst), show(each.src)],
          ...[show(each.originalDst), each.protocol ?? ''],
        ]),
        ...outbound.map((each) => [
          ...[workload, 'Outbound', show(each.src), show(each.actualDst)],
          ...[show(each.originalDst), each.protocol ?? ''],
        ]),
      ];
    });
  },
};

/** The tables by istioctl's words. */
export const DUMP_VIEWS: Readonly<Record<string, DumpView>> = {
  workloads: WORKLOADS,
  services: SERVICES,
  policies: POLICIES,
  certificates: CERTIFICATES,
  connections: CONNECTIONS,
};
