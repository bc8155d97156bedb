// A container's view of the file system, as a shell script run in a mount namespace of its own: a tmpfs root
// that shows the machine's programs, its own /run, /tmp and /etc, and the pod's volumes; then pivot_root. Pure.
// Directories that volumes are often mounted into are mirrored by links, so that nothing is made on the machine.

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly isFile: boolean;
}

export interface RootPlan {
  /** An existing empty directory. */
  readonly dir: string;
  readonly hostname: string;
  readonly resolvConf: string;
  readonly hosts: string;
  readonly mounts: readonly Mount[];
  /** Paths of the machine that must stay where they are: the repository, the Node binary. */
  readonly visible: readonly string[];
  readonly workingDir: string;
}

/** A descriptor that the script closes when the view is complete, before the program takes over. */
export const ENTERED_FD = 3;

const MIRRORED = ['etc', 'var', 'opt', 'mnt', 'srv', 'media', 'home', 'root'];
const OWN = ['run', 'tmp'];

/** Quotes a word for the shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function normalize(target: string): string {
  const path = target.replace(/\/+/g, '/').replace(/\/$/, '');
  return path.startsWith('/var/run/') || path === '/var/run' ? path.slice(4) : path;
}

/** Commands that put a mount in place. A mirrored link on the way is replaced by a directory. */
function mountCommands({ source, target, isFile }: Mount): string[] {
  const path = normalize(target);
  const parts = path.split('/').slice(1);
  const at = quote(path);
  const lines: string[] = [];
  if (MIRRORED.includes(parts[0] ?? '') && parts.length > 1) {
    const link = quote(`/${parts[0]}/${parts[1]}`);
    lines.push(`[ ! -L "$R"${link} ] || rm "$R"${link}`);
  }
  const parent = quote(path.slice(0, path.lastIndexOf('/')) || '/');
  lines.push(
    isFile ? `mkdir -p "$R"${parent}; [ -e "$R"${at} ] || : >"$R"${at}` : `mkdir -p "$R"${at}`,
    `mount --rbind ${quote(source)} "$R"${at}`,
  );
  return lines;
}

/** The script; its arguments are the program to run. */
export function buildRootScript(plan: RootPlan): string {
  const depth = (mount: Mount): number => normalize(mount.target).split('/').length;
  const visible = plan.visible
    .filter((path) => [...MIRRORED, ...OWN].includes(path.split('/')[1] ?? ''))
    .map((path) => ({ source: path, target: path, isFile: false }));
  const mounts = [...visible, ...plan.mounts].toSorted((a, b) => depth(a) - depth(b));
  const workingDir = quote(plan.workingDir);
  return `set -e
R=${quote(plan.dir)}
mount -t tmpfs -o mode=755 tmpfs "$R"
mkdir "$R/.host"
for e in /*; do b=\${e#/}
  case $b in ${[...MIRRORED, ...OWN].join('|')}) continue;; esac
  if [ -L "$e" ]; then ln -s "$(readlink "$e")" "$R/$b"
  elif [ -d "$e" ]; then mkdir "$R/$b"; mount --rbind "$e" "$R/$b" 2>/dev/null || rmdir "$R/$b"; fi
done
for d in ${MIRRORED.join(' ')}; do
  [ -d "/$d" ] || continue
  mkdir "$R/$d" "$R/.host/$d"; mount --rbind "/$d" "$R/.host/$d" 2>/dev/null || continue
  for e in "/$d"/* "/$d"/.[!.]*; do if [ -e "$e" ] || [ -L "$e" ]; then ln -s "/.host$e" "$R$e"; fi; done
done
mkdir "$R/run" "$R/run/lock"; mkdir -m 1777 "$R/tmp"
rm -f "$R/var/run" "$R/etc/resolv.conf" "$R/etc/hosts" "$R/etc/hostname"
mkdir -p "$R/var" "$R/etc"; ln -s /run "$R/var/run"
printf %s ${quote(plan.resolvConf)} >"$R/etc/resolv.conf"
printf %s ${quote(plan.hosts)} >"$R/etc/hosts"
printf '%s\\n' ${quote(plan.hostname)} >"$R/etc/hostname"
echo ${quote(plan.hostname)} >/proc/sys/kernel/hostname 2>/dev/null || :
${mounts.flatMap(mountCommands).join('\n')}
mkdir "$R/.old"; cd "$R"; pivot_root . .old; cd /
umount -l /.old; rmdir /.old
mkdir -p ${workingDir} 2>/dev/null || :; cd ${workingDir} 2>/dev/null || cd /
exec ${ENTERED_FD}>&-; exec "$@"`;
}
