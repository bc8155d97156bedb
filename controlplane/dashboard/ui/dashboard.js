// The page: asks for the counters every two seconds, makes rates of them, draws the graph where the server put it.
// @ts-check
const PERIOD_MS = 2000;
const PATIENCE_MS = 3000;
const HISTORY = 60;
const NODE = { width: 148, height: 46 };
const CELL = { width: 300, height: 84 };
const SVG = 'http://www.w3.org/2000/svg';

const byId = (id) => document.getElementById(id);
let tab = 'l4';
let before;
let now;
/** Totals of the last readings of each tab. */
const history = { l4: [], l7: [] };

const keyOf = ({ source, destination, waypoint = '' }) => `${source} ${destination} ${waypoint}`;

/** Edges with rates, from two readings. A counter that went down belongs to a restarted proxy. */
function withRates(kind) {
  if (!now) return [];
  const old = new Map((before?.[kind].edges ?? []).map((edge) => [keyOf(edge), edge]));
  const seconds = before ? Math.max(0.5, (now.at - before.at) / 1000) : 0;
  return now[kind].edges.map((edge) => {
    const last = old.get(keyOf(edge));
    const rate = (field) =>
      seconds === 0 ? 0 : Math.max(0, (edge[field] - (last?.[field] ?? 0)) / seconds);
    return { ...edge, rate };
  });
}

const total = (edges, field) => edges.reduce((sum, edge) => sum + edge.rate(field), 0);

function number(value) {
  if (value === undefined || value === null) return '-';
  return Number.isInteger(value) || value >= 10 ? String(Math.round(value)) : value.toFixed(1);
}

function bytes(rate) {
  return rate >= 1024 * 1024
    ? [number(rate / 1024 / 1024), 'MiB/s']
    : [number(rate / 1024), 'KiB/s'];
}

const SECURITY = { mutual_tls: 'mutual TLS', node_local: 'same node', unknown: 'plaintext' };

/** How the connections of an edge are secured, the worst first. */
function security({ security: counts }) {
  const found = ['unknown', 'node_local', 'mutual_tls'].filter((each) => counts[each] > 0);
  return found.map((each) => SECURITY[each]).join(', ') || '-';
}

const COLUMNS = {
  l4: [
    ['Source', (edge) => edge.source],
    ['Destination', (edge) => edge.destination],
    ['Connections/s', (edge) => edge.rate('connections')],
    ['KiB/s', (edge) => edge.rate('bytes') / 1024],
    ['Refused/s', (edge) => edge.rate('refused')],
    ['Connections', (edge) => Math.round(edge.connections)],
    ['Refused', (edge) => Math.round(edge.refused)],
    ['Security', security],
  ],
  l7: [
    ['Source', (edge) => edge.source],
    ['Destination', (edge) => edge.destination],
    ['Seen by', (edge) => edge.waypoint || 'node proxy, on its way'],
    ['Requests/s', (edge) => edge.rate('requests')],
    ['Errors/s', (edge) => edge.rate('errors')],
    ['Denied/s', (edge) => edge.rate('refused')],
    ['Requests', (edge) => Math.round(edge.requests)],
    ['p50 ms', (edge) => edge.p50Ms ?? NaN],
    ['p99 ms', (edge) => edge.p99Ms ?? NaN],
  ],
};
const IS_TEXT = /^(Source|Destination|Seen by|Security)$/;
const IS_TROUBLE = /^(Errors|Denied|Refused)/;

/** What stands on a link: the main rate, and a second line. */
const LABELS = {
  l4: (link) => [bytes(link.rate('bytes')).join(' '), `${number(link.rate('connections'))} conn/s`],
  l7: (link) => [
    `${number(link.rate('requests'))} req/s`,
    [
      link.p99Ms > 0 ? `p99 ${number(link.p99Ms)} ms` : '',
      link.isObserved ? 'seen by node proxy' : '',
    ]
      .filter(Boolean)
      .join(', '),
  ],
};

