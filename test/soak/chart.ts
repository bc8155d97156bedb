// Line charts as SVG, for the measurements that docs/ shows. Pure: numbers in, text out.

/** One line of a chart. */
export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** A chart. The y axis begins at zero; a logarithmic x axis needs x above zero. */
export interface Chart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly isLogX?: boolean;
  readonly lines: readonly Line[];
}

const WIDTH = 460;
const HEIGHT = 260;
const LEFT = 52;
const RIGHT = 16;
const TOP = 52;
const BOTTOM = 40;
const COLORS = ['#2563eb', '#d97706', '#059669', '#dc2626', '#7c3aed'];
const TICKS = 5;
const LEGEND = 96;

/** Several charts on one page, two in a row. */
export function drawCharts(charts: readonly Chart[]): string {
  const columns = Math.min(2, charts.length);
  const width = columns * WIDTH;
  const height = Math.ceil(charts.length / columns) * HEIGHT;
  const parts = charts.map((chart, at) => {
    const x = (at % columns) * WIDTH;
    return `<g transform="translate(${x} ${Math.floor(at / columns) * HEIGHT})">${drawChart(chart)}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11" fill="#333">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function drawChart(chart: Chart): string {
  const points = chart.lines.flatMap(({ points }) => points);
  const xs = points.map(([x]) => scaled(chart, x));
  const low = Math.min(...xs);
  const high = Math.max(...xs, low + 1e-9);
  const top = niceCeil(Math.max(...points.map(([, y]) => y), 1e-9));
  const px = (x: number): number =>
    LEFT + ((scaled(chart, x) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number): number => HEIGHT - BOTTOM - (y / top) * (HEIGHT - TOP - BOTTOM);
  const lines = chart.lines.map((line, at) => drawLine(line, at, px, py));
  return [
    `<text x="${LEFT}" y="18" font-size="13" font-weight="bold">${escape(chart.title)}</text>`,
    ...yAxis(top, py),
    ...xTicks(chart).map(
      (x) =>
        `<text x="${px(x)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${label(x)}</text>`,
    ),
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" text-anchor="end">${escape(chart.xLabel)}</text>`,
    `<text x="${LEFT}" y="${HEIGHT - 8}">${escape(chart.yLabel)}</text>`,
    ...lines,
  ].join('\n');
}

function drawLine(
  { name, points }: Line,
  at: number,
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  const color = COLORS[at % COLORS.length] ?? '#000';
  const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' ');
  const dots = points.length > 20 ? [] : points;
  const legendX = LEFT + at * LEGEND;
  return [
    `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="1.6"/>`,
    ...dots.map(
      ([x, y]) =>
        `<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="2.5" fill="${color}"/>`,
    ),
    `<text x="${legendX}" y="36" fill="${color}">${escape(name)}</text>`,
  ].join('\n');
}

function yAxis(top: number, py: (y: number) => number): string[] {
  const lines: string[] = [];
  for (let tick = 0; tick <= TICKS; tick++) {
    const y = (top * tick) / TICKS;
    const at = py(y).toFixed(1);
    lines.push(
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" stroke="#ddd"/>`,
      `<text x="${LEFT - 6}" y="${Number(at) + 4}" text-anchor="end">${label(y)}</text>`,
    );
  }
  return lines;
}

function xTicks({ lines, isLogX }: Chart): number[] {
  const xs = lines.flatMap(({ points }) => points.map(([x]) => x));
  if (isLogX === true) return [...new Set(xs)];
  const low = Math.min(...xs);
  const high = Math.max(...xs);
  return Array.from({ length: TICKS + 1 }, (_, at) => low + ((high - low) * at) / TICKS);
}

function scaled({ isLogX }: Chart, x: number): number {
  return isLogX === true ? Math.log10(x) : x;
}

/** The next of 1, 2, 5 and so on. */
function niceCeil(value: number): number {
  const unit = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.5, 2, 3, 5, 7.5, 10].find((one) => one * unit >= value) ?? 10;
  return step * unit;
}

function label(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toFixed(1))}M`;
  if (value >= 1000) return `${Number((value / 1000).toFixed(1))}k`;
  return String(
    Number(value.toPrecision(2)) >= 100 ? Math.round(value) : Number(value.toPrecision(2)),
  );
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
