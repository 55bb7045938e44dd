// The page of one run, or of the difference of two: the graph of its specs, a timeline, and a panel that says why.
//
// All texts of the data are set as text, never as markup. Nothing is loaded: data, layout library and this script are in the
// page. The same data gives the same picture: no random numbers, no clock, no measuring of texts decides where a box goes.
//
// In parts: the data and what follows from it; which boxes stand for which specs; where they go; drawing and moving about;
// the panel; search and filters; the timeline; the start.

'use strict';
(() => {
  // ---------------------------------------------------------------------------------------------------------------- limits

  const LIMITS = {
    boxes: 200, // in a view that nobody expanded
    pins: 200, // boxes that were asked for one by one, beyond those
    burst: 25, // specs that one click unfolds
    folds: 60, // groups; what is left is grouped by outcome alone
    tier: 24, // of a tier of interest that does not fit as a whole
    roots: 12, // that nobody asked for
    routed: 600, // edges that the layout sees
    spanned: 1600, // columns that these pass, in all
    drawn: 1500, // edges that are drawn
    list: 200, // entries of a list in the panel
    found: 50, // results of a search
    kinds: 60, // kinds among the filters
    block: 8, // boxes of one kind with the same neighbours that become a block
  };
  const BOX = { width: 252, height: 44, gapX: 84, gapY: 14, lead: 10 };

  // The shapes are drawn in a square of 16.
  const OUTCOMES = new Map([
    ['failed', { word: 'failed', said: 'It failed, and so did what needs it.', shape: 'M4.5 4.5l7 7M11.5 4.5l-7 7' }],
    ['executed', { word: 'ran', said: 'It ran, and came to a new value.', shape: 'M6 4v8l6-4z' }],
    ['cut_off', { word: 'ran, same result', said: 'It ran and came to the value that it had before, so nothing had to run again because of it.', shape: 'M4 6.2h8M4 9.8h8' }],
    ['observed', { word: 'looked at', said: 'The outside world was looked at.', shape: 'M2.5 8C5 4.6 11 4.6 13.5 8C11 11.4 5 11.4 2.5 8zM8 7.6v.8' }],
    ['verified', { word: 'held', said: 'Its earlier result was checked and holds; it did not run.', shape: 'M4 8.4l2.8 2.8L12 5' }],
    ['pending', { word: 'unfinished', said: 'It was not finished when the run ended.', shape: 'M4 8h.01M8 8h.01M12 8h.01' }],
  ]);
  const ROLES = new Map([
    ['query', 'a query: computes from what it asks for'],
    ['action', 'an action: does work'],
    ['effect', 'an effect: changes something outside'],
    ['observation', 'an observation: looks at the outside world'],
  ]);
  const DIFFERENCES = new Map([
    ['added', { word: 'added', said: 'Only this run has it.', mark: '+' }],
    ['removed', { word: 'removed', said: 'Only the run compared with has it.', mark: '\u2212' }],
    ['changed', { word: 'changed', said: 'Both runs have it, and it differs.', mark: '~' }],
    ['same', { word: 'same', said: 'It is the same in both runs.', mark: '' }],
  ]);
  const RAN = ['executed', 'cut_off', 'failed'];

  // ------------------------------------------------------------------------------------------------------------------ tools

  const $ = (selector, root = document) => root.querySelector(selector);

  /** Makes an element. Children that are strings become text; `on` holds listeners. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      else element.setAttribute(name, value === true ? '' : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  function drawn(tag, attributes) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  const outcomeOf = (outcome) => OUTCOMES.get(outcome) ?? { word: outcome, said: outcome, shape: OUTCOMES.get('pending').shape };

  function sign(outcome) {
    const svg = drawn('svg', { class: 'sign', viewBox: '0 0 16 16', 'data-outcome': outcome, 'aria-hidden': 'true' });
    svg.append(drawn('path', { d: outcomeOf(outcome).shape }));
    return svg;
  }

  function mark(kind) {
    const text = kind === 'critical' ? '\u25c6' : DIFFERENCES.get(kind).mark;
    return make('span', { class: 'mark', 'data-mark': kind, 'aria-hidden': 'true' }, text);
  }

  const number = (value) => value.toLocaleString('en-US');
  const count = (value, word) => `${number(value)} ${word}${value === 1 ? '' : 's'}`;
  const cut = (text, length) => (text.length > length ? `${text.slice(0, length)}\u2026` : text);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function duration(us) {
    if (us < 1000) return `${Math.round(us)} \u00b5s`;
    if (us < 1e6) return `${(us / 1e3).toPrecision(us < 1e5 ? 2 : 3)} ms`;
    if (us < 6e7) return `${(us / 1e6).toPrecision(3)} s`;
    const seconds = Math.round(us / 1e6);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  }

  function moment(text) {
    const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)$/.exec(text);
    return parts ? `${parts[1]} ${parts[2]} UTC` : text;
  }

  // ------------------------------------------------------------------------------------------------------------------- data

  const data = JSON.parse($('#doge-data').textContent);
  const nodes = data.nodes.map((node) => ({
    ...node,
    name: String(node.name ?? ''),
    kind: String(node.kind ?? ''),
    outcome: String(node.outcome),
    cost: Number(node.cost_us) || 0,
    started: Number.isFinite(node.started_us) ? node.started_us : null,
    changes: node.changes ?? [],
    more: node.more_changes ?? 0,
  }));
  const size = nodes.length;
  const comparing = Boolean(data.against);
  const placeOf = new Map(nodes.map((node, place) => [node.id, place]));
  const asked = nodes.map((node, place) => {
    const places = (node.asked ?? []).map((id) => placeOf.get(id)).filter((other) => other !== undefined && other !== place);
    return [...new Set(places)];
  });
  const askers = nodes.map(() => []);
  asked.forEach((places, place) => places.forEach((other) => askers[other].push(place)));

  /** The length of the longest chain of askers above each spec. What is on a cycle is put below what was settled. */
  const depth = (() => {
    const depths = new Int32Array(size);
    const waiting = Int32Array.from(askers, (list) => list.length);
    const ready = [];
    for (let place = 0; place < size; place++) if (waiting[place] === 0) ready.push(place);
    const settled = new Uint8Array(size);
    let next = 0;
    for (let rest = 0; next < ready.length || rest < size; ) {
      if (next === ready.length) {
        if (!settled[rest]) ready.push(rest);
        rest++;
        continue;
      }
      const place = ready[next++];
      if (settled[place]) continue;
      settled[place] = 1;
      for (const other of asked[place]) {
        if (settled[other]) continue;
        depths[other] = Math.max(depths[other], depths[place] + 1);
        if (--waiting[other] === 0) ready.push(other);
      }
    }
    return depths;
  })();

  /** How much a spec deserves a box of its own: the smaller the more. */
  const TIERS = 8;
  const tierOf = nodes.map((node, place) => {
    if (node.outcome === 'failed') return 0;
    if (node.critical) return 1;
    if (comparing && node.difference && node.difference !== 'same') return 2;
    if (node.outcome === 'pending' || (node.outcome === 'observed' && node.changes.length > 0)) return 3;
    if (node.outcome === 'executed') return 4;
    if (node.outcome === 'cut_off') return 5;
    if (askers[place].length === 0) return 6;
    return 7;
  });
  const byInterest = (a, b) => tierOf[a] - tierOf[b] || nodes[b].cost - nodes[a].cost || a - b;
  const byCost = (a, b) => nodes[b].cost - nodes[a].cost || a - b;

  // ------------------------------------------------------------------------------------------------------------------ state

  const state = {
    tab: 'graph',
    selected: null, // the place of a spec
    fold: null, // the key of a fold
    scope: null, // { way, place, members, size }
    outcomes: new Set(),
    kinds: new Set(),
    differences: new Set(),
    pinned: new Set(),
    query: '',
    hits: null,
  };
  let view = { boxes: [], edges: [], frames: [], folds: new Map(), boxOf: new Int32Array(size).fill(-1), specs: 0, width: 0, height: 0 };

  const isFiltered = () => state.outcomes.size + state.kinds.size + state.differences.size > 0;
  const passes = (node) =>
    (state.outcomes.size === 0 || state.outcomes.has(node.outcome)) &&
    (state.kinds.size === 0 || state.kinds.has(node.kind)) &&
    (state.differences.size === 0 || state.differences.has(node.difference));

  /** All that is reached over `next`, the start included. */
  function reach(start, next) {
    const members = new Uint8Array(size);
    members[start] = 1;
    const queue = [start];
    for (let at = 0; at < queue.length; at++) {
      for (const other of next[queue[at]]) {
        if (!members[other]) {
          members[other] = 1;
          queue.push(other);
        }
      }
    }
    return { members, size: queue.length };
  }

  // ---------------------------------------------------------------------------------------------------------- boxes of a view

  /** Decides which specs are seen, which of them have a box of their own, and into which boxes the others are folded. */
  function compose() {
    const seen = new Uint8Array(size);
    const list = [];
    for (let place = 0; place < size; place++) {
      const within = !state.scope || state.scope.members[place];
      if ((within && passes(nodes[place])) || place === state.selected) {
        seen[place] = 1;
        list.push(place);
      }
    }

    const choice = list.length <= LIMITS.boxes ? null : choose(list, seen);
    const groups = new Map();
    const own = [];
    for (const place of list) {
      if (!choice || choice.chosen.has(place)) own.push(place);
      else {
        const key = choice.keyOf(place);
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(place);
      }
    }

    const boxes = [];
    const boxOf = new Int32Array(size).fill(-1);
    const folds = new Map();
    const add = (box, members) => {
      box.index = boxes.length;
      for (const place of members) boxOf[place] = box.index;
      box.depth = members.reduce((sum, place) => sum + depth[place], 0) / members.length;
      boxes.push(box);
    };
    for (const place of own) add({ id: `n${place}`, place, width: BOX.width, height: BOX.height }, [place]);
    for (const [key, members] of groups) {
      if (members.length === 1) add({ id: `n${members[0]}`, place: members[0], width: BOX.width, height: BOX.height }, members);
      else {
        const first = nodes[members[0]];
        const mixed = members.some((place) => nodes[place].kind !== first.kind);
        const fold = {
          id: `f${key}`, key, members, kind: mixed ? 'other kinds' : first.kind, outcome: first.outcome,
          difference: comparing ? first.difference : null, cost: members.reduce((sum, place) => sum + nodes[place].cost, 0),
          width: BOX.width, height: BOX.height,
        };
        folds.set(key, fold);
        add(fold, members);
      }
    }
    return { boxes, boxOf, folds, specs: list.length, seen, edges: connect(boxes, boxOf, seen) };
  }

  const groupKey = (node) => `${node.kind}|${node.outcome}${comparing ? `|${node.difference}` : ''}`;
  const looseKey = (node) => `|${node.outcome}${comparing ? `|${node.difference}` : ''}`;

  /** The specs with boxes of their own, of more than fit: what is of interest, what was asked for, and the chains between. */
  function choose(list, seen) {
    const sizes = new Map();
    for (const place of list) {
      const key = groupKey(nodes[place]);
      sizes.set(key, (sizes.get(key) ?? 0) + 1);
    }
    let kept = null;
    if (sizes.size > LIMITS.folds) {
      const largest = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, LIMITS.folds - 24);
      kept = new Set(largest.map(([key]) => key));
    }
    const keyOf = (place) => {
      const key = groupKey(nodes[place]);
      return !kept || kept.has(key) ? key : looseKey(nodes[place]);
    };

    const room = LIMITS.boxes - Math.min(sizes.size, LIMITS.folds);
    const chosen = new Set();
    const tiers = Array.from({ length: TIERS - 1 }, () => []);
    for (const place of list) if (tierOf[place] < TIERS - 1) tiers[tierOf[place]].push(place);
    // A quarter of the room is for the chains between them.
    for (const tier of tiers) {
      const left = Math.floor(room * 0.75) - chosen.size;
      const most = tier === tiers[6] ? Math.min(LIMITS.roots, left) : left;
      const some = tier.length <= most ? tier : tier.sort(byCost).slice(0, Math.min(LIMITS.tier, most));
      for (const place of some) chosen.add(place);
    }
    join(chosen, seen, room);
    for (const place of state.pinned) if (seen[place]) chosen.add(place);
    if (state.selected !== null) chosen.add(state.selected);
    return { chosen, keyOf };
  }

  /** Adds the shortest chains of askers that lead from a chosen spec up to another one, or to one that nobody asked for. */
  function join(chosen, seen, room) {
    const from = new Int32Array(size);
    for (const start of [...chosen].sort((a, b) => depth[a] - depth[b] || a - b)) {
      if (chosen.size >= room) return;
      if (askers[start].some((place) => chosen.has(place))) continue;
      from.fill(-1);
      from[start] = start;
      const queue = [start];
      let end = -1;
      for (let at = 0; at < queue.length && end < 0; at++) {
        for (const place of askers[queue[at]]) {
          if (!seen[place] || from[place] >= 0) continue;
          from[place] = queue[at];
          queue.push(place);
          if (chosen.has(place) || askers[place].length === 0) {
            end = place;
            break;
          }
        }
      }
      const chain = [];
      for (let place = end; place >= 0 && place !== start; place = from[place]) chain.push(place);
      if (chain.length > 0 && chosen.size + chain.length <= room) for (const place of chain) chosen.add(place);
    }
  }

  /** The edges between boxes, and, where filters hide what lies between, those that lead through it. */
  function connect(boxes, boxOf, seen) {
    const edges = new Map();
    const edge = (a, b) => {
      const key = a * 65536 + b;
      let found = edges.get(key);
      if (!found) edges.set(key, (found = { a, b, count: 0, via: true, ran: false, critical: false }));
      return found;
    };
    // Where nearly everything ran, that says nothing.
    const telling = nodes.filter((node) => RAN.includes(node.outcome)).length * 2 < size;
    const worked = (place) => tierOf[place] <= 5 && (RAN.includes(nodes[place].outcome) || tierOf[place] === 3 || tierOf[place] === 2);
    for (let place = 0; place < size; place++) {
      if (!seen[place]) continue;
      for (const other of asked[place]) {
        if (!seen[other] || boxOf[place] === boxOf[other]) continue;
        const found = edge(boxOf[place], boxOf[other]);
        found.via = false;
        found.count++;
        if (nodes[place].critical && nodes[other].critical) found.critical = true;
        if (telling && worked(place) && worked(other) && RAN.includes(nodes[place].outcome)) found.ran = true;
      }
    }
    if (isFiltered()) {
      const reached = new Int32Array(size).fill(-1);
      for (const box of boxes) {
        const queue = [...(box.members ?? [box.place])];
        const own = queue.length;
        for (let at = 0; at < queue.length; at++) {
          for (const other of asked[queue[at]]) {
            if (reached[other] === box.index) continue;
            reached[other] = box.index;
            if (!seen[other]) queue.push(other);
            else if (at >= own && boxOf[other] !== box.index) edge(box.index, boxOf[other]).count++;
          }
        }
      }
    }
    return [...edges.values()];
  }

  // ----------------------------------------------------------------------------------------------------------------- layout

  /**
   * Gives each box its place, from left to right. Boxes of one kind and outcome with the very same neighbours are laid out as
   * a block, boxes without neighbours as a block below all others.
   */
  function arrange(composed) {
    const { boxes, edges } = composed;
    const before = (a, b) => boxes[a].depth - boxes[b].depth || a - b;
    const ins = boxes.map(() => []);
    const outs = boxes.map(() => []);
    for (const { a, b } of edges) {
      outs[a].push(b);
      ins[b].push(a);
    }

    const blocks = new Map();
    const loose = [];
    for (const box of boxes) {
      if (ins[box.index].length + outs[box.index].length === 0) {
        loose.push(box);
        continue;
      }
      if (box.members || nodes[box.place].critical) continue;
      const node = nodes[box.place];
      const key = JSON.stringify([ins[box.index].sort((a, b) => a - b), outs[box.index].sort((a, b) => a - b), node.kind, node.outcome, node.difference]);
      if (!blocks.has(key)) blocks.set(key, []);
      blocks.get(key).push(box);
    }
    const leader = boxes.map((box) => box.index);
    const blockOf = new Map();
    for (const members of blocks.values()) {
      if (members.length < LIMITS.block) continue;
      for (const box of members) leader[box.index] = members[0].index;
      blockOf.set(members[0].index, { members, ...grid(members.length) });
    }

    const graph = new dagre.graphlib.Graph();
    graph.setDefaultEdgeLabel(() => ({}));
    for (const box of boxes) {
      if (leader[box.index] !== box.index || loose.includes(box)) continue;
      const block = blockOf.get(box.index);
      const room = box.members ? 8 : 0;
      graph.setNode(String(box.index), { width: (block?.width ?? box.width) + room, height: (block?.height ?? box.height) + room });
    }

    // Edges between the same leaders are one line. What the layout gets always points from the smaller depth to the larger, so
    // it never meets a cycle.
    const lines = new Map();
    for (const edge of edges) {
      const a = leader[edge.a];
      const b = leader[edge.b];
      const key = a * 65536 + b;
      const line = lines.get(key) ?? { a, b, pairs: [], via: true, ran: false, critical: false, points: [] };
      line.pairs.push(edge);
      line.via &&= edge.via;
      line.ran ||= edge.ran;
      line.critical ||= edge.critical;
      lines.set(key, line);
    }
    const sorted = [...lines.values()].sort(
      (a, b) => b.critical - a.critical || b.ran - a.ran || a.via - b.via || before(a.a, b.a) || before(a.b, b.b),
    );
    for (const line of sorted) {
      line.flipped = before(line.a, line.b) > 0;
      [line.from, line.to] = line.flipped ? [line.b, line.a] : [line.a, line.b];
    }
    const routed = affordable(sorted, before);
    for (const line of routed) {
      const { from, to } = line;
      graph.setEdge(String(from), String(to), { weight: line.critical ? 4 : line.ran ? 2 : 1 });
    }
    graph.setGraph({
      rankdir: 'LR', nodesep: BOX.gapY, ranksep: BOX.gapX, edgesep: 5,
      ranker: routed.length <= 260 ? 'network-simplex' : 'tight-tree',
    });
    if (graph.nodeCount() > 0) dagre.layout(graph);

    let width = 0;
    let height = 0;
    const frames = [];
    const columns = new Map(); // the middle of each column, and half its width with the ends of lines
    for (const id of graph.nodes()) {
      const { x, width: wide } = graph.node(id);
      columns.set(Math.round(x), Math.max(columns.get(Math.round(x)) ?? 0, wide / 2 + BOX.lead));
    }
    for (const id of graph.nodes()) {
      const box = boxes[Number(id)];
      const at = graph.node(id);
      const left = Math.round(at.x - at.width / 2);
      const top = Math.round(at.y - at.height / 2);
      width = Math.max(width, left + at.width);
      height = Math.max(height, top + at.height);
      const block = blockOf.get(box.index);
      if (block) {
        frames.push({ left, top, width: block.width, height: block.height });
        block.members.forEach((member, nth) => put(member, left + 10, top + 10, nth, block));
        box.port = { left, right: left + block.width, y: top + block.height / 2 };
      } else {
        box.x = left;
        box.y = top;
      }
      box.column = { left: at.x - columns.get(Math.round(at.x)), right: at.x + columns.get(Math.round(at.x)) };
    }
    if (loose.length > 0) {
      const block = grid(loose.length);
      const top = height > 0 ? height + 56 : 0;
      loose.forEach((box, nth) => put(box, 0, top, nth, block));
      width = Math.max(width, block.width - 20);
      height = top + block.height - 20;
    }
    for (const line of routed) {
      const { from, to } = line;
      // Lines bend between columns only, and pass a column straight, where the layout left room for them.
      line.points = graph.edge(String(from), String(to)).points.slice(1, -1).flatMap(({ x, y }) => {
        const half = columns.get(Math.round(x));
        return half === undefined ? [] : [{ x: x - half, y }, { x: x + half, y }];
      });
      if (line.flipped) line.points.reverse();
    }
    return { ...composed, lines: sorted.slice(0, LIMITS.drawn), dropped: Math.max(0, sorted.length - LIMITS.drawn), frames, width, height };
  }

  /**
   * The lines that the layout gets to see: those from one column to the next, which alone decide the columns, then others
   * until they span too much. The layout's time grows with the columns that lines pass.
   */
  function affordable(lines, before) {
    const rank = new Map();
    const inOrder = [...lines].sort((x, y) => before(x.from, y.from));
    for (const { from, to } of inOrder) rank.set(to, Math.max(rank.get(to) ?? 0, (rank.get(from) ?? 0) + 1));
    const span = ({ from, to }) => rank.get(to) - (rank.get(from) ?? 0);
    let left = LIMITS.spanned;
    return [...lines.filter((line) => span(line) === 1), ...lines.filter((line) => span(line) > 1)]
      .slice(0, LIMITS.routed)
      .filter((line) => (left -= span(line)) >= 0);
  }

  function grid(length) {
    const columns = Math.max(1, Math.round(Math.sqrt(length * 0.42)));
    const rows = Math.ceil(length / columns);
    return { columns, rows, width: columns * (BOX.width + 12) - 12 + 20, height: rows * (BOX.height + 12) - 12 + 20 };
  }

  function put(box, left, top, nth, block) {
    box.x = left + Math.floor(nth / block.rows) * (BOX.width + 12);
    box.y = top + (nth % block.rows) * (BOX.height + 12);
  }

  /** A smooth line that leaves and enters boxes at their sides, and passes the points that the layout gave. */
  function pathOf(line) {
    const a = view.boxes[line.a];
    const b = view.boxes[line.b];
    const side = (box) => box.port ?? { left: box.x, right: box.x + box.width + (box.members ? 8 : 0), y: box.y + box.height / 2 };
    const backwards = side(b).left < side(a).right;
    const start = { x: backwards ? side(a).left : side(a).right, y: side(a).y };
    const end = { x: backwards ? side(b).right + 2 : side(b).left - 2, y: side(b).y };
    // Out of the own column, and into the other one, it goes straight.
    let from = { x: backwards ? a.column.left : a.column.right, y: start.y };
    const last = { x: backwards ? b.column.right : b.column.left, y: end.y };
    let d = `M${r(start.x)} ${r(start.y)}H${r(from.x)}`;
    for (const to of [...line.points, last]) {
      const bend = (to.x - from.x) / 2;
      d += `C${r(from.x + bend)} ${r(from.y)} ${r(to.x - bend)} ${r(to.y)} ${r(to.x)} ${r(to.y)}`;
      from = to;
    }
    return `${d}H${r(end.x)}`;
  }
  const r = (value) => Math.round(value * 10) / 10;

  // ---------------------------------------------------------------------------------------------------------------- drawing

  const viewport = $('[data-graph]');
  const world = $('[data-world]');
  const boxesHere = $('[data-boxes]');
  const edgesHere = $('.edges');
  const panel = $('[data-panel]');
  const status = $('[data-status]');
  const search = $('#search');

  /** Makes the view anew. `keep` is the id of a box that stays where it is on the screen; else all is fitted. */
  function refresh(keep = null) {
    const before = keep && view.boxes.find((box) => box.id === keep);
    view = arrange(compose());
    const focused = boxesHere.contains(document.activeElement) ? document.activeElement.dataset.box : null;
    draw();
    const after = keep && view.boxes.find((box) => box.id === keep);
    if (before && after) {
      moveTo({ ...camera, x: camera.x + (before.x - after.x) * camera.scale, y: camera.y + (before.y - after.y) * camera.scale });
    } else if (!keep) home();
    if (focused) focusBox(view.boxes.find((box) => box.id === focused) ?? view.boxes[0], false);
    tellStatus();
    paintTimeline();
  }

  function draw() {
    const boxes = document.createDocumentFragment();
    for (const frame of view.frames) {
      const element = make('div', { class: 'frame' });
      Object.assign(element.style, { left: `${frame.left}px`, top: `${frame.top}px`, width: `${frame.width}px`, height: `${frame.height}px` });
      boxes.append(element);
    }
    // The order of the page is the order of reading: columns from the left, each from above.
    const order = [...view.boxes].sort((a, b) => a.x - b.x || a.y - b.y || a.index - b.index);
    order.forEach((box, nth) => {
      box.element = box.members ? foldElement(box) : nodeElement(box);
      box.element.dataset.box = box.id;
      box.element.tabIndex = nth === 0 ? 0 : -1;
      Object.assign(box.element.style, { left: `${box.x}px`, top: `${box.y}px`, width: `${box.width}px`, height: `${box.height}px` });
      boxes.append(box.element);
    });
    boxesHere.replaceChildren(boxes);

    const arrow = drawn('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: 'userSpaceOnUse', orient: 'auto' });
    arrow.append(drawn('path', { d: 'M0 0.8L8 4L0 7.2z' }));
    const defs = drawn('defs', {});
    defs.append(arrow);
    const lines = document.createDocumentFragment();
    for (const line of [...view.lines].reverse()) {
      const kinds = [line.via && 'via', line.ran && 'ran', line.critical && 'critical'].filter(Boolean).join(' ');
      line.element = drawn('path', { d: pathOf(line), class: kinds, 'marker-end': 'url(#arrow)' });
      lines.append(line.element);
    }
    edgesHere.replaceChildren(defs, lines);
    viewport.dataset.boxCount = view.boxes.length;

    const empty = $('[data-empty]');
    empty.hidden = view.boxes.length > 0;
    empty.textContent = size === 0 ? 'This run asked for nothing.' : 'No spec passes the filters.';
    markBoxes();
  }

  function nodeElement(box) {
    const node = nodes[box.place];
    const differs = comparing && node.difference && node.difference !== 'same' ? node.difference : null;
    const said = [
      `${outcomeOf(node.outcome).word}: ${cut(node.name, 200)}`, node.kind, node.cost > 0 && `took ${duration(node.cost)}`,
      differs, node.critical && 'on the critical path',
    ].filter(Boolean).join(', ');
    return make('button', {
      type: 'button', class: `box${node.critical ? ' critical' : ''}${differs ? ` ${differs}` : ''}`, 'data-node-id': node.id,
      'data-outcome': node.outcome, 'data-difference': comparing ? node.difference : null, 'aria-label': said,
      title: `${cut(node.name, 400)}\n${node.kind}: ${outcomeOf(node.outcome).word}`,
    },
      sign(node.outcome),
      make('span', { class: 'kind' }, node.kind),
      make('span', { class: 'side' }, node.cost > 0 && make('span', {}, duration(node.cost)), node.critical && mark('critical'), differs && mark(differs)),
      make('span', { class: 'name' }, cut(node.name, 300) || '\u2014'),
    );
  }

  function foldElement(box) {
    const differs = comparing && box.difference && box.difference !== 'same' ? box.difference : null;
    const word = outcomeOf(box.outcome).word;
    return make('button', {
      type: 'button', class: 'box fold', 'data-fold': box.key, 'data-fold-count': box.members.length, 'data-outcome': box.outcome,
      'aria-label': `${number(box.members.length)} times ${box.kind}, ${word}${differs ? `, ${differs}` : ''}; opens the list`,
      title: `${count(box.members.length, 'spec')} of ${box.kind}: ${word}`,
    },
      sign(box.outcome),
      make('span', { class: 'kind' }, box.kind),
      make('span', { class: 'side' }, differs && mark(differs), make('span', { class: 'many' }, `\u00d7\u2009${number(box.members.length)}`)),
      make('span', { class: 'name' }, `${word}${box.cost > 0 ? `, ${duration(box.cost)} in all` : ''}`),
    );
  }

  /** Marks what is selected, its edges, and what the search found. */
  function markBoxes() {
    const chosen = state.selected !== null ? view.boxOf[state.selected] : state.fold !== null ? view.folds.get(state.fold)?.index ?? -1 : -1;
    const hit = new Set();
    for (const place of state.hits ?? []) if (view.boxOf[place] >= 0) hit.add(view.boxOf[place]);
    for (const box of view.boxes) {
      box.element.classList.toggle('chosen', box.index === chosen);
      box.element.classList.toggle('hit', hit.has(box.index));
      if (box.index === chosen) box.element.setAttribute('aria-current', 'true');
      else box.element.removeAttribute('aria-current');
    }
    edgesHere.classList.toggle('choosing', chosen >= 0);
    for (const line of view.lines) {
      const near = chosen >= 0 && line.pairs.some((pair) => pair.a === chosen || pair.b === chosen);
      line.element.classList.toggle('near', near);
    }
  }

  function tellStatus() {
    const parts = [];
    const folded = view.folds.size > 0;
    let text = view.specs === size ? `All ${count(size, 'spec')}` : `${number(view.specs)} of ${count(size, 'spec')}`;
    if (folded) text = `${count(view.boxes.length, 'box').replace('boxs', 'boxes')} for ${view.specs === size ? '' : `${number(view.specs)} of `}${count(size, 'spec')}`;
    if (view.dropped > 0) text += `, without ${number(view.dropped)} edges`;
    parts.push(make('span', { 'data-count': view.specs }, text));
    if (state.scope) {
      const way = state.scope.way === 'above' ? 'What depends on ' : 'What it depends on: ';
      parts.push(make('span', { class: 'scope', 'data-scope': state.scope.way }, way, make('bdi', {}, cut(nodes[state.scope.place].name, 80))));
    }
    const pinned = folded ? [...state.pinned].filter((place) => view.seen[place]).length : 0;
    if (pinned > 0) {
      parts.push(make('button', { type: 'button', class: 'plain-button', 'data-refold': true, on: { click: refold } }, `Fold ${number(pinned)} again`));
    }
    if (state.scope) parts.push(make('button', { type: 'button', class: 'plain-button', 'data-show-all': true, on: { click: showAll } }, 'Show all'));
    status.replaceChildren(...parts);
  }

  function refold() {
    state.pinned.clear();
    refresh();
  }

  function showAll() {
    state.scope = null;
    const keep = state.selected !== null ? `n${state.selected}` : null;
    refresh();
    if (keep) reveal(view.boxes[view.boxOf[state.selected]]);
    if (state.selected !== null) showNode(state.selected);
  }

  // ------------------------------------------------------------------------------------------------------------ moving about

  let camera = { x: 0, y: 0, scale: 1 };
  let flight = 0;
  let untouched = true; // by the person: then it is fitted again when the window changes
  const calm = matchMedia('(prefers-reduced-motion: reduce)');

  function moveTo(target, by = 'person') {
    cancelAnimationFrame(flight);
    untouched = by === 'home';
    camera = target;
    world.style.transform = `translate(${camera.x}px, ${camera.y}px) scale(${camera.scale})`;
    world.classList.toggle('far', camera.scale < 0.62);
  }

  function flyTo(target) {
    if (calm.matches) return moveTo(target);
    const from = camera;
    const start = performance.now();
    const step = (now) => {
      const part = clamp((now - start) / 180, 0, 1);
      const eased = 1 - (1 - part) ** 3;
      const between = (a, b) => a + (b - a) * eased;
      moveTo({ x: between(from.x, target.x), y: between(from.y, target.y), scale: between(from.scale, target.scale) });
      if (part < 1) flight = requestAnimationFrame(step);
    };
    cancelAnimationFrame(flight);
    flight = requestAnimationFrame(step);
  }

  const smallest = () => Math.min(0.1, fitting().scale);

  function fitting() {
    const margin = 40;
    const top = 56;
    const { clientWidth, clientHeight } = viewport;
    const scale = clamp(Math.min((clientWidth - 2 * margin) / (view.width || 1), (clientHeight - top - margin) / (view.height || 1)), 0.02, 1.1);
    return { scale, x: (clientWidth - view.width * scale) / 2, y: top + (clientHeight - top - margin - view.height * scale) / 2 };
  }

  /** Where a view begins: all of it, or, if its boxes could not be told apart then, the part of most interest. */
  function home() {
    const all = fitting();
    if (all.scale >= 0.3 || view.boxes.length === 0) return moveTo(all, 'home');
    const { clientWidth, clientHeight } = viewport;
    const scale = clamp((clientWidth - 80) / view.width, 0.42, 0.7);
    const focus = view.boxes.reduce((best, box) => (interest(box) < interest(best) ? box : best));
    const x = view.width * scale <= clientWidth - 80 ? (clientWidth - view.width * scale) / 2 : clamp(clientWidth / 2 - focus.x * scale, clientWidth - 40 - view.width * scale, 40);
    const y = clamp(clientHeight / 2 - focus.y * scale, clientHeight - 40 - view.height * scale, 60);
    moveTo({ x, y, scale }, 'home');
  }
  const interest = (box) => (box.members ? 10 : tierOf[box.place]) + box.depth / 1e6;

  function zoomAt(x, y, factor, fly = false) {
    const scale = clamp(camera.scale * factor, smallest(), 3);
    const by = scale / camera.scale;
    (fly ? flyTo : moveTo)({ scale, x: x - (x - camera.x) * by, y: y - (y - camera.y) * by });
  }
  const zoomBy = (factor) => zoomAt(viewport.clientWidth / 2, viewport.clientHeight / 2, factor, true);

  const DOUBLE = 320; // milliseconds, after which a click is a single one
  let clickedAt = -DOUBLE;
  let clicked = null;
  let later = 0;

  /** Moves as little as needed to have a box in sight. After a click on it that waits, lest a second one meets something else. */
  function reveal(box, closer = false, keepScale = false) {
    if (!box || state.tab !== 'graph') return;
    clearTimeout(later);
    const since = performance.now() - clickedAt;
    if (!closer && clicked?.id === box.id && since < DOUBLE) {
      later = setTimeout(() => reveal(view.boxes.find((other) => other.id === box.id), false, true), DOUBLE - since + 1);
      return;
    }
    const { clientWidth, clientHeight } = viewport;
    let { x, y, scale } = camera;
    const legible = keepScale || scale >= 0.5;
    if (closer || !legible) {
      scale = closer ? Math.max(1, scale) : 0.8;
      x = clientWidth / 2 - (box.x + box.width / 2) * scale;
      y = clientHeight / 2 - (box.y + box.height / 2) * scale;
    } else {
      const left = box.x * scale + x;
      const top = box.y * scale + y;
      x += Math.max(0, 24 - left) - Math.max(0, left + box.width * scale - clientWidth + 24);
      y += Math.max(0, 64 - top) - Math.max(0, top + box.height * scale - clientHeight + 64);
    }
    if (x !== camera.x || y !== camera.y || scale !== camera.scale) flyTo({ x, y, scale });
  }

  /** What a double click does. */
  function enter(box) {
    if (box.members) unfold(box.key);
    else reveal(box, true);
  }

  function focusBox(box, show = true) {
    if (!box) return;
    for (const other of view.boxes) other.element.tabIndex = other === box ? 0 : -1;
    box.element.focus({ preventScroll: true });
    if (show) reveal(box);
  }

  /** The box that an arrow key leads to: over an edge where there is one that way, else the nearest. */
  function neighbour(box, key) {
    const sideways = key === 'ArrowLeft' || key === 'ArrowRight';
    const ahead = key === 'ArrowRight' || key === 'ArrowDown' ? 1 : -1;
    const along = (other) => ahead * (sideways ? other.x - box.x : other.y - box.y);
    const across = (other) => Math.abs(sideways ? other.y - box.y : other.x - box.x);
    const linked = new Set();
    if (sideways) {
      for (const edge of view.edges) {
        if (edge.a === box.index) linked.add(edge.b);
        if (edge.b === box.index) linked.add(edge.a);
      }
    }
    let best = null;
    for (const other of view.boxes) {
      if (other === box || along(other) <= 0) continue;
      const far = along(other) + across(other) * 3 + (sideways && !linked.has(other.index) ? 1e5 : 0);
      if (!best || far < best.far) best = { other, far };
    }
    return best?.other;
  }

  function listenToGraph() {
    const fingers = new Map();
    let moved = false;
    let down = null;
    const local = (event) => {
      const { left, top } = viewport.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    };
    viewport.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      if (fingers.size === 0) moved = false;
      fingers.set(event.pointerId, local(event));
      down = local(event);
    });
    viewport.addEventListener('pointermove', (event) => {
      const was = fingers.get(event.pointerId);
      if (!was) return;
      const now = local(event);
      if (!moved && Math.hypot(now.x - down.x, now.y - down.y) < 4) return;
      if (!moved) viewport.setPointerCapture(event.pointerId);
      moved = true;
      viewport.classList.add('dragging');
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const factor = Math.hypot(now.x - other.x, now.y - other.y) / (Math.hypot(was.x - other.x, was.y - other.y) || 1);
        zoomAt((now.x + other.x) / 2, (now.y + other.y) / 2, factor);
      }
      const share = fingers.size === 2 ? 0.5 : 1;
      moveTo({ ...camera, x: camera.x + (now.x - was.x) * share, y: camera.y + (now.y - was.y) * share });
      fingers.set(event.pointerId, now);
    });
    const up = (event) => {
      fingers.delete(event.pointerId);
      if (fingers.size === 0) viewport.classList.remove('dragging');
    };
    viewport.addEventListener('pointerup', up);
    viewport.addEventListener('pointercancel', up);
    viewport.addEventListener('wheel', (event) => {
      event.preventDefault();
      const { x, y } = local(event);
      const lines = event.deltaMode === 1 ? 16 : 1;
      zoomAt(x, y, Math.exp(-clamp(event.deltaY * lines, -240, 240) * (event.ctrlKey ? 0.01 : 0.0018)));
    }, { passive: false });
    // The browser scrolls to what it focuses or finds; here that is the camera's part.
    viewport.addEventListener('scroll', () => {
      const { scrollLeft, scrollTop } = viewport;
      if (scrollLeft === 0 && scrollTop === 0) return;
      viewport.scrollTo(0, 0);
      moveTo({ ...camera, x: camera.x - scrollLeft, y: camera.y - scrollTop });
    });

    const boxAt = (event) => view.boxes.find((box) => box.element === event.target.closest('.box'));
    viewport.addEventListener('click', (event) => {
      // Not every browser sends the click that ends a drag to the one who caught the pointer.
      const dragged = moved;
      moved = false;
      if (dragged) return;
      const box = boxAt(event);
      if (!box) return;
      clickedAt = performance.now();
      clicked = { id: box.id, x: event.clientX, y: event.clientY };
      focusBox(box, false);
      if (box.members) openFold(box.key);
      else go(box.place);
    });
    viewport.addEventListener('dblclick', (event) => {
      const box = boxAt(event);
      if (!box) {
        const { x, y } = local(event);
        zoomAt(x, y, 1.6, true);
      } else enter(box);
    });
    // The panel that the first click opened may lie where the second one meets it.
    document.addEventListener('click', (event) => {
      if (!panel.contains(event.target) || !clicked || performance.now() - clickedAt > DOUBLE) return;
      if (Math.hypot(event.clientX - clicked.x, event.clientY - clicked.y) > 6) return;
      event.preventDefault();
      event.stopPropagation();
      const box = view.boxes.find((one) => one.id === clicked.id);
      clicked = null;
      if (box) enter(box);
    }, true);
    viewport.addEventListener('keydown', (event) => {
      const box = boxAt(event);
      if (!box || !event.key.startsWith('Arrow') || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      focusBox(neighbour(box, event.key));
    });
    for (const button of document.querySelectorAll('[data-zoom]')) {
      button.addEventListener('click', () => ({ in: () => zoomBy(1.4), out: () => zoomBy(1 / 1.4), fit: () => flyTo(fitting()) })[button.dataset.zoom]());
    }
  }

  // -------------------------------------------------------------------------------------------------- selecting and unfolding

  const addressOf = (place) => `#node=${nodes[place].id}`;

  /** Goes to a spec by the address of the page, so that the way back and links work. */
  function go(place) {
    if (location.hash === addressOf(place)) select(place);
    else location.hash = addressOf(place);
  }

  function readAddress() {
    const id = /^#node=(-?\d+)$/.exec(location.hash)?.[1];
    const place = id === undefined ? undefined : placeOf.get(Number(id));
    if (place !== undefined) select(place);
    else if (state.selected !== null) {
      state.selected = null;
      if (state.fold === null) closePanel();
      markBoxes();
      paintTimeline();
    }
  }

  function select(place) {
    state.selected = place;
    state.fold = null;
    let far = false;
    if (state.scope && !state.scope.members[place]) {
      state.scope = null;
      far = true;
    }
    const box = view.boxes[view.boxOf[place]];
    showNode(place);
    if (!box || box.members || far) {
      pin([place]);
      // What it came out of may be a fold on the screen: that one is left where it is, if it still exists.
      refresh(box?.id ?? `n${place}`);
    }
    markBoxes();
    showNode(place);
    reveal(view.boxes[view.boxOf[place]]);
    revealBar(place);
  }

  function pin(places) {
    for (const place of places) {
      state.pinned.delete(place);
      state.pinned.add(place);
    }
    for (const place of state.pinned) {
      if (state.pinned.size <= LIMITS.pins) break;
      state.pinned.delete(place);
    }
  }

  const isFolded = (place) => view.boxOf[place] >= 0 && Boolean(view.boxes[view.boxOf[place]].members);

  function foldedNeighbours(place) {
    return [...new Set([...asked[place], ...askers[place]])].filter(isFolded).sort(byInterest);
  }

  function showNeighbours(place) {
    pin([place, ...foldedNeighbours(place).slice(0, LIMITS.burst)]);
    refresh(`n${place}`);
    reveal(view.boxes[view.boxOf[place]]);
    showNode(place);
  }

  function unfold(key) {
    const fold = view.folds.get(key);
    if (!fold) return;
    pin([...fold.members].sort(byInterest).slice(0, LIMITS.burst));
    refresh(fold.id);
    if (view.folds.has(key)) openFold(key);
    else closePanel();
  }

  function limitTo(way, place) {
    state.scope = { way, place, ...reach(place, way === 'above' ? askers : asked) };
    refresh();
    showNode(place);
  }

  // ------------------------------------------------------------------------------------------------------------------ panel

  function openPanel(name, ...content) {
    const close = make('button', { type: 'button', class: 'close', 'data-close': true, 'aria-label': 'Close', title: 'Close (Esc)', on: { click: leavePanel } }, '\u00d7');
    const before = panel.hidden;
    const again = panel.dataset.panel === name;
    const scrolled = panel.scrollTop;
    content[0].append(close);
    panel.hidden = false;
    panel.dataset.panel = name;
    panel.replaceChildren(...content);
    panel.scrollTop = again ? scrolled : 0;
    if (before) paintTimeline();
  }

  function closePanel() {
    if (panel.hidden) return;
    panel.hidden = true;
    panel.dataset.panel = '';
    panel.replaceChildren();
    paintTimeline();
  }

  function leavePanel() {
    const back = state.selected !== null ? view.boxes[view.boxOf[state.selected]] : view.folds.get(state.fold);
    const inside = panel.contains(document.activeElement);
    state.selected = null;
    state.fold = null;
    closePanel();
    markBoxes();
    paintTimeline();
    if (location.hash !== '' && location.hash !== '#') location.hash = '';
    if (inside && back && state.tab === 'graph') focusBox(back, false);
  }

  function link(place) {
    const node = nodes[place];
    return make('a', {
      class: 'link', href: addressOf(place), 'data-link-id': node.id,
      on: {
        click: (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey || location.hash !== addressOf(place)) return;
          event.preventDefault();
          select(place);
        },
      },
    }, ...wordsOf(node));
  }

  function wordsOf(node) {
    const differs = comparing && node.difference && node.difference !== 'same' ? node.difference : null;
    return [
      sign(node.outcome),
      make('span', { class: 'words' },
        make('span', { class: 'name' }, cut(node.name, 200) || '\u2014'),
        make('span', { class: 'kind' }, node.kind, make('span', { class: 'unseen' }, `, ${outcomeOf(node.outcome).word}`))),
      differs && mark(differs),
      node.critical && mark('critical'),
      node.cost > 0 && make('span', { class: 'took' }, duration(node.cost)),
    ];
  }

  function linkList(places, name) {
    const shown = places.slice(0, LIMITS.list);
    return [
      make('ul', { 'data-list': name }, shown.map((place) => make('li', {}, link(place)))),
      places.length > shown.length && make('p', { class: 'more', 'data-more': places.length - shown.length }, `and ${number(places.length - shown.length)} more`),
    ].filter(Boolean);
  }

  const act = (text, name, listener, pressed) =>
    make('button', { type: 'button', class: 'plain-button', 'data-act': name, 'aria-pressed': pressed === undefined ? null : String(pressed), on: { click: listener } }, text);

  function showNode(place) {
    const node = nodes[place];
    const outcome = outcomeOf(node.outcome);
    const difference = comparing ? DIFFERENCES.get(node.difference) : null;
    const badges = [make('span', { class: 'badge', 'data-outcome': node.outcome }, sign(node.outcome), outcome.word)];
    if (difference && node.difference !== 'same') badges.push(make('span', { class: 'badge' }, mark(node.difference), difference.word));
    if (node.critical) badges.push(make('span', { class: 'badge' }, mark('critical'), 'critical path'));

    const facts = [['Kind', node.kind]];
    if (ROLES.has(node.role)) facts.push(['Role', ROLES.get(node.role)]);
    if (node.label && node.label !== node.name) facts.push(['Label', make('bdi', {}, node.label)]);
    if (node.started !== null) facts.push(['Started', `${duration(node.started)} after the run began`]);
    if (node.cost > 0) facts.push(['Took', duration(node.cost)]);

    const why = [];
    if (node.because || node.changes.length > 0) {
      const about = node.outcome === 'observed' ? 'What was found' : node.outcome === 'verified' ? 'Note' : 'Why it ran';
      why.push(make('h3', {}, about));
      if (node.because) why.push(make('p', { class: 'said', 'data-because': true }, node.because));
      if (node.changes.length > 0 || node.more > 0) {
        why.push(make('ul', { class: 'changes', 'data-changes': true },
          node.changes.map((change) => make('li', {}, String(change))),
          node.more > 0 && make('li', { class: 'more' }, `and ${number(node.more)} more`)));
      }
    }

    const hidden = foldedNeighbours(place).length;
    const scoped = (way) => state.scope?.way === way && state.scope.place === place;
    const below = [...asked[place]].sort(byInterest);
    const above = [...askers[place]].sort(byInterest);
    openPanel('node',
      make('div', { class: 'head' }, badges),
      make('h2', { 'data-name': true }, node.name || '\u2014'),
      make('p', { class: 'said', 'data-outcome-said': true }, outcome.said, difference && ` ${difference.said}`),
      ...why,
      ...(node.error ? [make('h3', {}, 'Error'), make('pre', { 'data-error': true }, node.error)] : []),
      make('dl', {}, facts.map(([term, said]) => [make('dt', {}, term), make('dd', {}, said)])),
      make('div', { class: 'acts' },
        act('Above', 'above', () => limitTo('above', place), scoped('above')),
        act('Below', 'below', () => limitTo('below', place), scoped('below')),
        state.scope && act('Show all', 'all', showAll),
        hidden > 0 && act(hidden > LIMITS.burst ? `Show ${LIMITS.burst} of ${number(hidden)} folded neighbours` : `Show ${count(hidden, 'folded neighbour')}`, 'neighbours', () => showNeighbours(place))),
      make('h3', {}, below.length === 0 ? 'It asked for nothing' : `It asked for ${number(below.length)}`), ...linkList(below, 'asked'),
      make('h3', {}, above.length === 0 ? 'Nobody asked for it: it is where the run began' : `Asked for by ${number(above.length)}`), ...linkList(above, 'askers'),
    );
    panel.dataset.panelNode = node.id;
  }

  function openFold(key) {
    const fold = view.folds.get(key);
    state.selected = null;
    state.fold = key;
    if (location.hash !== '' && location.hash !== '#') location.hash = '';
    const members = [...fold.members].sort(byCost);
    const list = make('div', {});
    const fill = (text) => {
      const words = wordsIn(text);
      list.replaceChildren(...linkList(words.length === 0 ? members : members.filter((place) => matches(place, words)), 'members'));
    };
    fill('');
    const input = make('input', {
      type: 'search', placeholder: 'Search in these', 'aria-label': 'Search in these specs', 'data-fold-search': true, on: { input: () => fill(input.value) },
    });
    openPanel('fold',
      make('div', { class: 'head' },
        make('span', { class: 'badge', 'data-outcome': fold.outcome }, sign(fold.outcome), outcomeOf(fold.outcome).word),
        comparing && fold.difference && fold.difference !== 'same' && make('span', { class: 'badge' }, mark(fold.difference), fold.difference)),
      make('h2', { 'data-name': true }, fold.kind),
      make('p', { class: 'of-kind' }, `${count(fold.members.length, 'spec')} in one box${fold.cost > 0 ? `, ${duration(fold.cost)} in all` : ''}`),
      make('div', { class: 'acts' },
        act(fold.members.length <= LIMITS.burst ? 'Unfold all' : `Unfold the first ${LIMITS.burst}`, 'unfold', () => unfold(key))),
      input, list);
    panel.dataset.panelNode = '';
    markBoxes();
    paintTimeline();
    reveal(fold);
  }

  // ------------------------------------------------------------------------------------------------------- search and filters

  let haystack = null;
  const wordsIn = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  function matches(place, words) {
    haystack ??= nodes.map((node) => `${node.name}\n${node.label ?? ''}\n${node.kind}`.toLowerCase());
    return words.every((word) => haystack[place].includes(word));
  }

  const results = $('[data-results]');
  const resultList = $('#results');
  let shownResults = [];
  let active = -1;

  function find() {
    state.query = search.value;
    const words = wordsIn(state.query);
    active = -1;
    shownResults = [];
    if (words.length === 0) {
      state.hits = null;
      showResults(false);
      markBoxes();
      return;
    }
    const hits = [];
    for (let place = 0; place < size; place++) if (matches(place, words)) hits.push(place);
    // Names that begin with what was typed come first; else the order of the data.
    const first = (place) => (nodes[place].name.toLowerCase().startsWith(words[0]) ? 0 : 1);
    hits.sort((a, b) => first(a) - first(b) || a - b);
    state.hits = hits;
    shownResults = hits.slice(0, LIMITS.found);
    $('[data-results-count]').textContent =
      hits.length === 0 ? 'Nothing found' : `${number(hits.length)} found${hits.length > shownResults.length ? `; the first ${shownResults.length} are shown` : ''}`;
    $('[data-results-count]').dataset.resultsCount = hits.length;
    resultList.replaceChildren(...shownResults.map((place, nth) =>
      make('li', { id: `result-${nth}`, role: 'option', 'aria-selected': 'false', 'data-result-id': nodes[place].id, class: 'link', on: { click: () => take(nth) } }, ...wordsOf(nodes[place]))));
    showResults(true);
    setActive(hits.length > 0 ? 0 : -1);
    markBoxes();
  }

  function showResults(open) {
    results.hidden = !open;
    search.setAttribute('aria-expanded', String(open));
    if (!open) search.removeAttribute('aria-activedescendant');
  }

  function setActive(nth) {
    active = nth;
    [...resultList.children].forEach((item, at) => item.setAttribute('aria-selected', String(at === nth)));
    if (nth < 0) return;
    search.setAttribute('aria-activedescendant', `result-${nth}`);
    resultList.children[nth].scrollIntoView({ block: 'nearest' });
  }

  function take(nth) {
    const place = shownResults[nth];
    if (place === undefined) return;
    showResults(false);
    go(place);
  }

  function listenToSearch() {
    search.addEventListener('input', find);
    search.addEventListener('focus', () => shownResults.length > 0 && showResults(true));
    search.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
        event.preventDefault();
        if (results.hidden) return showResults(shownResults.length > 0);
        const step = event.key === 'ArrowDown' ? 1 : -1;
        if (shownResults.length > 0) setActive((active + step + shownResults.length) % shownResults.length);
      } else if (event.key === 'Enter') {
        event.preventDefault();
        take(active);
      } else if (event.key === 'Escape') {
        event.preventDefault();
        event.stopPropagation();
        if (!results.hidden) showResults(false);
        else if (search.value !== '') {
          search.value = '';
          find();
        } else search.blur();
      }
    });
    document.addEventListener('pointerdown', (event) => {
      if (!event.target.closest('.search')) showResults(false);
      const kinds = $('.kinds');
      if (kinds?.open && !event.target.closest('.kinds')) kinds.open = false;
    });
  }

  function tally(of) {
    const counts = new Map();
    for (const node of nodes) counts.set(of(node), (counts.get(of(node)) ?? 0) + 1);
    return counts;
  }

  function chip(set, value, name, ...content) {
    return make('button', {
      type: 'button', class: 'chip', 'aria-pressed': 'false', [`data-filter-${name}`]: value,
      on: { click: () => changeFilters(() => (set.has(value) ? set.delete(value) : set.add(value))) },
    }, ...content);
  }

  function changeFilters(change) {
    change();
    tellFilters();
    refresh();
    paintLongest();
    if (state.selected !== null) showNode(state.selected);
    else if (state.fold !== null && !view.folds.has(state.fold)) leavePanel();
  }

  function tellFilters() {
    for (const [name, set] of [['outcome', state.outcomes], ['kind', state.kinds], ['difference', state.differences]]) {
      for (const element of document.querySelectorAll(`[data-filter-${name}]`)) {
        element.setAttribute('aria-pressed', String(set.has(element.getAttribute(`data-filter-${name}`))));
      }
    }
    $('[data-only-ran]')?.setAttribute('aria-pressed', String(onlyRan()));
    $('[data-only-different]')?.setAttribute('aria-pressed', String(onlyDifferent()));
    $('[data-kinds-word]').textContent = state.kinds.size > 0 ? `Kinds: ${state.kinds.size}` : 'Kinds';
    $('[data-clear-filters]').hidden = !isFiltered();
  }

  const sameMembers = (set, list) => set.size === list.length && list.every((value) => set.has(value));
  let ranHere = [];
  let differentHere = [];
  const onlyRan = () => ranHere.length > 0 && sameMembers(state.outcomes, ranHere);
  const onlyDifferent = () => differentHere.length > 0 && sameMembers(state.differences, differentHere);

  function makeFilters() {
    const here = $('[data-filters]');
    const outcomes = tally((node) => node.outcome);
    const order = [...OUTCOMES.keys(), ...[...outcomes.keys()].filter((key) => !OUTCOMES.has(key)).sort()];
    for (const outcome of order) {
      if (!outcomes.has(outcome)) continue;
      here.append(chip(state.outcomes, outcome, 'outcome', sign(outcome), make('span', { class: 'text' }, outcomeOf(outcome).word), make('span', { class: 'n' }, number(outcomes.get(outcome)))));
    }
    ranHere = RAN.filter((outcome) => outcomes.has(outcome));
    if (ranHere.length > 0 && ranHere.length < outcomes.size) {
      here.append(make('button', {
        type: 'button', class: 'chip plain', 'aria-pressed': 'false', 'data-only-ran': true,
        on: { click: () => changeFilters(() => replace(state.outcomes, onlyRan() ? [] : ranHere)) },
      }, 'Only what ran'));
    }
    if (comparing) {
      here.append(make('span', { class: 'gap' }));
      const differences = tally((node) => node.difference);
      for (const [difference, { word }] of DIFFERENCES) {
        if (!differences.has(difference)) continue;
        const content = [make('span', { class: 'text' }, word), make('span', { class: 'n' }, number(differences.get(difference)))];
        if (difference !== 'same') content.unshift(mark(difference));
        const element = chip(state.differences, difference, 'difference', ...content);
        if (difference === 'same') element.classList.add('plain');
        here.append(element);
      }
      differentHere = ['added', 'removed', 'changed'].filter((difference) => differences.has(difference));
      if (differentHere.length > 0 && differences.has('same')) {
        here.append(make('button', {
          type: 'button', class: 'chip plain', 'aria-pressed': 'false', 'data-only-different': true,
          on: { click: () => changeFilters(() => replace(state.differences, onlyDifferent() ? [] : differentHere)) },
        }, 'Only what differs'));
      }
    }
    const kinds = [...tally((node) => node.kind)].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    const list = make('div', { class: 'list', role: 'group', 'aria-label': 'Kinds' },
      kinds.slice(0, LIMITS.kinds).map(([kind, n]) => {
        const element = chip(state.kinds, kind, 'kind', make('span', { class: 'text' }, kind || '\u2014'), make('span', { class: 'n' }, number(n)));
        element.classList.add('plain');
        return element;
      }),
      kinds.length > LIMITS.kinds && make('p', {}, `and ${number(kinds.length - LIMITS.kinds)} more kinds, which the search finds`));
    here.append(
      make('span', { class: 'gap' }),
      make('details', { class: 'kinds', 'data-kinds': true }, make('summary', { class: 'chip plain' }, make('span', { 'data-kinds-word': true }, 'Kinds'), make('span', { class: 'n' }, number(kinds.length))), list),
      make('button', {
        type: 'button', class: 'chip plain', 'data-clear-filters': true, hidden: true,
        on: { click: () => changeFilters(() => [state.outcomes, state.kinds, state.differences].forEach((set) => set.clear())) },
      }, 'Clear filters'));
  }

  // The chips hold on to their set, so it is filled anew and never exchanged.
  function replace(set, values) {
    set.clear();
    for (const value of values) set.add(value);
  }

  // --------------------------------------------------------------------------------------------------------------- timeline

  const canvas = $('[data-timeline]');
  const tip = $('[data-tip]');
  const AXIS = 26;
  const LANE = 22;
  let chart = null;

  /** Packs what was timed into lanes: the critical path in those on top, everything else below, each as high as it can go. */
  function makeChart() {
    const timed = [];
    for (let place = 0; place < size; place++) if (nodes[place].started !== null && nodes[place].cost > 0) timed.push(place);
    const byStart = (a, b) => nodes[a].started - nodes[b].started || byCost(a, b);
    const end = (place) => nodes[place].started + nodes[place].cost;
    const lanes = [];
    const laneOf = new Map();
    const pack = (places) => {
      const base = lanes.length;
      const busy = heap((a, b) => a.until - b.until || a.lane - b.lane);
      const free = heap((a, b) => a - b);
      for (const place of places.sort(byStart)) {
        while (busy.size() > 0 && busy.peek().until <= nodes[place].started) free.push(busy.pop().lane);
        const lane = free.size() > 0 ? free.pop() : lanes.push([]) - 1;
        lanes[lane].push(place);
        laneOf.set(place, lane);
        busy.push({ until: end(place), lane });
      }
      return lanes.length - base;
    };
    const critical = pack(timed.filter((place) => nodes[place].critical));
    pack(timed.filter((place) => !nodes[place].critical));
    const total = timed.reduce((most, place) => Math.max(most, end(place)), Number(data.duration_us) || 0) || 1;
    chart = { timed, lanes, laneOf, critical, total, from: 0, to: total, top: 0, over: null };
    $('[data-timeline-empty]').hidden = timed.length > 0;
    canvas.dataset.bars = timed.length;
    canvas.dataset.lanes = lanes.length;
    $('.chart').style.flex = `0 1 ${clamp(lanes.length * LANE + AXIS + 24, 200, 640)}px`;
  }

  function heap(compare) {
    const items = [];
    const swap = (a, b) => ([items[a], items[b]] = [items[b], items[a]]);
    return {
      size: () => items.length,
      peek: () => items[0],
      push(item) {
        let at = items.push(item) - 1;
        for (let up = (at - 1) >> 1; at > 0 && compare(items[at], items[up]) < 0; up = (at - 1) >> 1) {
          swap(at, up);
          at = up;
        }
      },
      pop() {
        const top = items[0];
        const last = items.pop();
        if (items.length > 0) {
          items[0] = last;
          for (let at = 0; ; ) {
            let least = at;
            for (const child of [2 * at + 1, 2 * at + 2]) if (child < items.length && compare(items[child], items[least]) < 0) least = child;
            if (least === at) break;
            swap(at, least);
            at = least;
          }
        }
        return top;
      },
    };
  }

  const SIDE = 16;
  const timeScale = () => (canvas.clientWidth - 2 * SIDE) / (chart.to - chart.from);
  const xOf = (us) => SIDE + (us - chart.from) * timeScale();
  const usAt = (x) => chart.from + (x - SIDE) / timeScale();
  const yOf = (lane) => AXIS + 6 + lane * LANE - chart.top + (lane >= chart.critical && chart.critical > 0 ? 8 : 0);

  let painting = 0;
  function paintTimeline() {
    if (!chart || state.tab !== 'timeline') return;
    cancelAnimationFrame(painting);
    painting = requestAnimationFrame(paint);
  }

  function paint() {
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (width === 0 || height === 0) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const c = canvas.getContext('2d');
    c.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const colors = new Map([...OUTCOMES.keys()].map((outcome) => [outcome, color(outcome)]));
    const shapes = new Map([...OUTCOMES].map(([outcome, { shape }]) => [outcome, new Path2D(shape)]));
    const font = getComputedStyle(document.body).fontFamily;
    const [onSolid, critical, accent, line, muted, surface] = ['on-solid', 'critical', 'accent', 'line', 'muted', 'surface'].map(color);

    c.save();
    c.beginPath();
    c.rect(0, AXIS, width, height - AXIS);
    c.clip();
    if (chart.critical > 0) {
      c.fillStyle = critical;
      c.globalAlpha = 0.08;
      c.fillRect(0, AXIS - chart.top, width, chart.critical * LANE + 10);
      c.globalAlpha = 1;
    }
    c.strokeStyle = line;
    c.lineWidth = 1;
    const ticks = ticksOf(chart.from, chart.to, width);
    for (const tick of ticks) {
      const x = Math.round(xOf(tick)) + 0.5;
      c.beginPath();
      c.moveTo(x, AXIS);
      c.lineTo(x, height);
      c.stroke();
    }
    c.textBaseline = 'middle';
    c.font = `12px ${font}`;
    const tall = LANE - 5;
    for (let lane = 0; lane < chart.lanes.length; lane++) {
      const y = yOf(lane);
      if (y + LANE < AXIS || y > height) continue;
      for (const place of chart.lanes[lane]) {
        const node = nodes[place];
        const left = xOf(node.started);
        const right = xOf(node.started + node.cost);
        if (right < 0 || left > width) continue;
        const wide = Math.max(right - left - 1, 1.5);
        c.globalAlpha = isFiltered() && !passes(node) ? 0.15 : 1;
        c.fillStyle = colors.get(node.outcome) ?? muted;
        c.beginPath();
        c.roundRect(left, y, wide, tall, Math.min(3, wide / 2));
        c.fill();
        if (place === state.selected || place === chart.over || node.critical) {
          c.strokeStyle = place === state.selected || place === chart.over ? accent : critical;
          c.lineWidth = place === state.selected ? 3 : 2;
          c.stroke();
        }
        if (wide > 20) {
          const from = Math.max(left, 0);
          c.save();
          c.beginPath();
          c.rect(from, y, right - from - 4, tall);
          c.clip();
          c.strokeStyle = onSolid;
          c.fillStyle = onSolid;
          c.lineWidth = 2;
          c.lineCap = 'round';
          c.lineJoin = 'round';
          c.translate(from + 3, y + 1.5);
          c.scale(0.88, 0.88);
          c.stroke(shapes.get(node.outcome) ?? shapes.get('pending'));
          c.scale(1 / 0.88, 1 / 0.88);
          if (wide > 46) c.fillText(cut(node.name, 120), 18, tall / 2 - 1);
          c.restore();
        }
        c.globalAlpha = 1;
      }
    }
    c.restore();

    c.fillStyle = surface;
    c.fillRect(0, 0, width, AXIS);
    c.fillStyle = line;
    c.fillRect(0, AXIS - 1, width, 1);
    c.fillStyle = muted;
    c.font = `12px ${font}`;
    for (const tick of ticks) {
      const x = xOf(tick);
      if (x < 0 || x > width - 30) continue;
      c.fillText(tick === 0 ? '0' : duration(tick), x + 4, AXIS / 2);
    }
    canvas.dataset.from = Math.round(chart.from);
    canvas.dataset.to = Math.round(chart.to);
  }

  function ticksOf(from, to, width) {
    const rough = ((to - from) / width) * 110;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
    const ticks = [];
    for (let nth = Math.max(0, Math.floor(from / step)); nth * step <= to; nth++) ticks.push(nth * step);
    return ticks;
  }

  function barAt(x, y) {
    if (y < AXIS) return null;
    for (let lane = 0; lane < chart.lanes.length; lane++) {
      const top = yOf(lane);
      if (y < top || y > top + LANE - 3) continue;
      let best = null;
      for (const place of chart.lanes[lane]) {
        const left = xOf(nodes[place].started);
        const right = xOf(nodes[place].started + nodes[place].cost);
        const off = Math.max(left - x, x - right, 0);
        if (off <= 3 && (!best || off < best.off)) best = { place, off };
      }
      return best?.place ?? null;
    }
    return null;
  }

  function lookAt(from, to) {
    const span = clamp(to - from, Math.min(20, chart.total), chart.total * 1.02);
    const start = clamp(from, 0, Math.max(0, chart.total * 1.02 - span));
    chart.from = start;
    chart.to = start + span;
    paintTimeline();
  }

  function zoomTime(factor, x = canvas.clientWidth / 2) {
    const at = usAt(x);
    lookAt(at - (at - chart.from) / factor, at + (chart.to - at) / factor);
  }

  function scrollLanes(by) {
    const most = Math.max(0, chart.lanes.length * LANE + AXIS + 24 - canvas.clientHeight);
    chart.top = clamp(chart.top + by, 0, most);
    paintTimeline();
  }

  function revealBar(place) {
    if (!chart || state.tab !== 'timeline') return;
    const lane = chart.laneOf.get(place);
    if (lane !== undefined) {
      const y = yOf(lane);
      if (y < AXIS) scrollLanes(y - AXIS - 20);
      else if (y + LANE > canvas.clientHeight) scrollLanes(y + LANE + 20 - canvas.clientHeight);
      const { started, cost } = nodes[place];
      if (started + cost < chart.from || started > chart.to) {
        const span = chart.to - chart.from;
        lookAt(started + cost / 2 - span / 2, started + cost / 2 + span / 2);
      }
    }
    paintTimeline();
    for (const row of document.querySelectorAll('[data-longest] tr')) row.classList.toggle('chosen', row.dataset.row === String(nodes[place].id));
  }

  function showTip(place, x, y) {
    chart.over = place;
    canvas.classList.toggle('over', place !== null);
    tip.hidden = place === null;
    if (place !== null) {
      const node = nodes[place];
      tip.replaceChildren(make('div', { class: 'name' }, cut(node.name, 300)), make('div', {}, `${node.kind}, ${outcomeOf(node.outcome).word}, ${duration(node.cost)}${node.critical ? ', critical path' : ''}`));
      tip.dataset.tip = node.id;
      const room = $('.chart').clientWidth;
      tip.style.left = `${clamp(x + 14, 4, Math.max(4, room - tip.offsetWidth - 4))}px`;
      const under = y + 18 + tip.offsetHeight < $('.chart').clientHeight;
      tip.style.top = `${under ? y + 18 : Math.max(0, y - tip.offsetHeight - 10)}px`;
    }
    paintTimeline();
  }

  function paintLongest() {
    const rows = chart ? chart.timed.filter((place) => passes(nodes[place])) : [];
    const all = nodes.map((_, place) => place).filter((place) => nodes[place].cost > 0 && passes(nodes[place]));
    const longest = (rows.length > 0 ? rows : all).sort(byCost).slice(0, 30);
    const most = longest.length > 0 ? nodes[longest[0]].cost : 1;
    $('[data-longest]').replaceChildren(...longest.map((place) => {
      const node = nodes[place];
      const share = make('span', { class: 'share', 'data-outcome': node.outcome });
      share.style.width = `${(node.cost / most) * 100}%`;
      const name = link(place);
      name.className = '';
      name.replaceChildren(cut(node.name, 200) || '\u2014');
      name.title = cut(node.name, 400);
      return make('tr', { 'data-row': node.id, class: place === state.selected ? 'chosen' : null },
        make('td', {}, name),
        make('td', {}, node.kind),
        make('td', {}, make('span', { class: 'told' }, sign(node.outcome), outcomeOf(node.outcome).word)),
        make('td', { class: 'number' }, node.started === null ? '' : node.started === 0 ? '0' : duration(node.started)),
        make('td', { class: 'number' }, duration(node.cost)),
        make('td', {}, share));
    }));
  }

  function listenToTimeline() {
    let down = null;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      down = { x: event.offsetX, y: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      const { offsetX: x, offsetY: y } = event;
      if (!down) return showTip(barAt(x, y), x, y);
      if (!down.moved && Math.hypot(x - down.x, y - down.y) < 4) return;
      down.moved = true;
      canvas.classList.add('dragging');
      showTip(null);
      const us = (down.x - x) / timeScale();
      lookAt(chart.from + us, chart.to + us);
      scrollLanes(down.y - y);
      Object.assign(down, { x, y });
    });
    canvas.addEventListener('pointerup', (event) => {
      const moved = down?.moved;
      down = null;
      canvas.classList.remove('dragging');
      const place = moved ? null : barAt(event.offsetX, event.offsetY);
      if (place !== null) go(place);
    });
    canvas.addEventListener('pointercancel', () => (down = null));
    canvas.addEventListener('pointerleave', () => showTip(null));
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      if (event.shiftKey) scrollLanes(event.deltaY || event.deltaX);
      else zoomTime(Math.exp(-clamp(event.deltaY, -240, 240) * 0.0018), event.offsetX);
    }, { passive: false });
    canvas.addEventListener('dblclick', (event) => zoomTime(2, event.offsetX));
    canvas.addEventListener('keydown', (event) => {
      const step = (chart.to - chart.from) / 8;
      const moves = {
        ArrowLeft: () => lookAt(chart.from - step, chart.to - step), ArrowRight: () => lookAt(chart.from + step, chart.to + step),
        ArrowUp: () => scrollLanes(-3 * LANE), ArrowDown: () => scrollLanes(3 * LANE),
      };
      if (!moves[event.key]) return;
      event.preventDefault();
      moves[event.key]();
    });
    for (const button of document.querySelectorAll('[data-time-zoom]')) {
      button.addEventListener('click', () => timeZoom(button.dataset.timeZoom));
    }
  }

  const timeZoom = (way) => (way === 'fit' ? lookAt(0, chart.total * 1.02) : zoomTime(way === 'in' ? 1.6 : 1 / 1.6));

  // ------------------------------------------------------------------------------------------------------------------ start

  function showTab(name) {
    state.tab = name;
    for (const tab of document.querySelectorAll('[role="tab"]')) {
      const on = tab.id === `tab-${name}`;
      tab.setAttribute('aria-selected', String(on));
      tab.tabIndex = on ? 0 : -1;
      $(`#${tab.getAttribute('aria-controls')}`).hidden = !on;
    }
    if (name === 'timeline') {
      if (!chart) {
        makeChart();
        paintLongest();
        lookAt(0, chart.total * 1.02);
      }
      paintTimeline();
      if (state.selected !== null) revealBar(state.selected);
    } else if (state.selected !== null) reveal(view.boxes[view.boxOf[state.selected]]);
  }

  function listenToPage() {
    const tabs = [...document.querySelectorAll('[role="tab"]')];
    tabs.forEach((tab, nth) => {
      tab.addEventListener('click', () => showTab(tab.id.slice(4)));
      tab.addEventListener('keydown', (event) => {
        if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
        event.preventDefault();
        const next = tabs[(nth + 1) % tabs.length];
        next.focus();
        showTab(next.id.slice(4));
      });
    });
    addEventListener('hashchange', readAddress);
    addEventListener('resize', resized);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paintTimeline);
    document.addEventListener('keydown', (event) => {
      const typing = event.target.closest('input, textarea, select');
      if (event.key === 'Escape') {
        const kinds = $('.kinds');
        if (kinds.open) {
          kinds.open = false;
          $('summary', kinds).focus();
        } else if (!panel.hidden) leavePanel();
        return;
      }
      if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
      const graph = state.tab === 'graph';
      const keys = {
        '/': () => { search.focus(); search.select(); },
        '+': () => (graph ? zoomBy(1.4) : timeZoom('in')),
        '=': () => (graph ? zoomBy(1.4) : timeZoom('in')),
        '-': () => (graph ? zoomBy(1 / 1.4) : timeZoom('out')),
        '0': () => (graph ? flyTo(fitting()) : timeZoom('fit')),
      };
      if (!Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  function resized() {
    if (untouched && state.tab === 'graph') home();
    paintTimeline();
  }

  function tellSummary() {
    $('[data-title]').append(data.title, ...(comparing ? [make('span', { class: 'than' }, ' compared with ', data.against.title)] : []));
    const ran = nodes.filter((node) => node.outcome === 'executed' || node.outcome === 'cut_off').length;
    const failed = nodes.filter((node) => node.outcome === 'failed').length;
    const said = `${count(size, 'spec')}: ${number(ran)} ran${failed > 0 ? `, ${number(failed)} failed` : ''}`;
    const facts = [
      ['workspace', data.workspace],
      ['began', comparing ? `${moment(data.began)}, compared with ${moment(data.against.began)}` : moment(data.began)],
      ['took', `took ${duration(Number(data.duration_us) || 0)}`],
      ['counts', said],
      ['run', `run ${cut(data.run, 8)}`],
    ];
    for (const [name, text] of facts) {
      if (!text) continue;
      $('[data-meta]').append(make('span', { [`data-meta-${name}`]: true, title: name === 'run' ? data.run : name === 'workspace' ? text : null }, make('bdi', {}, text)));
    }
  }

  function makeLegend() {
    const outcomes = tally((node) => node.outcome);
    const items = [...OUTCOMES].filter(([key]) => outcomes.has(key)).map(([key, { word, said }]) => make('li', { title: said }, sign(key), word));
    const sample = (kind, text, apart) => make('li', { class: apart ? 'apart' : null }, make('span', { class: `sample ${kind}` }), text);
    if (comparing) {
      let apart = true;
      for (const [key, { word, said }] of DIFFERENCES) {
        if (key === 'same') continue;
        items.push(make('li', { class: apart ? 'apart' : null, title: said, 'data-legend-difference': key }, mark(key), word));
        apart = false;
      }
    }
    items.push(
      sample('edge', 'on the left who asked, on the right what for', true),
      sample('ran', 'it ran, and so did what it asked for'),
      sample('via', 'asked through what the filters hide'),
      sample('fold', 'many of one kind; click to list, double-click to unfold'),
      make('li', {}, mark('critical'), make('span', { class: 'sample critical' }), 'critical path: what the run had to wait for'),
      make('li', { class: 'apart' }, make('kbd', {}, '/'), 'search'),
      make('li', {}, make('kbd', {}, '+'), make('kbd', {}, '-'), make('kbd', {}, '0'), 'zoom, fit'),
      make('li', {}, make('kbd', {}, '\u2190\u2191\u2193\u2192'), make('kbd', {}, 'Enter'), 'move between boxes, open'),
      make('li', {}, make('kbd', {}, 'Esc'), 'close'));
    $('[data-legend-body]').append(make('ul', {}, items));
  }

  tellSummary();
  makeFilters();
  tellFilters();
  makeLegend();
  listenToGraph();
  listenToSearch();
  listenToTimeline();
  listenToPage();
  refresh();
  readAddress();
  requestAnimationFrame(() => setTimeout(() => {
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }));
})();
