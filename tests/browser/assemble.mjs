// Puts a page together as the program does: each placeholder of the template once, in one pass, so that nothing which is put
// in is looked at again.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = join(dirname(fileURLToPath(import.meta.url)), '../../cli/src/page');
const read = (name) => readFileSync(join(source, name), 'utf8');

export const placeholders = ['title', 'style', 'layout', 'script', 'data'];
export const template = () => read('page.html');

export function assemble(data) {
  const parts = {
    title: data.title.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`),
    style: read('page.css'),
    layout: read('vendor/dagre.min.js'),
    script: read('page.js'),
    data: JSON.stringify(data).replaceAll('<', '\\u003c'),
  };
  return template().replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
}
