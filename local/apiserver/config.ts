// The API server's flags.
import { isIP } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MeshError } from '../../common/errors.ts';
import { parseServiceCidr } from './strategy/ip-allocator.ts';
import type { ServiceCidr } from './strategy/ip-allocator.ts';

export const HELP = `A small Kubernetes API server for one machine.

  --data DIR              where objects and keys are kept (default .ambient/apiserver)
  --listen ADDR:PORT,...  addresses to serve HTTPS on (default 127.0.0.1:6443; port 0 takes a free one)
  --listen-fd FD,...      listening sockets that were inherited, instead of or beside --listen
  --advertise URL         the address in the kubeconfig (default: the first one listened on)
  --service-cidr CIDR     cluster addresses of Services (default 10.96.0.0/16)
  --kubeconfig-out FILE   write an administrator's kubeconfig here
  --kubelet-token FILE    bearer token for the kubelets' HTTP servers
  --help`;

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface ApiServerConfig {
  readonly dataDir: string;
  readonly listen: readonly ListenAddress[];
  readonly listenFds: readonly number[];
  readonly advertise: string | undefined;
  readonly serviceCidr: ServiceCidr;
  readonly kubeconfigOut: string | undefined;
  readonly kubeletTokenFile: string | undefined;
}

function parseListen(text: string): ListenAddress {
  const at = text.lastIndexOf(':');
  const host = text.slice(0, at).replace(/^\[|\]$/g, '');
  const port = text.slice(at + 1);
  if (isIP(host) === 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw new MeshError('invalid_config', `--listen needs ADDR:PORT, not "${text}"`);
  }
  return { host, port: Number(port) };
}

const words = (text: string | undefined): string[] =>
  (text ?? '').split(',').filter((word) => word !== '');

/** Parses the command line; undefined asks for the help text. */
export function parseFlags(args: readonly string[]): ApiServerConfig | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      data: { type: 'string', default: join('.ambient', 'apiserver') },
      listen: { type: 'string' },
      'listen-fd': { type: 'string' },
      advertise: { type: 'string' },
      'service-cidr': { type: 'string', default: '10.96.0.0/16' },
      'kubeconfig-out': { type: 'string' },
      'kubelet-token': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const listenFds = words(values['listen-fd']).map(Number);
  if (listenFds.some((fd) => !Number.isInteger(fd) || fd < 3)) {
    throw new MeshError('invalid_config', '--listen-fd needs descriptors from 3 on');
  }
  const fallback = listenFds.length > 0 ? '' : '127.0.0.1:6443';
  const serviceCidr = parseServiceCidr(values['service-cidr']);
  if (serviceCidr === undefined) {
    throw new MeshError(
      'invalid_config',
      `--service-cidr needs an IPv4 range from /8 to /26, not "${values['service-cidr']}"`,
    );
  }
  if (values.advertise !== undefined && !URL.canParse(values.advertise)) {
    throw new MeshError('invalid_config', `--advertise needs a URL, not "${values.advertise}"`);
  }
  return {
    dataDir: values.data,
    listen: words(values.listen ?? fallback).map(parseListen),
    listenFds,
    advertise: values.advertise,
    serviceCidr,
    kubeconfigOut: values['kubeconfig-out'],
    kubeletTokenFile: values['kubelet-token'],
  };
}
