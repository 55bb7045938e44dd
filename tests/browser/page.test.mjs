// What the page must do, in a headless browser without a network. The pages are made from the files that the program uses.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { assemble, placeholders, template } from './assemble.mjs';
import { launch, open } from './browser.mjs';
import { difference, hostile, large, marker, small } from './data.mjs';

const BOXES = '[data-boxes] [data-node-id], [data-boxes] [data-fold]';

let browser;
let folder;
const runs = { small: small(), large: large(), cold: large(5000, { cold: true }), huge: large(20000), quiet: large(5000, { quiet: true }), hostile: hostile(), difference: difference() };
const fileOf = (name) => join(folder, `${name}.html`);

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'doge-page-'));
  for (const [name, run] of Object.entries(runs)) writeFileSync(fileOf(name), assemble(run));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens a page, does something with it, and demands that it asked for nothing and complained of nothing. */
async function on(file, act, { hash = '', width = 1440, height = 900, dark = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height }, offline: true, reducedMotion: 'reduce', colorScheme: dark ? 'dark' : 'light',
  });
  try {
    const { page, seen } = await open(context, file, hash);
    await act(page);
    assert.deepEqual(seen.requests, [pathToFileURL(file).href], 'it asks for nothing but itself');
    assert.deepEqual(seen.errors, []);
  } finally {
    await context.close();
  }
}

const boxCount = (page) => page.locator(BOXES).count();
const shownIds = (page) => page.locator('[data-boxes] [data-node-id]').evaluateAll((boxes) => boxes.map((box) => Number(box.dataset.nodeId)).sort((a, b) => a - b));
const box = (page, id) => page.locator(`[data-boxes] [data-node-id="${id}"]`);
const panel = (page) => page.locator('aside');
const listed = (page, name) => page.locator(`[data-list="${name}"] a`).evaluateAll((links) => links.map((link) => Number(link.dataset.linkId)));

async function goTo(page, text) {
  await page.fill('#search', text);
  await page.press('#search', 'Enter');
  await page.waitForSelector('[data-panel="node"]');
}

async function picture(file, options) {
  let drawn;
  await on(file, async (page) => {
    drawn = await page.evaluate(() => ({
      boxes: [...document.querySelectorAll('[data-boxes] > *')].map((box) => `${box.dataset.box} ${box.style.left} ${box.style.top} ${box.style.width} ${box.style.height}`),
      edges: [...document.querySelectorAll('.edges > path')].map((path) => `${path.getAttribute('class')} ${path.getAttribute('d')}`),
    }));
  }, options);
  return drawn;
}

// ---------------------------------------------------------------------------------------------------------------- the files

test('the template has each placeholder once and no other', () => {
  const found = [...template().matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]);
  assert.deepEqual(found.sort(), [...placeholders].sort());
});

