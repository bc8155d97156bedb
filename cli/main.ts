// ambientctl: the mesh from the command line. Exit codes: 0 done, 1 failed, 2 wrong usage.
import { Command, CommanderError } from 'commander';
import { applyCommand } from './commands/apply.ts';
import { connectionsCommand } from './commands/connections.ts';
import { deleteCommand } from './commands/delete.ts';
import { execCommand } from './commands/exec.ts';
import { getCommand } from './commands/get.ts';
import { labelCommand } from './commands/label.ts';
import { logsCommand } from './commands/logs.ts';
import { metricsCommand } from './commands/metrics.ts';
import { proxyCommand } from './commands/proxy.ts';
import { rotationCommand } from './commands/rotation.ts';
import { statusCommand } from './commands/status.ts';
import { waypointCommand } from './commands/waypoint.ts';
import { whyCommand } from './commands/why.ts';
import { ztunnelConfigCommand } from './commands/ztunnel-config.ts';
import { describeError, exitCodeOf } from './errors.ts';

const program = new Command('ambientctl')
  .description('Ambient mesh from the command line')
  .exitOverride()
  .enablePositionalOptions()
  .showHelpAfterError('(add --help for usage)');

for (const command of [
  statusCommand(),
  waypointCommand(),
  proxyCommand(),
  ztunnelConfigCommand(),
  rotationCommand(),
  connectionsCommand(),
  whyCommand(),
  metricsCommand(),
  applyCommand(),
  getCommand(),
  labelCommand(),
  execCommand(),
  logsCommand(),
  deleteCommand(),
]) {
  program.addCommand(command.exitOverride());
}

try {
  await program.parseAsync();
} catch (err) {
  if (err instanceof CommanderError) {
    process.exitCode = err.exitCode === 0 ? 0 : 2;
  } else {
    process.stderr.write(`${describeError(err)}\n`);
    process.exitCode = exitCodeOf(err);
  }
}
