import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { committed, vendored } from './vendor.js';
import { dialog, press, see, visitor } from './visit.js';
import { largeWorld, tenantId, world } from './world.js';

const visit = visitor();
const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

/** The views, each with what is visible once it is complete, and what to press first. */
const VIEWS = {
  Drops: ['#/drops', 'All drops'],
  'a drop': [`#/drop/${encodeURIComponent(world().drops[1].path)}`, 'part-1.json.gz'],
  'a plan': ['#/drops', 'rows will be sent again', /^Replay these drops: Set aside/],
  Attributes: ['#/attributes', tenantId(1)],
  'attributes of a tenant': [`#/attributes/${tenantId(1)}`, 'withheld'],
  ranges: [`#/attributes/${tenantId(1)}`, 'Ranges: Email hours', 'Customize the ranges of Email hours'],
  roles: [`#/attributes/${tenantId(1)}`, 'Roles: Email hours', 'Edit the roles of Email hours'],
  cycles: [`#/attributes/${tenantId(1)}`, 'Uses 12 weeks of data', 'Edit cycles of Engagement'],
  'set-up': [`#/attributes/${tenantId(2)}/setup/1`, 'Internal network size'],
  Customers: ['#/customers', 'need attention'],
};

/** Presses the button of a view if it has one, and waits until the view is complete. */
async function show(page, [, text, button]) {
  if (button) await press(page, button);
  await see(page, text);
  await page.waitForFunction(() => !document.body.textContent.includes('Loading…'));
}

for (const [name, view] of Object.entries(VIEWS)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`accessibility of ${name}, ${colorScheme}: axe finds no violation`, async (t) => {
      const { page } = await visit(t, view[0], { colorScheme });
      await show(page, view);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() =>
        axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }),
      );
      assert.deepEqual(
        violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]),
        [],
      );
    });
  }

  test(`${name} fits a screen of 360 pixels without horizontal scrolling`, async (t) => {
    const { page } = await visit(t, view[0], { width: 360, height: 740 });
    await show(page, view);
    const width = await page.evaluate(() =>
      Math.max(
        document.documentElement.scrollWidth,
        ...[...document.querySelectorAll('dialog')].map((dialog) => dialog.scrollWidth),
      ),
    );
    assert.ok(width <= 360, `${width} pixels`);
  });
}

test('10,000 drops: the first page is complete, pages turn, and the document stays small', async (t) => {
  const { page } = await visit(t, '#/drops', { state: largeWorld() });
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 100);
  await press(page, 'Next page');
  await page.waitForURL(/cursor=100/);
  await see(page, 'datasets/run-100/');
  await press(page, 'Previous page');
  await see(page, 'datasets/run-0/');
  await press(page, /^Show \d+ more of 400 tenants$/);
  const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
  assert.ok(nodes < 40_000, `${nodes} elements`);
});

test('markup in names, reasons and messages is text', async (t) => {
  const state = world();
  const markup = '<img src=x onerror=alert(1)><script>alert(2)</script>&amp;';
  const evil = {
    ...state.drops[1],
    tenantId: markup,
    path: `datasets/${markup}`,
    reason: markup,
    message: markup,
    remedy: markup,
  };
  state.drops.unshift(evil);
  state.groups.unshift({ ...state.groups[0], tenantId: markup, reason: markup, remedy: markup });
  state.files[evil.path] = [
    {
      name: markup,
      state: markup,
      nextRow: 1,
      badRows: 0,
      attempts: 1,
      updated: null,
      reason: markup,
      message: markup,
    },
  ];
  state.customers.unshift({ ...state.customers[0], tenantId: markup, problems: [markup] });
  const { page } = await visit(t, '#/drops', { state });
  for (const fragment of ['#/drops', `#/drop/${encodeURIComponent(evil.path)}`, '#/customers']) {
    await page.evaluate((fragment) => {
      location.hash = fragment;
    }, fragment);
    await see(page.getByRole('main'), markup);
    assert.equal(await page.locator('img[src=x], main script').count(), 0);
  }
});

test('with the keyboard only: skip the navigation, replay one drop, and come back', async (t) => {
  const { page, state } = await visit(t, '#/drops');
  await see(page, 'a person is needed.');
  await page.keyboard.press('Tab');
  await page.locator(':focus', { hasText: 'Skip to the content' }).waitFor();
  await page.keyboard.press('Enter');
  const reach = async (name) => {
    for (let steps = 0; steps < 60; steps += 1) {
      await page.keyboard.press('Tab');
      const isReached = await page.evaluate((name) => {
        const element = document.activeElement;
        // The body, which has the focus after the last element, contains every text.
        return element.matches('a, button') && (element.getAttribute('aria-label') || element.textContent).includes(name);
      }, name);
      if (isReached) return;
    }
    assert.fail(`the keyboard does not reach ${name}`);
  };
  await reach('Replay these drops: Set aside');
  await page.keyboard.press('Enter');
  await see(dialog(page), 'rows will be sent again');
  await page.keyboard.press('Escape');
  await dialog(page).waitFor({ state: 'hidden' });
  await page.locator('[aria-label^="Replay these drops: Set aside"]:focus').waitFor();
  await page.keyboard.press('Enter');
  await see(dialog(page), 'rows will be sent again');
  await reach('Replay the first one only');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Replay', exact: true }).waitFor();
  await page.locator('h1:focus').waitFor();
  assert.equal(state.replays.get('run-1').first, 1);
});

test('every section shows the moment that its answer describes', async (t) => {
  const { page } = await visit(t, '#/drops');
  await see(page, 'a person is needed.');
  await page.waitForFunction(() => document.querySelectorAll('.as-of time').length === 3);
});

test('the copies in web/vendor are those of the npm packages', async () => {
  assert.deepEqual(await committed(), await vendored());
});