function element(name, content, className = '') {
  const made = document.createElement(name);
  if (typeof content === 'string') made.textContent = content;
  else made.append(...content);
  if (className) made.className = className;
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

function drawTable(edges) {
  const columns = COLUMNS[tab];
  const heads = columns.map(([name]) => element('th', name, IS_TEXT.test(name) ? '' : 'number'));
  byId('edges').tHead.replaceChildren(element('tr', heads));
  const rows = edges.map((edge) =>
    element(
      'tr',
      columns.map(([name, read]) => {
        const value = read(edge);
        if (name === 'Security') {
          const mood =
            value === 'mutual TLS' ? 'good' : value.startsWith('plaintext') ? 'bad' : 'warn';
          return element('td', [element('span', value, `chip ${mood}`)]);
        }
        if (typeof value === 'string') return element('td', value);
        const mood = value > 0 ? (IS_TROUBLE.test(name) ? ' bad' : '') : ' zero';
        return element('td', Number.isNaN(value) ? '-' : number(value), `number${mood}`);
      }),
    ),
  );
  byId('edges').tBodies[0].replaceChildren(...rows);
}

function tile(name, [value, unit = ''], { values, isBad = false } = {}) {
  const parts = [
    element('span', name, 'name'),
    element('span', [value, ' ', element('small', unit)], 'value'),
  ];
  if (values) {
    const top = Math.max(...values, 1e-9);
    const points = values.map((each, index) => {
      const x = (100 * (HISTORY - values.length + index)) / (HISTORY - 1);
      return `${x.toFixed(1)},${(26 - (24 * each) / top).toFixed(1)}`;
    });
    const line = svg('polyline', { points: points.join(' ') });
    const box = { viewBox: '0 0 100 28', preserveAspectRatio: 'none', class: 'spark' };
    parts.push(svg('svg', { ...box, 'aria-hidden': 'true' }, line));
  }
  return element('div', parts, isBad ? 'tile bad' : 'tile');
}

function drawTiles(edges) {
  const pick = (read) => ({ values: history[tab].map(read) });
  const bad = (field) => ({ ...pick((each) => each[field]), isBad: total(edges, field) > 0 });
  if (tab === 'l4') {
    const count = (kind) => edges.reduce((sum, edge) => sum + (edge.security[kind] ?? 0), 0);
    const all = edges.reduce((sum, edge) => sum + edge.connections, 0);
    const share = all === 0 ? ['-'] : [number((100 * count('mutual_tls')) / all), '%'];
    byId('tiles').replaceChildren(
      tile(
        'Throughput',
        bytes(total(edges, 'bytes')),
        pick((each) => each.bytes),
      ),
      tile(
        'New connections',
        [number(total(edges, 'connections')), '/s'],
        pick((each) => each.connections),
      ),
      tile('Refused', [number(total(edges, 'refused')), '/s'], bad('refused')),
      tile('Connections by mutual TLS', share),
    );
  } else {
    const slowest = Math.max(...edges.map(({ p99Ms }) => p99Ms ?? 0), 0);
    byId('tiles').replaceChildren(
      tile(
        'Requests',
        [number(total(edges, 'requests')), '/s'],
        pick((each) => each.requests),
      ),
      tile('Errors', [number(total(edges, 'errors')), '/s'], bad('errors')),
      tile('Denied', [number(total(edges, 'refused')), '/s'], bad('refused')),
      tile(
        'Slowest p99',
        slowest > 0 ? [number(slowest), 'ms'] : ['-'],
        pick((each) => each.p99Ms),
      ),
    );
  }
}

function drawGraph(edges) {
  const graph = now?.[tab].graph;
  const isEmpty = !graph || graph.nodes.length === 0;
  byId('graph').toggleAttribute('hidden', isEmpty);
  byId('empty').hidden = !isEmpty;
  byId('empty').textContent =
    tab === 'l4'
      ? 'No traffic yet between pods of the mesh. Label a namespace istio.io/dataplane-mode=ambient.'
      : 'No requests yet at a waypoint. Deploy one: ambientctl waypoint apply -n NAMESPACE --enroll-namespace. Or have the node proxies look: label the namespace ambient-mesh.io/l7-sight=enabled.';
  if (isEmpty) return;
  const width = graph.columns * CELL.width - (CELL.width - NODE.width) + 16;
  const height = graph.rows * CELL.height + 12;
  const at = ({ column, row }) => ({
    x: 8 + column * CELL.width,
    y: height / 2 + row * CELL.height,
  });
  const links = graph.links.map((link) => {
    const parts = link.edges.map((index) => edges[index]);
    const rate = (field) => total(parts, field);
    const p99Ms = Math.max(...parts.map((part) => part.p99Ms ?? 0));
    const isObserved = parts.every((part) => part.waypoint === '');
    return drawLink({ ...link, rate, p99Ms, isObserved }, link.places.map(at));
  });
  const nodes = graph.nodes.map((node) => drawNode(node.name, at(node)));
  const view = byId('graph');
  view.setAttribute('viewBox', `0 0 ${width} ${height}`);
  view.setAttribute('width', width);
  view.setAttribute('height', height);
  view.replaceChildren(...links, ...nodes);
}

/** From node to node; where it passes a column it runs straight through its own row. */
function pathOf(points) {
  const last = points.length - 1;
  const parts = [`M${points[0].x + NODE.width},${points[0].y}`];
  for (let n = 1; n <= last; n++) {
    const from = { x: points[n - 1].x + NODE.width, y: points[n - 1].y };
    const to = { x: points[n].x - (n === last ? 7 : 0), y: points[n].y };
    const middle = (from.x + to.x) / 2;
    parts.push(`C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}`);
    if (n < last) parts.push(`L${to.x + NODE.width},${to.y}`);
  }
  return parts.join(' ');
}

/** Where the label stands: on the straight piece of a long link, else two thirds of the way. */
function labelPlace(points) {
  if (points.length > 2) return { x: points[1].x + NODE.width / 2, y: points[1].y };
  const [from, to] = points;
  const gap = to.x - from.x - NODE.width;
  return { x: from.x + NODE.width + gap * 0.56, y: from.y + (to.y - from.y) * 0.62 };
}

function drawLink(link, points) {
  const end = points[points.length - 1];
  const place = labelPlace(points);
  const [main, more] = LABELS[tab](link);
  const label = svg('text', { x: place.x, y: place.y - 6, 'text-anchor': 'middle' });
  label.textContent = main;
  const trouble = ['refused', ...(tab === 'l7' ? ['errors'] : [])].filter(
    (each) => link.rate(each) > 0,
  );
  const second = svg('text', {
    x: place.x,
    y: place.y + 14,
    'text-anchor': 'middle',
    class: 'more',
  });
  second.textContent =
    trouble.length > 0
      ? trouble
          .map((each) => `${number(link.rate(each))} ${each === 'refused' ? 'denied' : each}/s`)
          .join(' ')
      : more;
  const isBusy = link.rate(tab === 'l4' ? 'bytes' : 'requests') > 0;
  const head = `M${end.x - 1},${end.y} l-9,-5 v10 z`;
  return svg(
    'g',
    { class: `edge${isBusy ? ' busy' : ''}${trouble.length > 0 ? ' failing' : ''}` },
    svg('path', { d: pathOf(points) }),
    svg('path', { d: head, class: 'head' }),
    label,
    second,
  );
}

function drawNode(name, { x, y }) {
  const slash = name.indexOf('/');
  const middle = { x: NODE.width / 2, 'text-anchor': 'middle' };
  const title = svg('text', { ...middle, y: slash < 0 ? 28 : 21 });
  title.textContent = name.slice(slash + 1);
  const space = svg('text', { ...middle, y: 37, class: 'namespace' });
  space.textContent = slash < 0 ? '' : name.slice(0, slash);
  const hint = svg('title', {});
  hint.textContent = name;
  const box = svg('rect', { width: NODE.width, height: NODE.height, rx: 9 });
  const at = `translate(${x},${y - NODE.height / 2})`;
  return svg('g', { class: 'node', transform: at }, hint, box, title, space);
}

function drawPolicies(policies) {
  const rows = policies.flatMap(({ kind, namespace, name, parts }) =>
    parts.map(({ field, enforcedAt, reason, message }, index) => {
      const isIdle = enforcedAt === 'nowhere';
      const title = [element('div', kind, 'kind'), element('div', `${namespace}/${name}`)];
      return element('tr', [
        element('td', index === 0 ? title : ''),
        element('td', [element('code', field)]),
        element('td', [element('span', enforcedAt, `chip ${isIdle ? 'bad' : 'good'}`)]),
        element('td', [element('div', reason), element('div', message, 'soft')]),
      ]);
    }),
  );
  if (rows.length === 0)
    rows.push(element('tr', [element('td', 'No policies or routes yet.', 'soft')]));
  byId('policies').tBodies[0].replaceChildren(...rows);
  const idle = policies.filter(({ parts }) => parts.some((part) => part.enforcedAt === 'nowhere'));
  const count = byId('policy-count');
  count.textContent = policies.length > 0 ? String(policies.length) : '';
  count.classList.toggle('bad', idle.length > 0);
}

function drawProxies() {
  const chips = (now?.proxies ?? []).map(({ name, waypoint, isUp }) => {
    const kind = waypoint ? 'waypoint' : 'node proxy';
    return element(
      'span',
      `${kind} ${name}${isUp ? '' : ' does not answer'}`,
      isUp ? 'up' : 'down',
    );
  });
  byId('proxies').replaceChildren(...chips);
}

function draw() {
  byId('traffic').hidden = tab === 'policies';
  byId('policy-view').hidden = tab !== 'policies';
  if (tab !== 'policies') {
    byId('traffic').setAttribute('aria-labelledby', `tab-${tab}`);
    const edges = withRates(tab);
    drawTiles(edges);
    drawGraph(edges);
    drawTable([...edges].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)));
  }
  drawProxies();
}

