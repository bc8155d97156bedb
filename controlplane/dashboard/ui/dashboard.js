// The page: asks for the counters every two seconds, makes rates of them, draws the graph in layers.
// @ts-check
const PERIOD_MS = 2000;
const NODE = { width: 150, height: 44, gapX: 110, gapY: 26 };
const SVG = 'http://www.w3.org/2000/svg';

const byId = (id) => document.getElementById(id);
let tab = 'l4';
let before;
let now;

const keyOf = ({ source, destination, waypoint = '' }) => `${source} ${destination} ${waypoint}`;

/** Edges with rates, from two readings. A counter that went down belongs to a restarted proxy. */
function withRates(kind) {
  if (!now) return [];
  const old = new Map((before?.[kind] ?? []).map((edge) => [keyOf(edge), edge]));
  const seconds = before ? Math.max(0.5, (now.at - before.at) / 1000) : 0;
  return now[kind].map((edge) => {
    const last = old.get(keyOf(edge));
    const rate = (field) =>
      seconds === 0 || !last ? 0 : Math.max(0, (edge[field] - last[field]) / seconds);
    return { ...edge, rate };
  });
}

function text(value) {
  return typeof value === 'number' ? value.toFixed(value < 10 ? 1 : 0) : String(value ?? '-');
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
    ['Security', (edge) => (edge.isMutualTls ? 'mutual TLS' : 'plaintext')],
  ],
  l7: [
    ['Source', (edge) => edge.source],
    ['Destination', (edge) => edge.destination],
    ['Waypoint', (edge) => edge.waypoint],
    ['Requests/s', (edge) => edge.rate('requests')],
    ['Errors/s', (edge) => edge.rate('errors')],
    ['Denied/s', (edge) => edge.rate('refused')],
    ['Requests', (edge) => Math.round(edge.requests)],
    ['p50 ms', (edge) => edge.p50Ms],
    ['p99 ms', (edge) => edge.p99Ms],
  ],
};
const LABELS = {
  l4: (edge) =>
    `${text(edge.rate('connections'))} conn/s  ${text(edge.rate('bytes') / 1024)} KiB/s`,
  l7: (edge) => `${text(edge.rate('requests'))} req/s  p99 ${text(edge.p99Ms)} ms`,
};

function cell(name, content, className = '') {
  const element = document.createElement(name);
  element.textContent = text(content);
  if (className) element.className = className;
  return element;
}

function row(cells) {
  const element = document.createElement('tr');
  element.append(...cells);
  return element;
}

function drawTable(edges) {
  const columns = COLUMNS[tab];
  byId('edges').tHead.replaceChildren(row(columns.map(([name]) => cell('th', name))));
  const rows = edges.map((edge) =>
    row(
      columns.map(([, read]) => {
        const value = read(edge);
        const isNumber = typeof value === 'number';
        return cell(
          'td',
          Number.isInteger(value) ? String(value) : value,
          isNumber
            ? 'number'
            : value === 'plaintext'
              ? 'bad'
              : value === 'mutual TLS'
                ? 'good'
                : '',
        );
      }),
    ),
  );
  byId('edges').tBodies[0].replaceChildren(...rows);
}

/** Layer of each node: one more than the deepest caller, cycles cut where they are met. */
function layersOf(edges) {
  const callers = new Map();
  for (const { source, destination } of edges) {
    if (!callers.has(source)) callers.set(source, new Set());
    if (!callers.has(destination)) callers.set(destination, new Set());
    if (source !== destination) callers.get(destination).add(source);
  }
  const layers = new Map();
  const visit = (node, path) => {
    if (layers.has(node)) return layers.get(node);
    if (path.has(node)) return 0;
    path.add(node);
    const depths = [...callers.get(node)].map((caller) => visit(caller, path) + 1);
    path.delete(node);
    const layer = Math.max(0, ...depths);
    layers.set(node, layer);
    return layer;
  };
  for (const node of [...callers.keys()].sort()) visit(node, new Set());
  return layers;
}