test('a page names no address to load from', () => {
  const addresses = new Set(assemble(small()).match(/\b(?:https?|wss?|ftp):\/\/[^\s"'`<>)]*/g));
  addresses.delete('http://www.w3.org/2000/svg'); // the name of a namespace
  assert.deepEqual([...addresses], []);
});

// -------------------------------------------------------------------------------------------------------------- the first view

test('a small run is shown as a whole, with what it was', () =>
  on(fileOf('small'), async (page) => {
    assert.deepEqual(await shownIds(page), runs.small.nodes.map((node) => node.id));
    assert.equal(await page.textContent('[data-title]'), 'install');
    const meta = await page.textContent('[data-meta]');
    for (const said of ['/home/user/quickstart', '2026-11-25 10:00:00 UTC', '812 ms', '14 specs: 5 ran, 3 failed']) assert.ok(meta.includes(said), said);
    assert.equal((await page.textContent('[data-filter-outcome="failed"]')).replace(/\s/g, ''), 'failed3');
    const signs = await page.locator('[data-boxes] .sign path').evaluateAll((paths) => paths.map((path) => `${path.closest('.box').dataset.outcome} ${path.getAttribute('d')}`));
    assert.equal(new Set(signs).size, 6, 'each outcome has a sign of its own');
    assert.equal(new Set(signs.map((text) => text.replace(/^\S+ /, ''))).size, 6);
  }));

test('5,000 specs are at most 200 boxes and can be used within two seconds', async (t) => {
  for (const name of ['large', 'cold']) {
    await on(fileOf(name), async (page) => {
      const ready = Number(await page.evaluate(() => document.documentElement.dataset.ready));
      const boxes = await boxCount(page);
      t.diagnostic(`${name}: ${runs[name].nodes.length} specs, ready after ${ready} ms, ${boxes} boxes`);
      assert.equal(runs[name].nodes.length, 5000);
      assert.ok(ready <= 2000, `ready after ${ready} ms`);
      assert.ok(boxes > 20 && boxes <= 200, `${boxes} boxes`);
      assert.equal(Number(await page.getAttribute('[data-graph]', 'data-box-count')), boxes);
      const folded = await page.locator('[data-fold]').evaluateAll((folds) => folds.reduce((sum, fold) => sum + Number(fold.dataset.foldCount), 0));
      assert.equal(folded + (await page.locator('[data-boxes] [data-node-id]').count()), 5000, 'each spec is in a box');
    });
  }
});

test('20,000 specs with 60,000 edges can be used', (t) =>
  on(fileOf('huge'), async (page) => {
    const edges = runs.huge.nodes.reduce((sum, node) => sum + node.asked.length, 0);
    const ready = Number(await page.evaluate(() => document.documentElement.dataset.ready));
    t.diagnostic(`${runs.huge.nodes.length} specs, ${edges} edges, ready after ${ready} ms`);
    assert.ok(edges > 60000);
    assert.ok(ready <= 6000, `ready after ${ready} ms`);
    assert.ok((await boxCount(page)) <= 200);
    await goTo(page, 'build packages/core-1000');
    assert.equal(await panel(page).locator('[data-name]').textContent(), 'build packages/core-1000');
  }));

test('what is of interest keeps a box of its own, with the chains between', () =>
  on(fileOf('large'), async (page) => {
    const shown = new Set(await shownIds(page));
    const must = runs.large.nodes.filter((node) => node.critical || node.outcome === 'cut_off' || (node.outcome === 'observed' && node.changes.length > 0));
    assert.ok(must.length > 5);
    for (const node of must) assert.ok(shown.has(node.id), node.name);
  }));

test('the chain from the root down to the only spec that ran is shown, unfolded', () =>
  on(fileOf('quiet'), async (page) => {
    const shown = new Set(await shownIds(page));
    const ran = runs.quiet.nodes.find((node) => node.outcome === 'executed');
    const above = new Set([ran.id]);
    for (const id of above) {
      for (const node of runs.quiet.nodes) if (shown.has(node.id) && node.asked.includes(id)) above.add(node.id);
    }
    assert.ok(above.size >= 4, `${above.size} in the chain`);
    assert.ok(above.has(0), 'it begins at the root');
    assert.ok((await boxCount(page)) < 80, 'and what nothing happened to is folded');
  }));

test('the same data gives the same picture, whatever the window', async () => {
  for (const name of ['small', 'large', 'difference', 'hostile']) {
    const first = await picture(fileOf(name));
    assert.ok(first.boxes.length > 10 && first.edges.length > 10);
    assert.deepEqual(await picture(fileOf(name), { width: 900, height: 600, dark: true }), first, name);
  }
});

test('boxes do not overlap, and arrows lead from the left to the right', () =>
  on(fileOf('small'), async (page) => {
    const places = await page.locator(BOXES).evaluateAll((boxes) => boxes.map((box) => ({
      id: Number(box.dataset.nodeId), x: parseFloat(box.style.left), y: parseFloat(box.style.top), width: parseFloat(box.style.width), height: parseFloat(box.style.height),
    })));
    for (const a of places) {
      for (const b of places) {
        if (a !== b) assert.ok(a.x >= b.x + b.width || b.x >= a.x + a.width || a.y >= b.y + b.height || b.y >= a.y + a.height, `${a.id} and ${b.id}`);
      }
    }
    const of = new Map(places.map((place) => [place.id, place]));
    for (const node of runs.small.nodes) for (const asked of node.asked) assert.ok(of.get(node.id).x < of.get(asked).x, `${node.id} and ${asked}`);
  }));

// ------------------------------------------------------------------------------------------------------------------ the panel

test('a click shows why a spec ran, and links move on', () =>
  on(fileOf('small'), async (page) => {
    await box(page, 1).click();
    const text = panel(page);
    assert.equal(await text.locator('[data-name]').textContent(), 'records of the workspace');
    assert.equal(await text.locator('[data-because]').textContent(), '`manifest` changed');
    assert.deepEqual(await text.locator('[data-changes] li').allTextContents(), ['dependencies: hello 1.* -> hello 2.*', 'channels: + ./channel', 'and 3 more']);
    const said = await text.textContent();
    for (const part of ['It ran', 'lock_workspace', 'a query', '210 \u00b5s', '400 \u00b5s after the run began', 'critical path', 'It asked for 4', 'Asked for by 1']) assert.ok(said.includes(part), part);
    assert.deepEqual((await listed(page, 'asked')).sort(), [3, 4, 5, 6]);
    assert.deepEqual(await listed(page, 'askers'), [0]);
    assert.equal(new URL(page.url()).hash, '#node=1');

    await text.locator('[data-list="asked"] [data-link-id="3"]').click();
    await page.waitForFunction(() => document.querySelector('[data-name]')?.textContent === 'manifest');
    assert.equal(await page.locator('.box.chosen').getAttribute('data-node-id'), '3');

    await box(page, 9).click();
    await page.waitForSelector('[data-error]');
    assert.equal(await text.locator('[data-error]').textContent(), 'no space left on device');
    await page.goBack();
    await page.waitForFunction(() => document.querySelector('[data-name]')?.textContent === 'manifest');
    await text.locator('[data-close]').click();
    assert.ok(await text.isHidden());
    assert.equal(await page.locator('.box.chosen').count(), 0);
  }));

test('an address names a spec, also one that is folded, and a wrong one does nothing', async () => {
  const folded = runs.large.nodes.find((node) => node.name === 'build backend of packages/net-101');
  await on(fileOf('large'), async (page) => {
    await page.waitForSelector('[data-panel="node"]');
    assert.equal(await panel(page).locator('[data-name]').textContent(), folded.name);
    const at = await box(page, folded.id).boundingBox();
    assert.ok(at.x > 0 && at.y > 0 && at.x + at.width < 1440 && at.y + at.height < 900, 'it is in sight');
  }, { hash: `#node=${folded.id}` });
  for (const hash of ['#node=99999', '#node=x', '#other']) {
    await on(fileOf('small'), async (page) => assert.ok(await panel(page).isHidden()), { hash });
  }
});

test('above and below limit the view to what depends on a spec and to what it depends on', async () => {
  await on(fileOf('small'), async (page) => {
    await box(page, 6).click();
    await page.click('[data-act="above"]');
    assert.deepEqual(await shownIds(page), [0, 1, 4, 5, 6]);
    assert.equal(await page.locator('[data-scope="above"]').count(), 1);
    await page.click('[data-act="below"]');
    assert.deepEqual(await shownIds(page), [6, 12]);
    await page.click('[data-show-all]');
    assert.equal((await shownIds(page)).length, 14);
    // Going to what is outside of the view ends the limit.
    await box(page, 3).click();
    await page.click('[data-act="below"]');
    assert.deepEqual(await shownIds(page), [3, 10]);
    await goTo(page, 'greeting');
    assert.equal((await shownIds(page)).length, 14);
  });
  await on(fileOf('large'), async (page) => {
    await goTo(page, 'build packages/ui-434');
    await page.click('[data-act="below"]');
    const ids = new Map(runs.large.nodes.map((node) => [node.id, node]));
    const below = new Set([runs.large.nodes.find((node) => node.name === 'build packages/ui-434').id]);
    for (const id of below) ids.get(id).asked.forEach((asked) => below.add(asked));
    assert.equal(Number(await page.getAttribute('[data-count]', 'data-count')), below.size);
    assert.ok((await boxCount(page)) <= 200);
  });
});

// -------------------------------------------------------------------------------------------------------------------- folding

test('a fold lists its members, which can be searched and shown', () =>
  on(fileOf('large'), async (page) => {
    const fold = page.locator('[data-fold^="discover_backend|verified"]');
    const members = Number(await fold.getAttribute('data-fold-count'));
    const before = await boxCount(page);
    await fold.click();
    await page.waitForSelector('[data-panel="fold"]');
    assert.equal(await page.locator('[data-list="members"] a').count(), 200);
    assert.equal(Number(await page.getAttribute('[data-more]', 'data-more')), members - 200);
    await page.fill('[data-fold-search]', 'net-101');
    assert.equal(await page.locator('[data-list="members"] a').count(), 1);
    await page.locator('[data-list="members"] a').click();
    await page.waitForSelector('[data-panel="node"]');
    assert.equal(await boxCount(page), before + 1, 'it has a box now');
    assert.equal(Number(await fold.getAttribute('data-fold-count')), members - 1);

    await page.click('[data-act="neighbours"]');
    const shown = new Set(await shownIds(page));
    const node = runs.large.nodes.find((one) => one.name === 'build backend of packages/net-101');
    const neighbours = [...node.asked, ...runs.large.nodes.filter((one) => one.asked.includes(node.id)).map((one) => one.id)];
    assert.ok(neighbours.length > 1);
    for (const id of neighbours) assert.ok(shown.has(id));

    await page.click('[data-refold]');
    // The one that is selected stays.
    assert.equal(await boxCount(page), before + 1);
    await page.keyboard.press('Escape');
  }));

test('unfolding goes in bounded steps and has an end', () =>
  on(fileOf('large'), async (page) => {
    const before = await boxCount(page);
    // The panel that the first of the two clicks opens lies over the fold.
    await page.locator('[data-fold^="files|observed"]').dblclick();
    assert.equal(await boxCount(page), before + 25);
    for (let times = 0; times < 15; times++) await page.click('[data-act="unfold"]');
    const most = await boxCount(page);
    assert.ok(most > before + 100 && most <= 400, `${most} boxes`);
    await page.click('[data-refold]');
    assert.equal(await boxCount(page), before);
  }));

// --------------------------------------------------------------------------------------------------------- search and filters

test('the search looks at names, labels and kinds, and leads to what it finds', () =>
  on(fileOf('large'), async (page) => {
    await page.fill('#search', 'BUILD backend net-101');
    assert.equal(await page.textContent('[data-results-count]'), '2 found');
    await page.fill('#search', 'fetch_package');
    const fetched = runs.large.nodes.filter((node) => node.kind === 'fetch_package').length;
    assert.equal(Number(await page.getAttribute('[data-results-count]', 'data-results-count')), fetched);
    await page.fill('#search', 'no such thing');
    assert.equal(await page.textContent('[data-results-count]'), 'Nothing found');
    await page.press('#search', 'Enter');
    assert.ok(await panel(page).isHidden());

    await page.fill('#search', 'host of packages/data-07');
    await page.press('#search', 'ArrowDown');
    await page.press('#search', 'Enter');
    await page.waitForSelector('[data-panel="node"]');
    const id = Number(new URL(page.url()).hash.slice('#node='.length));
    const node = runs.large.nodes.find((one) => one.id === id);
    assert.ok(node.name.includes('host of packages/data-07'), node.name);
    assert.equal(await page.locator('.box.chosen').getAttribute('data-node-id'), String(id));
    assert.ok(await box(page, id).evaluate((element) => element.classList.contains('hit')));
    assert.ok(await page.locator('[data-results]').isHidden());

    await page.fill('#search', 'place of the work');
    await page.locator('[data-result-id]').first().click();
    await page.waitForFunction(() => document.querySelector('[data-name]').textContent === 'place of the workspace');
  }));

test('filters limit the view to outcomes and kinds, and join what they part', () =>
  on(fileOf('small'), async (page) => {
    await page.click('[data-only-ran]');
    assert.deepEqual(await shownIds(page), [0, 1, 2, 3, 4, 6, 7, 9]);
    assert.equal(await page.getAttribute('[data-filter-outcome="cut_off"]', 'aria-pressed'), 'true');
    await page.click('[data-only-ran]');
    assert.equal((await shownIds(page)).length, 14);

    await page.click('[data-kinds] summary');
    await page.click('[data-filter-kind="solve_conda_environment"]');
    await page.click('[data-filter-kind="channel_state"]');
    assert.deepEqual(await shownIds(page), [4, 5, 12]);
    assert.equal(await page.locator('.edges > path.via').count(), 2, 'through the closure, which is hidden');
    await page.keyboard.press('Escape');
    await page.click('[data-filter-outcome="verified"]');
    assert.deepEqual(await shownIds(page), [5]);
    await page.click('[data-filter-outcome="verified"]');
    await page.click('[data-filter-outcome="pending"]');
    assert.deepEqual(await shownIds(page), []);
    assert.ok(await page.locator('[data-empty]').isVisible());
    // What one goes to is shown in spite of the filters.
    await goTo(page, 'greeting');
    assert.deepEqual(await shownIds(page), [8]);
    await page.click('[data-clear-filters]');
    assert.equal((await shownIds(page)).length, 14);
  }));

// ---------------------------------------------------------------------------------------------------------------- differences

test('a difference marks what was added, removed and changed', () =>
  on(fileOf('difference'), async (page) => {
    assert.ok((await page.textContent('[data-title]')).includes('compared with install'));
    for (const [id, mark] of [[7, 'added'], [14, 'removed'], [3, 'changed']]) {
      assert.equal(await box(page, id).getAttribute('data-difference'), mark);
      assert.equal(await box(page, id).locator(`[data-mark="${mark}"]`).count(), 1);
      assert.ok((await box(page, id).getAttribute('aria-label')).includes(mark));
    }
    assert.equal(await box(page, 5).locator('.mark').count(), 0);
    await page.click('[data-legend] summary');
    assert.deepEqual(await page.locator('[data-legend-difference]').evaluateAll((items) => items.map((item) => item.dataset.legendDifference)), ['added', 'removed', 'changed']);
    await page.click('[data-only-different]');
    assert.deepEqual(await shownIds(page), runs.difference.nodes.filter((node) => node.difference !== 'same').map((node) => node.id));
    await page.click('[data-filter-difference="added"]');
    await page.click('[data-filter-difference="changed"]');
    assert.deepEqual(await shownIds(page), [14]);
    await box(page, 14).click();
    await page.waitForSelector('[data-panel="node"]');
    assert.ok((await panel(page).textContent()).includes('Only the run compared with has it.'));
  }));

test('a page of one run shows no differences', () =>
  on(fileOf('small'), async (page) => {
    assert.equal(await page.locator('[data-filter-difference], [data-only-different], [data-legend-difference], .box [data-mark="changed"]').count(), 0);
  }));

// ------------------------------------------------------------------------------------------------------------------- timeline

test('the timeline shows what was timed, and a click on a bar selects it', () =>
  on(fileOf('small'), async (page) => {
    await page.click('#tab-timeline');
    const canvas = page.locator('[data-timeline]');
    await page.waitForFunction(() => document.querySelector('[data-timeline]').dataset.to);
    const timed = runs.small.nodes.filter((node) => node.started_us !== null && node.cost_us > 0);
    assert.equal(Number(await canvas.getAttribute('data-bars')), timed.length);

    const node = runs.small.nodes[7];
    const at = await canvas.boundingBox();
    const [from, to] = [Number(await canvas.getAttribute('data-from')), Number(await canvas.getAttribute('data-to'))];
    const x = at.x + 16 + ((node.started_us + node.cost_us / 2 - from) * (at.width - 32)) / (to - from);
    let y = at.y + 30;
    for (; y < at.y + at.height; y += 5) {
      await page.mouse.move(x, y);
      if ((await page.locator('[data-tip]').isVisible()) && (await page.getAttribute('[data-tip]', 'data-tip')) === '7') break;
    }
    const tip = await page.textContent('[data-tip]');
    assert.ok(tip.includes('hello 2.0') && tip.includes('204 ms') && tip.includes('critical path'), tip);
    await page.mouse.click(x, y);
    await page.waitForSelector('[data-panel="node"]');
    assert.equal(await panel(page).locator('[data-name]').textContent(), 'hello 2.0');
    assert.equal(await page.locator('[data-longest] tr.chosen').getAttribute('data-row'), '7');

    const longest = await page.locator('[data-longest] tr').evaluateAll((rows) => rows.map((row) => Number(row.dataset.row)));
    assert.deepEqual(longest, timed.sort((a, b) => b.cost_us - a.cost_us).map((one) => one.id));
    await page.locator('[data-longest] tr').first().locator('a').click();
    await page.waitForFunction(() => document.querySelector('[data-name]').textContent === 'manners 1.0');

    await page.click('#tab-graph');
    assert.equal(await page.locator('.box.chosen').getAttribute('data-node-id'), '13');
  }));

test('the timeline packs bars without overlaps, the critical path on top, and zooms', () =>
  on(fileOf('cold'), async (page) => {
    await page.click('#tab-timeline');
    const canvas = page.locator('[data-timeline]');
    await page.waitForFunction(() => document.querySelector('[data-timeline]').dataset.to);
    // As many lanes as run at one time, at most twice: those of the critical path are apart.
    const events = runs.cold.nodes.filter((node) => node.started_us !== null && node.cost_us > 0).flatMap((node) => [[node.started_us, 1], [node.started_us + node.cost_us, -1]]);
    events.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let now = 0;
    const most = events.reduce((max, [, step]) => Math.max(max, (now += step)), 0);
    const lanes = Number(await canvas.getAttribute('data-lanes'));
    assert.ok(lanes >= most && lanes <= 2 * most, `${lanes} lanes for ${most} at a time`);
    assert.equal(await page.locator('[data-longest] tr').count(), 30);

    const span = async () => {
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      return Number(await canvas.getAttribute('data-to')) - Number(await canvas.getAttribute('data-from'));
    };
    const all = await span();
    await canvas.hover({ position: { x: 400, y: 100 } });
    await page.mouse.wheel(0, -400);
    const closer = await span();
    assert.ok(closer < all * 0.8);
    await page.click('[data-time-zoom="in"]');
    assert.ok((await span()) < closer);
    await canvas.focus();
    await page.keyboard.press('0');
    assert.equal(await span(), all);
  }));

// ------------------------------------------------------------------------------------------------------- moving, keys, looks

test('the graph is moved, zoomed, fitted and focused with the mouse', () =>
  on(fileOf('small'), async (page) => {
    const where = () => box(page, 4).boundingBox();
    const first = await where();
    await page.mouse.move(700, 200);
    await page.mouse.down();
    await page.mouse.move(760, 240, { steps: 4 });
    await page.mouse.up();
    const dragged = await where();
    assert.ok(Math.abs(dragged.x - first.x - 60) < 1 && Math.abs(dragged.y - first.y - 40) < 1);
    assert.ok(await panel(page).isHidden());
    // A drag that begins on a box does not open it.
    await page.mouse.move(dragged.x + 20, dragged.y + 20);
    await page.mouse.down();
    await page.mouse.move(dragged.x + 60, dragged.y + 20, { steps: 4 });
    await page.mouse.up();
    assert.ok(await panel(page).isHidden());

    const pointed = await where();
    await page.mouse.move(pointed.x, pointed.y);
    await page.mouse.wheel(0, -200);
    const zoomed = await where();
    assert.ok(zoomed.width > pointed.width * 1.2);
    assert.ok(Math.abs(zoomed.x - pointed.x) < 1 && Math.abs(zoomed.y - pointed.y) < 1, 'what is under the pointer stays there');
    await page.click('[data-zoom="out"]');
    assert.ok((await where()).width < zoomed.width);
    await page.click('[data-zoom="fit"]');
    const fitted = await where();
    assert.ok(Math.abs(fitted.x - first.x) < 1 && Math.abs(fitted.width - first.width) < 1);

    await page.click('[data-zoom="out"]');
    await page.click('[data-zoom="out"]');
    await box(page, 4).dblclick();
    const focused = await where();
    assert.equal(Math.round(focused.width), 252, 'as large as it is');
  }));

test('everything can be reached with the keyboard', () =>
  on(fileOf('small'), async (page) => {
    const focused = () => page.evaluate(() => document.activeElement.dataset.nodeId ?? document.activeElement.id);
    await page.keyboard.press('/');
    assert.equal(await focused(), 'search');
    await page.keyboard.type('solve default');
    await page.keyboard.press('Enter');
    await page.waitForSelector('[data-panel="node"]');
    await page.keyboard.press('Escape');
    assert.equal(await page.inputValue('#search'), '');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    assert.ok(await panel(page).isHidden());

    // One stop for all boxes; arrows move between them.
    await page.focus('[data-kinds] summary');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), '0');
    await page.keyboard.press('ArrowRight');
    const next = Number(await focused());
    assert.ok(runs.small.nodes[0].asked.includes(next));
    assert.equal(await page.locator('[data-boxes] [tabindex="0"]').count(), 1);
    await page.keyboard.press('ArrowLeft');
    assert.equal(await focused(), '0');
    await page.keyboard.press('Enter');
    await page.waitForSelector('[data-panel="node"]');
    assert.equal(await panel(page).locator('[data-name]').textContent(), 'environment default@linux-64');
    await page.keyboard.press('Escape');
    assert.ok(await panel(page).isHidden());

    const width = async () => (await box(page, 0).boundingBox()).width;
    const before = await width();
    await page.keyboard.press('+');
    assert.ok((await width()) > before);
    await page.keyboard.press('-');
    await page.keyboard.press('-');
    assert.ok((await width()) < before);
    await page.keyboard.press('0');
    assert.ok(Math.abs((await width()) - before) < 1);

    await page.focus('#tab-graph');
    await page.keyboard.press('ArrowRight');
    assert.equal(await focused(), 'tab-timeline');
    assert.ok(await page.locator('#timeline').isVisible());
    await page.keyboard.press('ArrowRight');
    assert.ok(await page.locator('#graph').isVisible());
  }));

test('whatever can be used has a name', () =>
  on(fileOf('difference'), async (page) => {
    await box(page, 1).click();
    const nameless = await page.locator('button, a, input, summary, canvas, [role="tab"]').evaluateAll((elements) =>
      elements.filter((element) => !(element.getAttribute('aria-label') || element.textContent.trim())).map((element) => element.outerHTML));
    assert.deepEqual(nameless, []);
  }));

test('texts and signs have contrast in the light and in the dark', async () => {
  for (const dark of [false, true]) {
    await on(fileOf('small'), async (page) => {
      const color = await page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const names = ['text', 'muted', 'surface', 'ground', 'accent', 'critical', 'on-solid', 'added', 'removed', 'changed', 'strong-line'];
        for (const outcome of ['verified', 'executed', 'cut_off', 'observed', 'failed', 'pending']) names.push(outcome, `${outcome}-tint`);
        return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
      });
      const light = (name) => {
        const parts = color[name].match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16) / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
      const demand = (a, b, least) => assert.ok(contrast(a, b) >= least, `${a} on ${b}, ${dark ? 'dark' : 'light'}: ${contrast(a, b).toFixed(2)}`);
      for (const ground of ['surface', 'ground']) {
        for (const text of ['text', 'muted', 'accent']) demand(text, ground, 4.5);
        demand('strong-line', ground, 3);
      }
      for (const mark of ['critical', 'added', 'removed', 'changed']) demand(mark, 'surface', 4.5);
      for (const outcome of ['verified', 'executed', 'cut_off', 'observed', 'failed', 'pending']) {
        demand('on-solid', outcome, 4.5);
        demand('text', `${outcome}-tint`, 7);
        demand('muted', `${outcome}-tint`, 4.5);
        demand(outcome, 'ground', 3);
      }
    }, { dark });
  }
});

