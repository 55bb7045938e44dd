// The runs that the tests look at. Nothing in them is random: the same call gives the same run.

const node = (id, kind, role, name, outcome, rest = {}) => ({
  id, kind, role, name, label: null, outcome, difference: null, because: null, changes: [], more_changes: 0, error: null,
  started_us: null, cost_us: 0, critical: false, asked: [], ...rest,
});

const run = (title, nodes, rest = {}) => ({
  title, workspace: '/home/user/quickstart', run: '0123456789abcdef0123456789abcdef', began: '2026-11-25T10:00:00Z', duration_us: 812345,
  against: null, nodes, ...rest,
});

/** A run by hand that has each outcome. */
export const small = () => run('install', [
  node(0, 'install_workspace_environment', 'query', 'environment default@linux-64', 'failed', {
    label: 'environment default@linux-64 in .pixi/envs/default', because: '`install default@linux-64` failed', error: 'cannot link the prefix\n  because: the disk is full',
    started_us: 120, cost_us: 90, critical: true, asked: [1, 2],
  }),
  node(1, 'lock_workspace', 'query', 'records of the workspace', 'executed', {
    label: 'records of the workspace', because: '`manifest` changed', changes: ['dependencies: hello 1.* -> hello 2.*', 'channels: + ./channel'], more_changes: 3,
    started_us: 400, cost_us: 210, critical: true, asked: [3, 4, 5, 6],
  }),
  node(2, 'install_pixi_environment', 'query', 'install default@linux-64', 'failed', {
    label: 'install default@linux-64 in .pixi/envs/default', because: '`link prefix .pixi/envs/default` failed', error: 'cannot link the prefix',
    started_us: 300000, cost_us: 1500, critical: true, asked: [7, 8, 9, 13],
  }),
  node(3, 'read_manifest', 'action', 'manifest', 'executed', {
    label: 'manifest', because: '`manifest file` changed', changes: ['pixi.toml: changed a1b2c3 -> d4e5f6'], started_us: 600, cost_us: 865, critical: true, asked: [10],
  }),
  node(4, 'solve_conda_environment', 'action', 'solve default@linux-64', 'executed', {
    label: 'solve default@linux-64', because: '`records reachable from hello` changed', changes: ['hello: 1.4 -> 2.0'], started_us: 3000, cost_us: 290000, critical: true, asked: [6, 11],
  }),
  node(5, 'solve_conda_environment', 'action', 'solve test@linux-64', 'verified', { label: 'solve test@linux-64', asked: [6, 11] }),
  node(6, 'record_closure', 'query', 'records reachable from hello on linux-64', 'cut_off', {
    because: '`channel ./channel/linux-64` changed', changes: ['repodata.json: changed 77aa -> 88bb'], started_us: 1600, cost_us: 1200, asked: [12],
  }),
  node(7, 'fetch_package', 'action', 'hello 2.0', 'executed', { label: 'package hello', because: 'nothing was recorded for it', started_us: 301000, cost_us: 204000, critical: true }),
  node(8, 'fetch_package', 'action', 'greeting 2.1', 'verified', { label: 'package greeting' }),
  node(9, 'link_prefix', 'effect', 'link prefix .pixi/envs/default', 'failed', {
    label: 'link prefix .pixi/envs/default', because: 'it is made each time that it is asked for', error: 'no space left on device', started_us: 506000, cost_us: 300000, critical: true,
  }),
  node(10, 'manifests', 'observation', 'manifest file', 'observed', { label: 'manifest file', changes: ['pixi.toml: changed a1b2c3 -> d4e5f6'], started_us: 200, cost_us: 45 }),
  node(11, 'virtual_packages', 'observation', 'this machine', 'observed', { label: 'this machine' }),
  node(12, 'channel_state', 'observation', 'channel ./channel/linux-64', 'observed', { label: 'channel ./channel/linux-64', changes: ['repodata.json: changed 77aa -> 88bb'] }),
  node(13, 'fetch_package', 'action', 'manners 1.0', 'pending', { label: 'package manners', started_us: 302000, cost_us: 510000 }),
]);

/** Numbers below `end`, the same at each start. */
function dice(seed) {
  let state = seed;
  return (end) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * end);
  };
}

