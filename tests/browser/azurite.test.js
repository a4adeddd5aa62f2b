// The page with the real binary and a storage account, whose listings and ETags are not those of a folder.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startAccount } from './azurite.js';
import { startPage } from './binary.js';
import { launch, open } from './browser.js';
import { editInTwoWindows, setUpAttributes } from './flows.js';
import { dialog, press, see } from './visit.js';

let browser;
let account;
let server;
let page;
let faults;

before(async () => {
  [browser, account] = await Promise.all([launch(), startAccount()]);
  server = await startPage(account.settings);
  ({ page, faults } = await open(browser, server.address));
  page.setDefaultTimeout(90_000);
});

after(async () => {
  await browser.close();
  assert.equal(await server.stop(), 0);
  await account.stop();
  assert.deepEqual(faults, []);
});

/** Goes to another view. */
const show = (fragment) =>
  page.evaluate((fragment) => {
    location.hash = fragment;
  }, fragment);

test('drops of each state are shown from a listing of the account', async () => {
  await see(page, '1 drop set aside: a person is needed. vivadrop is working on 1 drop.');
  await page.locator('.cause').filter({ hasText: 'Retrying' }).first().waitFor();
  const weeks = page.getByRole('table', { name: /by tenant and week/ });
  for (const text of ['1 set aside', '1 retrying', '1 ok']) await weeks.getByText(text).waitFor();
  await see(page, '650 of 650 rows');
});

test('a drop that was set aside is replayed after the cause was removed', async () => {
  await account.correctKey();
  await press(page, /^Replay these drops: Set aside/);
  await see(dialog(page), 'Rows delivered already');
  await press(dialog(page), 'Replay it');
  await account.sweep();
  await see(page, 'Finished.');
  await show('#/drops?state=completed');
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 2);
});

test('attributes: two people edit at once', async () => {
  await show('#/attributes');
  await setUpAttributes(page);
  await editInTwoWindows(page);
});
