// Makes a picture of a page; `shot` says how.

import { parseArgs } from 'node:util';

import { launch, open } from './browser.mjs';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    tab: { type: 'string' }, select: { type: 'string' }, filter: { type: 'string' }, dark: { type: 'boolean' }, size: { type: 'string', default: '1440x900' },
    legend: { type: 'boolean' }, fit: { type: 'boolean' },
  },
});
const [file, out] = positionals;
if (!file || !out) {
  console.error('shot PAGE.html OUT.png [--tab timeline] [--select TEXT] [--filter OUTCOME] [--legend] [--fit] [--dark] [--size 1440x900]');
  process.exit(2);
}
const [width, height] = values.size.split('x').map(Number);
const browser = await launch();
try {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: values.dark ? 'dark' : 'light', reducedMotion: 'reduce', offline: true,
  });
  const { page } = await open(context, file);
  if (values.legend) await page.click('[data-legend] summary');
  if (values.filter) await page.click(`[data-filter-outcome="${values.filter}"]`);
  if (values.tab) await page.click(`#tab-${values.tab}`);
  if (values.select) {
    await page.fill('#search', values.select);
    await page.press('#search', 'Enter');
    await page.waitForSelector('[data-panel="node"]');
    await page.fill('#search', '');
    await page.evaluate(() => document.activeElement.blur());
  }
  if (values.fit) await page.click('[data-zoom="fit"]');
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.screenshot({ path: out });
} finally {
  await browser.close();
}
