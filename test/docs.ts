// Writes the pages of docs/ that are generated from code.
import { writeFileSync } from 'node:fs';
import { renderConfigPage } from './support/config-page.ts';

writeFileSync('docs/config.md', renderConfigPage());
