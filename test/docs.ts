// `npm run docs`: writes the pages of docs/ that are generated from code.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runCommand } from '../common/command-line.ts';
import { renderConfigPage } from './support/config-page.ts';

const USAGE = `usage: npm run docs
Writes docs/config.md from the tables of variables (settings.ts of each program).`;

await runCommand('npm run docs', () => {
  const { values } = parseArgs({ options: { help: { type: 'boolean', default: false } } });
  if (values.help) process.stdout.write(`${USAGE}\n`);
  else writeFileSync('docs/config.md', renderConfigPage());
  return 0;
});