test('it can be used in a narrow window', () =>
  on(fileOf('small'), async (page) => {
    await goTo(page, 'solve default');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 480, `${wide} wide`);
    const at = await box(page, 4).boundingBox();
    const below = await panel(page).boundingBox();
    assert.ok(at.y + at.height <= below.y, 'the panel does not cover it');
  }, { width: 480, height: 800 }));

// -------------------------------------------------------------------------------------------------------------- hostile texts

test('texts are texts, whatever they hold', () =>
  on(fileOf('hostile'), async (page) => {
    assert.equal(await page.textContent('[data-title]'), `${runs.hostile.title} compared with ${runs.hostile.against.title}`);
    for (const node of runs.hostile.nodes) {
      await page.evaluate((id) => (location.hash = `#node=${id}`), node.id);
      await page.waitForFunction((id) => document.querySelector('aside').dataset.panelNode === String(id), node.id);
      if (node.name) {
        assert.equal(await panel(page).locator('[data-name]').textContent(), node.name);
        assert.equal(await panel(page).locator('[data-because]').textContent(), node.name);
        assert.equal(await panel(page).locator('[data-error]').textContent(), node.name);
        assert.equal(await panel(page).locator('[data-changes] li').first().textContent(), node.name);
      }
      await page.fill('#search', node.name.slice(0, 30));
    }
    await page.click('#tab-timeline');
    await page.mouse.move(60, 200);
    await page.click('#tab-graph');
    await page.click('[data-kinds] summary');
    for (const act of ['above', 'below']) await page.click(`[data-act="${act}"]`);
    assert.equal(await page.evaluate((name) => document.documentElement.dataset[name], marker), undefined, 'nothing of it was run');
    assert.equal(await page.locator('script').count(), 3);
    assert.equal(await page.locator('img, iframe, object, embed, link, svg[onload]').count(), 0);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 1440, 'a long text does not stretch the page');
  }));

