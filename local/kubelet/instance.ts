// What makes several clusters on one machine not clash: an instance number, held by an abstract unix socket
// (it vanishes with its process and belongs to the network namespace), which picks the bridge, the subnets and
// the suffix of netns names. An interface that a killed run of another clone left behind also occupies a number.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { sleep, systemClock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import { runCommand, tryCommand } from './run-command.ts';

const MAX_INSTANCES = 40;

export interface Instance {
  readonly number: number;
  readonly bridge: string;
  readonly suffix: string;
  /** First two octets of all addresses of this instance. */
  readonly prefix: string;
}

function instanceOf(number: number): Instance {
  return {
    number,
    bridge: `ambient${number}`,
    suffix: number === 0 ? '' : `-${number}`,
    prefix: `10.${200 + number}`,
  };
}

/** The bridge's ports to an instance's nodes are called so, and then by the node's index. */
export function nodePortPrefix(number: number): string {
  return `amb${number}n`;
}

function listen(name: string): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', () => resolve(undefined));
    server.listen(`\0${name}`, () => resolve(server));
  });
}

const LOCK_TRIES = 10;
const LOCK_WAIT_MS = 100;

/**
 * The lock of a state directory; undefined when another process holds it. The kernel may free the socket of a killed
 * process a little after its end, so it is asked for a second.
 */
export async function lockState(stateDir: string): Promise<Server | undefined> {
  const digest = createHash('sha256').update(stateDir).digest('hex').slice(0, 32);
  for (let tries = 1; ; tries++) {
    const lock = await listen(`ambient-mesh-state:${digest}`);
    if (lock !== undefined || tries === LOCK_TRIES) return lock;
    await sleep(systemClock, LOCK_WAIT_MS);
  }
}

/** The instance recorded by the last run of this clone, if the machine still carries its bridge. */
export async function recordedInstance(stateDir: string): Promise<Instance | undefined> {
  let number: number;
  try {
    number = Number(readFileSync(join(stateDir, 'instance'), 'utf8'));
  } catch {
    return undefined;
  }
  if (!Number.isInteger(number) || number < 0 || number >= MAX_INSTANCES) return undefined;
  const instance = instanceOf(number);
  return (await bridgeOwner(instance.bridge)) === stateDir ? instance : undefined;
}

/** The state directory written on a bridge, or undefined when there is no such bridge. */
async function bridgeOwner(bridge: string): Promise<string | undefined> {
  const shown = await tryCommand(['ip', '-j', 'link', 'show', 'dev', bridge]);
  if (shown.code !== 0) return undefined;
  const [link] = JSON.parse(shown.stdout) as { ifalias?: string }[];
  return link?.ifalias ?? '';
}

/** Takes a free instance number, makes its bridge and signs it with the state directory. */
export async function claimInstance(
  stateDir: string,
): Promise<{ instance: Instance; lock: Server }> {
  const routes = await runCommand(['ip', '-4', 'route', 'show', 'table', 'all']);
  const links = await runCommand(['ip', '-o', 'link', 'show']);
  for (let number = 0; number < MAX_INSTANCES; number++) {
    const instance = instanceOf(number);
    if (routes.includes(` ${instance.prefix}.`) || routes.includes(`\n${instance.prefix}.`))
      continue;
    // A node of a killed run whose namespace something still holds.
    if (links.includes(` ${nodePortPrefix(number)}`)) continue;
    const lock = await listen(`ambient-mesh-instance:${number}`);
    if (lock === undefined) continue;
    const made = await tryCommand(['ip', 'link', 'add', instance.bridge, 'type', 'bridge']);
    if (made.code === 0) {
      mkdirSync(stateDir, { recursive: true });
      writeFileSync(join(stateDir, 'instance'), String(number));
      await runCommand(['ip', 'link', 'set', 'dev', instance.bridge, 'alias', stateDir]);
      return { instance, lock };
    }
    lock.close();
    if (!made.stderr.includes('exists')) {
      throw new MeshError('no_network', `cannot make a bridge: ${made.stderr.trim()}`);
    }
  }
  throw new MeshError('no_network', `all ${MAX_INSTANCES} instance numbers are taken`);
}
