import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dialog, press, see, visitor } from './visit.js';
import { tenantId, world } from './world.js';

const visit = visitor();
/** A state whose server demands keys. */
const withKeys = () => ({ ...world(), keys: { view: 'view-key', manage: 'manage-key' } });
/** Enters a key in the dialog that asks for one. */
const give = async (page, key) => {
  await dialog(page).getByLabel('Function key').fill(key);
  await press(dialog(page), 'Continue');
};

test('the page asks once for a key, keeps it in this tab only, and sends it as a header', async (t) => {
  const { page, server } = await visit(t, '#/drops', { state: withKeys() });
  await give(page, 'view-key');
  await see(page, 'a person is needed.');
  assert.equal(await dialog(page).count(), 0);
  assert.equal(
    await page.evaluate(() =>
      JSON.stringify([Object.keys(localStorage), document.cookie, location.href.includes('view-key')]),
    ),
    '[[],"",false]',
  );
  await page.reload();
  await see(page, 'a person is needed.');
  assert.ok(server.requests.every(({ path }) => !path.includes('view-key')));
});

test('a key that is not accepted is asked for again', async (t) => {
  const { page } = await visit(t, '#/customers', { state: withKeys() });
  await give(page, 'wrong');
  await see(dialog(page), 'The key was not accepted.');
  await give(page, 'view-key');
  await see(page, '4 customers need attention');
});

test('a key that expires on the way: the view stays, the page asks, and the action is repeated', async (t) => {
  const state = withKeys();
  const { page } = await visit(t, `#/attributes/${tenantId(1)}`, { state });
  await give(page, 'view-key');
  await press(page, 'Customize the ranges of Email hours');
  await page.getByLabel('Max of range 1').fill('2');
  await press(page, 'Continue');
  const asking = page.getByRole('dialog', { name: 'Key for changes' });
  await asking.getByLabel('Function key').fill('manage-key');
  await press(asking, 'Continue');
  await see(page, 'Email hours: imports Engagement Oct again');
  state.keys = { view: 'new-view-key', manage: 'new-manage-key' };
  await press(page, 'Save');
  await see(asking, 'The key was not accepted.');
  await asking.getByLabel('Function key').fill('new-manage-key');
  await press(asking, 'Continue');
  const reading = page.getByRole('dialog', { name: 'Key', exact: true });
  await see(page, 'Email hours');
  await reading.getByLabel('Function key').fill('new-view-key');
  await press(reading, 'Continue');
  await see(page, '0 to less than 2');
});

test('a reader without the key for changes can cancel, and goes on reading', async (t) => {
  const { page } = await visit(t, '#/drops', { state: withKeys() });
  await give(page, 'view-key');
  await press(page, /^Replay these drops: Set aside/);
  const asking = page.getByRole('dialog', { name: 'Key for changes' });
  await press(asking, 'Cancel');
  await see(page, 'A key is needed');
  await press(dialog(page), 'Close');
  await see(page, 'a person is needed.');
});

test('the one-time token of the local command is exchanged and removed from the address', async (t) => {
  const state = { ...withKeys(), token: 'once' };
  const { page, server } = await visit(t, '#token=once', { state });
  await see(page, 'a person is needed.');
  assert.ok(!page.url().includes('once'));
  assert.equal(server.requests.filter(({ path }) => path === '/api/page/session').length, 1);
});