/**
 * A workspace of many source packages, in layers as a real run has them. One file of one package changed, and what
 * depends on it ran; `cold`: everything ran; `quiet`: one spec ran, far from the root.
 */
export function large(size = 5000, { cold = false, quiet = false } = {}) {
  const roll = dice(17);
  const nodes = [];
  const add = (kind, role, name, asked = []) => {
    nodes.push(node(nodes.length, kind, role, name, role === 'observation' ? 'observed' : 'verified', { label: name, asked }));
    return nodes.length - 1;
  };
  // Built from below; ids are turned round at the end, so that the roots come first.
  const machine = add('virtual_packages', 'observation', 'this machine');
  const channels = ['linux-64', 'noarch'].map((subdir) => add('channel_state', 'observation', `channel conda-forge/${subdir}`));
  const indexes = channels.map((channel, nth) => add('channel_index', 'action', `index of channel conda-forge/${['linux-64', 'noarch'][nth]}`, [channel]));
  const place = add('workspace_place', 'observation', 'place of the workspace');
  const file = add('manifests', 'observation', 'manifests in .');
  const manifest = add('read_manifest', 'action', 'manifest', [file, place]);
  const shards = Array.from({ length: 120 }, (_, nth) => add('read_shard', 'action', `records of library-${nth} in conda-forge/linux-64`, [channels[0]]));
  const packages = [];
  const each = 9;
  for (let nth = 0; nodes.length + each + 60 <= size; nth++) {
    const name = `packages/${['core', 'net', 'ui', 'data'][nth % 4]}-${String(nth).padStart(3, '0')}`;
    const level = Math.floor(nth / 40);
    const below = packages.filter((other) => other.level === level - 1);
    const needs = [];
    for (let count = below.length > 0 ? 1 + roll(4) : 0; count > 0; count--) needs.push(below[roll(below.length)]);
    const manifests = add('manifests', 'observation', `manifests in ${name}`, []);
    const files = add('files', 'observation', `files of ${name}: src/**, CMakeLists.txt`, []);
    const backend = add('discover_backend', 'query', `build backend of ${name}`, [manifests]);
    const metadata = add('build_backend_metadata', 'action', `packages of ${name}`, [backend, files, machine]);
    const closure = add('record_closure', 'query', `records reachable from ${name}: compilers, cmake on linux-64`, [...indexes, ...Array.from({ length: 3 + roll(9) }, () => shards[roll(shards.length)])]);
    const solve = add('solve_pixi_environment', 'query', `solve host of ${name}`, [closure, metadata, machine]);
    const source = add('source_metadata', 'query', `record of ${name}`, [metadata, ...needs.map((other) => other.source)]);
    const prefix = add('install_pixi_environment', 'query', `install host of ${name}`, [solve, ...needs.map((other) => other.build)]);
    const build = add('source_build', 'action', `build ${name}`, [source, prefix, files]);
    packages.push({ level, needs, source, build, files, metadata });
  }
  const fetches = [];
  while (nodes.length + 6 < size) fetches.push(add('fetch_package', 'action', `library-${fetches.length} ${1 + roll(9)}.${roll(20)}`));
  const solve = add('solve_conda_environment', 'action', 'solve default@linux-64', [manifest, machine, ...indexes]);
  const lock = add('lock_workspace', 'query', 'records of the workspace', [manifest, solve, ...packages.map((one) => one.source)]);
  const prefix = add('prefix_state', 'observation', 'prefix .pixi/envs/default');
  const link = add('link_prefix', 'effect', 'link prefix .pixi/envs/default', [prefix]);
  const install = add('install_pixi_environment', 'query', 'install default@linux-64', [link, ...fetches, ...packages.map((one) => one.build)]);
  add('install_workspace_environment', 'query', 'environment default@linux-64', [lock, install, manifest]);

  // What ran. From below, so that whoever depends on something that ran is decided after it.
  const changed = packages.find((one) => one.level === Math.floor(packages.at(-1).level / 2) && packages.some((other) => other.needs.includes(one)));
  let clock = 2000;
  const ran = (one, outcome, because, changes = []) => {
    const heavy = { source_build: 400000, solve_conda_environment: 250000, fetch_package: 40000, link_prefix: 90000, build_backend_metadata: 60000 }[one.kind] ?? 900;
    one.outcome = outcome;
    one.because = because;
    one.changes = changes;
    one.cost_us = heavy / 2 + roll(heavy);
    one.started_us = clock;
    clock += Math.floor(one.cost_us / (cold ? 8 : 3));
  };
  if (!quiet) nodes[changed.files].changes = ['src/main.cpp: changed 5f2e -> 90c1'];
  for (const one of nodes) {
    if (one.role === 'observation') continue;
    if (cold) ran(one, 'executed', 'nothing was recorded for it');
    else if (quiet) {
      if (one.id === changed.metadata) ran(one, 'executed', 'it was asked to run again');
    } else {
      const cause = one.asked.map((id) => nodes[id]).find((other) => other.outcome === 'executed' || other.changes.length > 0);
      if (!cause) continue;
      const held = one.kind === 'build_backend_metadata' || one.kind === 'lock_workspace';
      ran(one, held ? 'cut_off' : 'executed', `\`${cause.name}\` changed`, cause.changes);
    }
  }
  const last = nodes.length - 1;
  let at = last;
  for (let steps = 0; steps < 40 && !quiet; steps++) {
    nodes[at].critical = true;
    const next = nodes[at].asked.filter((id) => nodes[id].outcome === 'executed' || nodes[id].changes.length > 0).sort((a, b) => nodes[b].cost_us - nodes[a].cost_us)[0];
    if (next === undefined) break;
    at = next;
  }
  for (const one of nodes) {
    one.id = last - one.id;
    one.asked = one.asked.map((id) => last - id);
  }
  return run('install', nodes.reverse(), { workspace: '/home/user/monorepo', duration_us: clock + 500000 });
}