test('the policy of the page forbids to load, and needs no handlers in the markup', () =>
  on(fileOf('small'), async (page) => {
    const policy = await page.getAttribute('meta[http-equiv="Content-Security-Policy"]', 'content');
    assert.ok(policy.startsWith("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"));
    await box(page, 0).click();
    const handlers = await page.evaluate(() => [...document.querySelectorAll('*')].flatMap((element) => [...element.attributes].map((attribute) => attribute.name)).filter((name) => name.startsWith('on')));
    assert.deepEqual(handlers, []);
  }));

test('a run that asked for nothing is told so', async () => {
  const file = join(folder, 'empty.html');
  writeFileSync(file, assemble({ ...small(), nodes: [] }));
  await on(file, async (page) => {
    assert.equal(await page.textContent('[data-empty]'), 'This run asked for nothing.');
    await page.click('#tab-timeline');
    assert.ok(await page.locator('[data-timeline-empty]').isVisible());
  });
});

// --------------------------------------------------------------------------------------------------- a page of the program itself

test('the page that the program made can be used', { skip: process.env.DOGE_PAGE ? false : 'DOGE_PAGE names no page' }, (t) =>
  on(process.env.DOGE_PAGE, async (page) => {
    const data = JSON.parse(await page.textContent('#doge-data'));
    const ready = Number(await page.evaluate(() => document.documentElement.dataset.ready));
    t.diagnostic(`${data.nodes.length} specs, ready after ${ready} ms`);
    assert.ok(data.nodes.length > 0);
    assert.ok(ready <= 2000, `ready after ${ready} ms`);
    assert.ok((await boxCount(page)) <= 200);
    for (const node of [data.nodes[0], data.nodes.at(-1), data.nodes.find((one) => one.because)].filter(Boolean)) {
      await page.evaluate((id) => (location.hash = `#node=${id}`), node.id);
      await page.waitForFunction((id) => document.querySelector('aside').dataset.panelNode === String(id), node.id);
      assert.equal(await panel(page).locator('[data-name]').textContent(), node.name);
      if (node.because) assert.equal(await panel(page).locator('[data-because]').textContent(), node.because);
      await box(page, node.id).click();
      assert.equal((await listed(page, 'asked')).length, Math.min(new Set(node.asked).size, 200));
      await page.keyboard.press('Escape');
    }
    await goTo(page, data.nodes[0].name);
    assert.ok((await panel(page).locator('[data-name]').textContent()).toLowerCase().includes(data.nodes[0].name.toLowerCase().split(/\s+/)[0]));
    await page.click('#tab-timeline');
    assert.ok(await page.locator('#timeline').isVisible());
  }));