function remember() {
  const sums = (kind, fields) => {
    const edges = withRates(kind);
    const slowest = Math.max(0, ...edges.map(({ p99Ms }) => p99Ms ?? 0));
    const all = fields.map((field) => [field, total(edges, field)]);
    history[kind] = [...history[kind], { ...Object.fromEntries(all), p99Ms: slowest }].slice(
      -HISTORY,
    );
  };
  sums('l4', ['bytes', 'connections', 'refused']);
  sums('l7', ['requests', 'errors', 'refused']);
}

function showState(text, mood) {
  byId('state').textContent = text;
  byId('state').className = mood;
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function refresh() {
  try {
    const [graph, policies] = await Promise.all(['api/graph', 'api/policies'].map(ask));
    if (graph.at !== now?.at) {
      before = now;
      now = graph;
      if (before) remember();
    }
    drawPolicies(policies);
    draw();
    showState('live', 'up');
  } catch {
    showState('the control plane does not answer', 'down');
  }
}

for (const button of document.querySelectorAll('[role=tab]')) {
  button.addEventListener('click', () => {
    tab = button.dataset.tab;
    for (const each of document.querySelectorAll('[role=tab]')) {
      each.setAttribute('aria-selected', String(each === button));
    }
    draw();
  });
}
for (;;) {
  await refresh();
  await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
}