export const marker = 'was_run';

/** Texts that would do harm if any of them were taken for markup, code, a placeholder or a pattern. */
export function hostile() {
  const texts = [
    `<script>document.documentElement.dataset.${marker} = 1</script>`,
    `</script><script>document.documentElement.dataset.${marker} = 1</script>`,
    `<img src=x onerror="document.documentElement.dataset.${marker} = 1">`,
    `"><svg onload='document.documentElement.dataset.${marker} = 1'>`,
    `'); document.documentElement.dataset.${marker} = 1; ('`,
    '<!--<script>',
    ']]>&lt;b&gt;&amp;',
    '{{data}} {{script}} {{title}} $& $1 $` $$',
    'constructor',
    '__proto__',
    '\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd 123',
    '\u202egnp.exe\u202c and \u0627\u0644\u0639\u0631\u0628\u064a\u0629',
    'line one\nline two\ttab',
    `javascript:document.documentElement.dataset.${marker}=1`,
    '\ud83d\udc36 dog \u0000\u0007 bell',
    'x'.repeat(20000),
    ' ',
    '',
    '\u2028\u2029',
  ];
  const nodes = texts.map((text, id) =>
    node(id, id % 3 === 0 ? text.slice(0, 200) : 'files', 'observation', text, ['observed', 'executed', 'failed', 'cut_off', text.slice(0, 100)][id % 5], {
      label: text, because: text, changes: [text, text], more_changes: 2, error: text, started_us: id * 10, cost_us: 100,
      asked: id + 1 < texts.length ? [id + 1] : [],
    }));
  nodes[0].asked.push(0, 99999, 2, 2);
  // A cycle does not occur, and must not hang.
  nodes[5].asked.push(3);
  return run(texts[1], nodes, { workspace: texts[2], began: texts[0], against: { run: texts[3], began: texts[4], title: texts[2] } });
}

/** The difference of two runs. */
export function difference() {
  const data = small();
  const of = ['changed', 'changed', 'changed', 'changed', 'changed', 'same', 'changed', 'added', 'same', 'changed', 'changed', 'same', 'changed', 'added'];
  data.nodes.forEach((one, nth) => (one.difference = of[nth]));
  data.nodes.push(node(14, 'fetch_package', 'action', 'hello 1.4', 'verified', { difference: 'removed', label: 'package hello' }));
  data.nodes[2].asked.push(14);
  data.against = { run: 'fedcba9876543210fedcba9876543210', began: '2026-11-24T09:00:00Z', title: 'install' };
  return data;
}
