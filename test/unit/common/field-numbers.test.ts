// What is on the wire is known by number alone. These are Istio's numbers, written out a second time: a change of a
// `.proto` file that would part us from istiod, its agent or its ztunnel fails here.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DescEnum, DescFile, DescMessage } from '@bufbuild/protobuf';
import { file_ca } from '../../../common/grpc/gen/ca_pb.ts';
import { file_authorization } from '../../../common/policy/gen/authorization_pb.ts';
import { file_workload } from '../../../common/workload/gen/workload_pb.ts';
import { file_discovery } from '../../../common/xds/gen/discovery_pb.ts';
import { file_zds } from '../../../common/zds/gen/zds_pb.ts';

type Numbers = Readonly<Record<string, string>>;

/** By the full name of a message or enum: number and name of each field or value. */
const ISTIO: readonly [file: DescFile, name: string, numbers: Numbers][] = [
  [
    file_workload,
    'istio.workload',
    {
      Address: '1 workload, 2 service',
      Service:
        '1 name, 2 namespace, 3 hostname, 4 addresses, 5 ports, 6 subject_alt_names, 7 waypoint, 8 load_balancing, 9 ip_families, 10 extensions, 11 canonical, 12 ingress_use_waypoint, 13 weighted_waypoints, 14 visibility',
      Workload:
        '1 name, 2 namespace, 3 addresses, 4 network, 5 tunnel_protocol, 6 trust_domain, 7 service_account, 8 waypoint, 9 node, 10 canonical_name, 11 canonical_revision, 12 workload_type, 13 workload_name, 14 native_tunnel, 16 authorization_policies, 17 status, 18 cluster_id, 19 network_gateway, 20 uid, 21 hostname, 22 services, 23 application_tunnel, 24 locality, 25 network_mode, 26 extensions, 27 capacity',
      NetworkAddress: '1 network, 2 address, 3 length',
      NamespacedHostname: '1 namespace, 2 hostname',
      GatewayAddress: '1 hostname, 2 address, 3 hbone_mtls_port',
      WeightedWaypoint: '1 destination, 2 weight',
      PortList: '1 ports',
      Port: '1 service_port, 2 target_port, 3 app_protocol',
      ApplicationTunnel: '1 protocol, 2 port',
      Locality: '1 region, 2 zone, 3 subzone',
      LoadBalancing: '1 routing_preference, 2 mode, 3 health_policy',
      Extension: '1 name, 2 config',
      'Service.Visibility': '0 PUBLIC, 1 NAMESPACE',
      TunnelProtocol: '0 NONE, 1 HBONE, 2 LEGACY_ISTIO_MTLS',
      WorkloadType: '0 DEPLOYMENT, 1 CRONJOB, 2 POD, 3 JOB',
      WorkloadStatus: '0 HEALTHY, 1 UNHEALTHY',
      NetworkMode: '0 STANDARD, 1 HOST_NETWORK',
      AppProtocol: '0 UNKNOWN, 1 HTTP11, 2 HTTP2, 3 GRPC, 4 TCP, 5 TLS',
      'ApplicationTunnel.Protocol': '0 NONE, 1 PROXY',
      'LoadBalancing.Scope':
        '0 UNSPECIFIED_SCOPE, 1 REGION, 2 ZONE, 3 SUBZONE, 4 NODE, 5 CLUSTER, 6 NETWORK',
      'LoadBalancing.Mode': '0 UNSPECIFIED_MODE, 1 STRICT, 2 FAILOVER, 3 PASSTHROUGH',
      'LoadBalancing.HealthPolicy': '0 ONLY_HEALTHY, 1 ALLOW_ALL',
      IPFamilies: '0 AUTOMATIC, 1 IPV4_ONLY, 2 IPV6_ONLY, 3 DUAL',
    },
  ],
  [
    file_authorization,
    'istio.security',
    {
      Authorization: '1 name, 2 namespace, 3 scope, 4 action, 5 rules, 6 dry_run, 7 extensions',
      Rule: '1 clauses',
      Clause: '2 matches',
      Match:
        '1 namespaces, 2 not_namespaces, 3 principals, 4 not_principals, 5 source_ips, 6 not_source_ips, 7 destination_ips, 8 not_destination_ips, 9 destination_ports, 10 not_destination_ports, 11 service_accounts, 12 not_service_accounts, 13 extensions',
      Address: '1 address, 2 length',
      ServiceAccountMatch: '1 namespace, 2 serviceAccount',
      StringMatch: '1 exact, 2 prefix, 3 suffix, 4 presence',
      Extension: '1 name, 2 config',
      Scope: '0 GLOBAL, 1 NAMESPACE, 2 WORKLOAD_SELECTOR',
      Action: '0 ALLOW, 1 DENY',
    },
  ],
  [
    file_discovery,
    'envoy.service.discovery.v3',
    {
      Node: '1 id, 2 cluster, 3 metadata, 5 build_version',
      Status: '1 code, 2 message, 3 details',
      DeltaDiscoveryRequest:
        '1 node, 2 type_url, 3 resource_names_subscribe, 4 resource_names_unsubscribe, 5 initial_resource_versions, 6 response_nonce, 7 error_detail',
      DeltaDiscoveryResponse:
        '1 system_version_info, 2 resources, 4 type_url, 5 nonce, 6 removed_resources',
      Resource: '1 version, 2 resource, 3 name, 4 aliases, 6 ttl',
    },
  ],
  [
    file_ca,
    'istio.v1.auth',
    {
      IstioCertificateRequest: '1 csr, 3 validity_duration, 4 metadata',
      IstioCertificateResponse: '1 cert_chain',
    },
  ],
  [
    file_zds,
    'istio.workload.zds',
    {
      Version: '0 NOT_USED, 1 V1',
      ZdsHello: '1 version',
      WorkloadRequest: '1 add, 2 del, 3 snapshot_sent, 5 keep',
      WorkloadInfo: '1 name, 2 namespace, 3 service_account',
      AddWorkload: '1 uid, 2 workload_info',
      KeepWorkload: '1 uid',
      DelWorkload: '2 uid',
      SnapshotSent: '',
      WorkloadResponse: '1 ack',
      Ack: '1 error',
    },
  ],
];

