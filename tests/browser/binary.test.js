// The page with the real binary: HTTP API, ledger, handler and sweeps.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startDemo } from './binary.js';
import { launch, open } from './browser.js';
import { editInTwoWindows, setUpAttributes } from './flows.js';
import { dialog, press, see } from './visit.js';

let browser;
let demo;
let page;
let faults;

before(async () => {
  [browser, demo] = await Promise.all([launch(), startDemo()]);
  ({ page, faults } = await open(browser, demo.address));
  page.setDefaultTimeout(90_000);
});

after(async () => {
  await browser.close();
  assert.equal(await demo.stop(), 0);
  assert.deepEqual(faults, []);
});

/** Goes to another view. */
const show = (fragment) =>
  page.evaluate((fragment) => {
    location.hash = fragment;
  }, fragment);

/** Presses the refresh button until the page shows this text; fails after 60 tries. */
async function refreshUntil(button, text) {
  for (let tries = 0; tries < 60; tries += 1) {
    await press(page, button);
    if (
      await page
        .getByText(text)
        .first()
        .waitFor({ timeout: 1_500 })
        .then(
          () => true,
          () => false,
        )
    )
      return;
  }
  assert.fail(`${text} does not appear`);
}

test('the address that the command prints opens the page; its token works once', async () => {
  await page.getByRole('heading', { name: 'What needs attention' }).waitFor();
  assert.ok(!page.url().includes('token'));
  const token = demo.address.split('token=')[1];
  const again = await page.request.post(`${new URL(demo.address).origin}/api/page/session`, { data: { token } });
  assert.equal(again.status(), 401);
});

test('responses have the security headers, and a browser revalidates its copies', async () => {
  const { origin } = new URL(demo.address);
  const response = await page.request.get(`${origin}/api/page`);
  const headers = response.headers();
  assert.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self';/);
  assert.equal(headers['cache-control'], 'no-cache');
  const again = await page.request.get(`${origin}/api/page`, { headers: { 'if-none-match': headers.etag } });
  assert.equal(again.status(), 304);
});

test('every state of the six customers is shown', async () => {
  await refreshUntil('Refresh groups', '1 drop set aside, 1 customer overdue, 1 tenant with other problems: a person is needed.');
  for (const state of ['Retrying', 'Open', 'Waiting'])
    await page.locator('.cause').filter({ hasText: state }).first().waitFor();
  await refreshUntil('Refresh weeks', '1 set aside');
  await page
    .getByRole('table', { name: /by tenant and week/ })
    .getByText('1 overdue')
    .waitFor();
});

test('filters narrow the list, and a drop shows its files', async () => {
  await show('#/drops?state=open');
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 1);
  await page.locator('table.list tbody a').click();
  await see(page, 'part-0.json.gz');
  await see(page, 'Wait for the missing files');
});

test('a replay of the group runs to its end', async () => {
  await show('#/drops');
  await press(page, /^Replay these drops: Set aside/);
  await see(dialog(page), 'Rows delivered already');
  await press(dialog(page), 'Replay it');
  await see(page, 'Finished. The drops that failed again');
});

test('attributes: set up, edit, two people at once, delete', async () => {
  await show('#/attributes');
  await setUpAttributes(page);
  await editInTwoWindows(page);

  await press(page, 'Delete Collaboration hours');
  await see(dialog(page), 'This will happen');
  await press(dialog(page), 'Delete');
  await see(page, 'Delete Collaboration hours: saved.');
  await press(page, 'Remove Engagement');
  await press(dialog(page), 'Remove');
  await see(page, 'Remove Engagement: saved.');
});

test('customers show what expires', async () => {
  await show('#/customers');
  await see(page, /^the SAS URL expires on/);
  await page.waitForFunction(() => document.querySelectorAll('.customer').length === 6);
});
