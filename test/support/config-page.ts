// docs/config.md from the programs' tables of variables. `npm run docs` writes the page, a test compares it.
import type { Setting, SettingTable } from '../../common/settings.ts';
import { SETTINGS as AGENT_SETTINGS } from '../../cni/agent/settings.ts';
import { SETTINGS as CONTROL_PLANE_SETTINGS } from '../../controlplane/settings.ts';
import { SETTINGS as WAYPOINT_SETTINGS } from '../../waypoint/settings.ts';
import { ISTIO_SETTINGS, OWN_SETTINGS } from '../../ztunnel/settings.ts';

const INTRODUCTION = `# Configuration

Every program is configured by environment variables. This page is generated from the tables in the code (\`settings.ts\` of each
program, by \`npm run docs\`), and a test keeps it so. Durations are written \`300ms\`, \`5m\`, \`1h30m\`; a value that cannot be read ends
the start, and one message names all of them. Variables that are not listed are not read.
`;

const ISTIO_NOTE = `The variables of Istio's ztunnel, with its names and defaults. **Ignored**: a value has no effect, and the log says so at the
start. **Refused**: what it asks for is missing here and its neglect would surprise, so the start ends.
`;

/** The whole page. */
export function renderConfigPage(): string {
  return [
    INTRODUCTION,
    '## Node proxy (ztunnel)\n',
    ISTIO_NOTE,
    settingRows(ISTIO_SETTINGS, true),
    'Ours:\n',
    settingRows(OWN_SETTINGS, false),
    '## Waypoint\n',
    settingRows(WAYPOINT_SETTINGS, false),
    '## Control plane\n',
    settingRows(CONTROL_PLANE_SETTINGS, false),
    '## Node agent (cni)\n',
    settingRows(AGENT_SETTINGS, false),
  ].join('\n');
}

function settingRows(table: SettingTable, hasSupport: boolean): string {
  const head = ['variable', ...(hasSupport ? ['here'] : []), 'value', 'default', 'meaning'];
  const rows = Object.entries(table).map(([name, setting]) => [
    `\`${name}\``,
    ...(hasSupport ? [setting.support] : []),
    setting.type,
    shownDefault(setting),
    setting.meaning,
  ]);
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return `${lines.join('\n')}\n`;
}

function shownDefault({ fallback }: Setting<unknown>): string {
  if (fallback === '') return '';
  return fallback.includes(' ') || fallback === 'required' ? fallback : `\`${fallback}\``;
}