function textOf(desc: DescMessage | DescEnum): string {
  const all = desc.kind === 'enum' ? desc.values : desc.fields;
  return all
    .toSorted((a, b) => a.number - b.number)
    .map(({ number, name }) => `${number} ${name}`)
    .join(', ');
}

/** Also those inside messages. */
function describedIn(from: DescFile | DescMessage): (DescMessage | DescEnum)[] {
  const messages = from.kind === 'file' ? from.messages : from.nestedMessages;
  const enums = from.kind === 'file' ? from.enums : from.nestedEnums;
  return [...enums, ...messages.flatMap((message) => [message, ...describedIn(message)])];
}

describe('field numbers', () => {
  for (const [file, name, numbers] of ISTIO) {
    it(`of ${name} are Istio's`, () => {
      const ours = describedIn(file).map((desc) => [
        desc.typeName.slice(name.length + 1),
        textOf(desc),
      ]);
      assert.deepEqual(Object.fromEntries(ours), numbers);
    });
  }
});

describe('names on the wire', () => {
  const rows: readonly [of: string, actual: string | undefined, istios: string][] = [
    [
      'the stream of a control plane',
      pathOf(file_discovery),
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    ],
    [
      'the request for a certificate',
      pathOf(file_ca),
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
    ],
  ];
  for (const [of, actual, istios] of rows) it(`of ${of}`, () => assert.equal(actual, istios));
});

function pathOf({ services: [service] }: DescFile): string | undefined {
  return service && `/${service.typeName}/${service.methods[0]?.name}`;
}
