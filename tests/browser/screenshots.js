// Writes the pictures of the documents: `make screenshots`.
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, open } from './browser.js';
import { startFixture } from './fixture.js';
import { tenantId, world } from './world.js';

const LARGEST = 150_000;

/** Name, address and height of each picture. */
const PICTURES = [
  ['drops', '#/drops', 1000],
  ['attributes', `#/attributes/${tenantId(1)}`, 860],
  ['customers', '#/customers', 860],
];

const browser = await launch();
const server = await startFixture(world());
for (const [name, fragment, height] of PICTURES) {
  for (const colorScheme of ['light', 'dark']) {
    const { page, close } = await open(browser, server.page + fragment, { width: 1200, height, colorScheme });
    await page.waitForFunction(() => document.querySelector('h1') && !document.body.textContent.includes('Loading…'));
    const file = fileURLToPath(new URL(`../../docs/images/${name}-${colorScheme}.png`, import.meta.url));
    await page.screenshot({ path: file });
    await close();
    const { size } = await stat(file);
    console.log(`${file}: ${size} bytes`);
    if (size > LARGEST) throw new Error(`${file} has more than ${LARGEST} bytes`);
  }
}
await browser.close();
await server.stop();