/** Workloads called `reviews-v1` and the service `reviews` are one node: the graph is of services. */
function serviceName(name, services) {
  const found = [...services].filter((service) => name.startsWith(`${service}-`));
  return found.sort((a, b) => b.length - a.length)[0] ?? name;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

function drawGraph(edges) {
  const services = new Set(edges.map(({ destination }) => destination));
  const merged = new Map();
  for (const edge of edges) {
    const source = serviceName(edge.source, services);
    const destination = serviceName(edge.destination, services);
    const key = `${source} ${destination}`;
    if (!merged.has(key)) merged.set(key, { source, destination, parts: [] });
    merged.get(key).parts.push(edge);
  }
  const links = [...merged.values()].map(({ source, destination, parts }) => {
    const rate = (field) => parts.reduce((total, part) => total + part.rate(field), 0);
    const p99Ms = Math.max(...parts.map((part) => part.p99Ms ?? 0));
    return { source, destination, rate, p99Ms };
  });
  const layers = layersOf(links);
  const columns = [];
  for (const [node, layer] of [...layers].sort()) (columns[layer] ??= []).push(node);
  const rows = Math.max(1, ...columns.map((column) => column?.length ?? 0));
  const height = rows * (NODE.height + NODE.gapY) + NODE.gapY;
  const width = Math.max(1, columns.length) * (NODE.width + NODE.gapX) - NODE.gapX + 20;
  const places = new Map();
  columns.forEach((column, layer) => {
    const free = height - column.length * NODE.height;
    const gap = free / (column.length + 1);
    column.forEach((node, index) => {
      const x = 10 + layer * (NODE.width + NODE.gapX);
      places.set(node, { x, y: gap + index * (NODE.height + gap) });
    });
  });
  const lines = links
    .filter(({ source, destination }) => source !== destination)
    .map((link) => drawEdge(link, places.get(link.source), places.get(link.destination)));
  const nodes = [...places].map(([name, { x, y }]) => drawNode(name, x, y));
  const graph = byId('graph');
  graph.setAttribute('viewBox', `0 0 ${width} ${height}`);
  graph.replaceChildren(...lines, ...nodes);
}

function drawEdge(link, from, to) {
  const x1 = from.x + NODE.width;
  const y1 = from.y + NODE.height / 2;
  const y2 = to.y + NODE.height / 2;
  const middle = (x1 + to.x) / 2;
  const path = svg('path', { d: `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${to.x},${y2}` });
  const label = svg('text', { x: middle, y: (y1 + y2) / 2 - 6, 'text-anchor': 'middle' });
  label.textContent = LABELS[tab](link);
  const isFailing = link.rate('refused') > 0 || (tab === 'l7' && link.rate('errors') > 0);
  const isBusy = link.rate(tab === 'l4' ? 'bytes' : 'requests') > 0;
  return svg(
    'g',
    { class: `edge${isBusy ? ' busy' : ''}${isFailing ? ' failing' : ''}` },
    path,
    label,
  );
}

function drawNode(name, x, y) {
  const slash = name.indexOf('/');
  const title = svg('text', { x: NODE.width / 2, y: 20, 'text-anchor': 'middle' });
  title.textContent = name.slice(slash + 1);
  const space = svg('text', {
    x: NODE.width / 2,
    y: 36,
    'text-anchor': 'middle',
    class: 'namespace',
  });
  space.textContent = slash < 0 ? '' : name.slice(0, slash);
  const box = svg('rect', { width: NODE.width, height: NODE.height, rx: 8 });
  return svg('g', { class: 'node', transform: `translate(${x},${y})` }, box, title, space);
}

function drawPolicies(policies) {
  const rows = policies.flatMap(({ kind, namespace, name, parts }) =>
    parts.map(({ field, enforcedAt, reason, message }, index) =>
      row([
        cell('td', index === 0 ? `${kind} ${namespace}/${name}` : ''),
        cell('td', field),
        cell('td', enforcedAt, enforcedAt === 'nowhere' ? 'bad' : 'good'),
        cell('td', reason),
        cell('td', message),
      ]),
    ),
  );
  byId('policies').tBodies[0].replaceChildren(...rows);
}

function drawProxies() {
  const words = (now?.proxies ?? []).map(
    ({ name, waypoint, isUp }) =>
      `${waypoint ? 'waypoint' : 'node proxy'} ${name} ${isUp ? 'up' : 'DOWN'}`,
  );
  byId('proxies').textContent = words.join('  |  ');
}

function draw() {
  byId('graph-view').hidden = tab === 'policies';
  byId('policy-view').hidden = tab !== 'policies';
  if (tab !== 'policies') {
    const edges = withRates(tab).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
    drawGraph(edges);
    drawTable(edges);
  }
  drawProxies();
}

async function refresh() {
  try {
    const [graph, policies] = await Promise.all(
      ['api/graph', 'api/policies'].map((path) => fetch(path).then((answer) => answer.json())),
    );
    if (graph.at !== now?.at) {
      before = now;
      now = graph;
    }
    drawPolicies(policies);
    draw();
    byId('state').textContent = 'live';
  } catch {
    byId('state').textContent = 'the control plane does not answer';
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
await refresh();
setInterval(refresh, PERIOD_MS);
