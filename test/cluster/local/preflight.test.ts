// A machine that lacks what the local cluster needs: one message that says what to do, exit code 1, no stack trace.
// The lack is made in a mount namespace (programs hidden) or in a user namespace (no further namespaces allowed).
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { asUser, makeCloneOf, MeshStart } from '../../support/mesh-start.ts';

const USER = 54_321;
const WITHOUT_RIGHTS = ['setpriv', '--bounding-set', '-all', '--inh-caps', '-all', '--'];

/** A command run where these programs cannot be executed; system files may be hidden too. */
function without(
  programs: readonly string[],
  files: readonly string[],
  argv: readonly string[],
): string[] {
  const script = `for p in ${programs.join(' ')}; do for d in /usr/sbin /usr/bin /sbin /bin; do
    if [ -e "$d/$p" ]; then mount --bind /dev/null "$(readlink -f "$d/$p")"; fi; done; done
    for f in ${files.join(' ')}; do mount --bind /dev/null "$f"; done; exec "$@"`;
  return ['unshare', '-m', 'sh', '-c', script, 'sh', ...argv];
}

describe('a machine that lacks something', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ambient-preflight-'));
  const clone = join(dir, 'clone');
  const argv = [
    join(clone, 'node_modules/.bin/node'),
    ...['local/main.ts', '--no-install', '--empty', '--ui-port', '0'],
  ];
  const env = { PATH: process.env['PATH'], HOME: clone };
  const fails = async (command: readonly string[]): Promise<string> => {
    const run = new MeshStart(command, clone, env);
    assert.equal(await run.exited, 1, run.output);
    assert.doesNotMatch(run.output, /\n\s+at /, 'no stack trace');
    return run.output;
  };

  before(() => {
    makeCloneOf(USER, clone);
    chmodSync(dir, 0o755);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('tells root the command that installs the missing packages', async () => {
    writeFileSync(join(dir, 'os-release'), 'ID=debian\n');
    const debian = ['sh', '-c', `mount --bind ${dir}/os-release /etc/os-release; exec "$@"`, 'sh'];
    const command = without(['nft', 'ip'], [], [...debian, ...asUser(0, clone, argv)]);
    assert.equal(
      await fails(command),
      'npm start: missing system packages: iproute2 nftables. Run:\n' +
        '  apt-get update -q && apt-get install -y -q --no-install-recommends iproute2 nftables\n',
    );
  });

  it('tells an ordinary user the same with sudo', async () => {
    const command = without(['nft'], [], asUser(USER, clone, argv));
    assert.match(await fails(command), /missing system packages: nftables\. Run:\n {2}sudo \S+/);
  });

  it('names the packages where it does not know the distribution', async () => {
    const command = without(['nft'], ['/etc/os-release'], asUser(0, clone, argv));
    assert.match(await fails(command), /nftables\. Install them with your package manager\n$/);
  });

  it('says what to do where neither root’s rights nor user namespaces are to be had', async () => {
    const script = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"';
    const limited = [
      'unshare',
      '-Ur',
      'sh',
      '-c',
      script,
      'sh',
      ...WITHOUT_RIGHTS,
      ...argv,
      '--state',
      join(dir, 'state'),
    ];
    const output = await fails(asUser(0, clone, limited));
    assert.match(
      output,
      /^npm start: this needs root or a user namespace \(.*\)\. In a container, /,
    );
    assert.match(output, /sysctl -w kernel\.unprivileged_userns_clone=1/);
  });
});
