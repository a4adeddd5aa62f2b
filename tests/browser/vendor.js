// Copies the libraries of the page from npm to web/vendor/: `node vendor.js`.
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const packages = new URL('node_modules/', import.meta.url);
const folder = new URL('../../web/vendor/', import.meta.url);

// There is no build step, and the Content-Security-Policy forbids import maps: modules need relative addresses.
const relative = (source) =>
  source.replaceAll('from"preact"', 'from"./preact.js"').replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n');

const read = (path) => readFile(new URL(path, packages), 'utf8');

/** The files of web/vendor/, by name, made from the installed packages. */
export async function vendored() {
  const licences = await Promise.all(
    ['preact', 'htm'].map(async (name) => `${name}\n\n${await read(`${name}/LICENSE`)}`),
  );
  return {
    'preact.js': relative(await read('preact/dist/preact.mjs')),
    'hooks.js': relative(await read('preact/hooks/dist/hooks.mjs')),
    'htm.js': relative(await read('htm/dist/htm.module.js')),
    'LICENSES.txt': licences.join('\n\n'),
  };
}

/** The files that the repository has. */
export async function committed() {
  const names = Object.keys(await vendored());
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(new URL(name, folder), 'utf8')])),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of Object.entries(await vendored())) await writeFile(new URL(name, folder), text);
}
