import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dialog, press, see, visitor } from './visit.js';
import { tenantId, world } from './world.js';

const visit = visitor();

test('groups that need a person come first, each with count, age, remedy and rows delivered already', async (t) => {
  const { page } = await visit(t, '#/drops');
  await see(page, '2 drops set aside, 1 customer overdue: a person is needed.');
  const states = await page.locator('.cause .badge').allTextContents();
  assert.deepEqual(states, ['Set aside', 'Overdue', 'Retrying', 'Open', 'Waiting']);
  const first = page.locator('.cause').first();
  for (const text of [
    'Keys do not fit',
    'Compare the registered public key',
    tenantId(2),
    '2 drops',
    'oldest 4 days ago',
    '8,000 rows delivered already',
    'Last failure: the File key of request',
  ]) {
    assert.ok((await first.textContent()).includes(text), text);
  }
});

test('a drop that is retried for more than a day needs a person', async (t) => {
  const state = world();
  state.groups = [
    {
      ...state.groups.find((group) => group.state === 'retrying'),
      needPerson: 1,
    },
  ];
  const { page } = await visit(t, '#/drops', { state });
  await see(page, '1 drop retried for more than a day: a person is needed.');
});

test('what expires, is invalid or fails needs a person although every drop is completed', async (t) => {
  const note = (number, about, text, needsPerson = true) => ({ tenantId: tenantId(number), about, text, needsPerson });
  const notes = [
    note(3, 'customer', 'the key expires on 2026-12-07: `vivadrop onboard --rotate` creates a new one'),
    note(1, 'attributes', '`minGroupSize` is below 5'),
    note(1, 'attributes', 'imports of attributes have failed (attempt 2) and are retried: HTTP 503', false),
    note(6, 'drops', 'the drop that was due on 2026-11-21 has not arrived'),
  ];
  const { page } = await visit(t, '#/drops', { state: { ...world(), groups: [], notes } });
  await see(page, '2 tenants with other problems: a person is needed.');
  const shown = page.locator('.cause').filter({ hasText: 'Customers and attributes' });
  for (const text of ['the key expires on', 'minGroupSize']) await see(shown, text);
  await see(page, 'vivadrop is working on these');
  await see(page.locator('.cause').last(), 'attempt 2');
  assert.equal(await page.getByText('has not arrived').count(), 0, 'a late drop is among the groups');
  await page.getByRole('link', { name: `Show attributes of tenant ${tenantId(1)}` }).first().click();
  await page.waitForURL(/#\/attributes\//);
});

test('after a failure the old verdict reassures nobody', async (t) => {
  const { page, server } = await visit(t, '#/drops', { state: { ...world(), groups: [] } });
  await see(page, 'Nothing needs you.');
  await server.stop();
  await press(page, 'Refresh groups');
  await see(page, 'This was the state');
  assert.equal(await page.getByText('Nothing needs you.').count(), 0);
});

test('after a failure of a filter, no drops of another filter are shown', async (t) => {
  const { page } = await visit(t, '#/drops');
  const rows = page.getByRole('table', { name: 'All drops' }).getByRole('row');
  await rows.first().waitFor();
  await page.route('**/view/v1/drops?*tenant=*', (route) =>
    route.fulfill({
      status: 400,
      contentType: 'application/problem+json',
      body: '{"status":400,"detail":"`errors` says why","errors":[{"parameter":"tenant","detail":"expected a GUID"}]}',
    }),
  );
  await page.getByLabel('Tenant', { exact: true }).fill('0000');
  await page.getByLabel('Tenant', { exact: true }).press('Enter');
  await see(page.getByRole('alert'), 'Correct this:');
  await see(page.getByRole('alert'), 'expected a GUID');
  assert.equal(await rows.count(), 0);
});

test('a file of a drop that is tried again later is not shown as running', async (t) => {
  const state = world();
  const drop = state.drops[4];
  const { page } = await visit(t, `#/drop/${encodeURIComponent(drop.path)}`, { state });
  await page.locator('table.files').getByText('Not finished').waitFor();
  assert.equal(await page.getByText('Running').count(), 0);
});

test('of a group that is retried, only the drops that failed for more than a day need a person', async (t) => {
  const retrying = world().groups.find((group) => group.state === 'retrying');
  const { page } = await visit(t, '#/drops', { state: { ...world(), groups: [{ ...retrying, drops: 3, needPerson: 1 }] } });
  await see(page, '1 drop retried for more than a day: a person is needed. vivadrop is working on 2 drops.');
});

test('replaying is the suggested action only where the remedy says so', async (t) => {
  const state = world();
  const group = state.groups.find((group) => group.state === 'set-aside');
  const errors = { ...group, tenantId: tenantId(7), reason: 'errors', remedy: 'The next run is a new drop.' };
  state.groups = [group, errors];
  const { page } = await visit(t, '#/drops', { state });
  const button = (tenant) => page.getByRole('button', { name: new RegExp(`^Replay these drops: .*${tenantId(tenant)}$`) });
  assert.equal(await button(2).getAttribute('class'), 'primary');
  assert.notEqual(await button(7).getAttribute('class'), 'primary');
});

test('code in a failure is shown as code', async (t) => {
  const state = world();
  const drop = state.drops.find((drop) => drop.state === 'set-aside');
  const message = 'cannot read `part-1.json.gz`';
  drop.message = message;
  state.groups.find((group) => group.state === 'set-aside').message = message;
  state.files[drop.path][1].message = message;
  const { page } = await visit(t, '#/drops', { state });
  assert.equal(await page.locator('.cause .message code').first().textContent(), 'part-1.json.gz');
  await page.goto(`${page.url().split('#')[0]}#/drop/${encodeURIComponent(drop.path)}`);
  await page.getByRole('heading', { name: 'Drop', exact: true }).waitFor();
  for (const place of ['.notice .message code', 'table.files .message code'])
    assert.equal(await page.locator(place).textContent(), 'part-1.json.gz');
});

test('the list says why a drop is not finished, and how long it waits', async (t) => {
  const state = world();
  const [open, retrying, waiting] = ['open', 'retrying', 'waiting'].map((name) =>
    state.drops.find((drop) => drop.state === name),
  );
  open.message = 'row 9000 of `part-2.json.gz` is the last one';
  Object.assign(retrying, { reason: null, message: `webhook: ${'HTTP 503, '.repeat(40)}` });
  retrying.nextTry = new Date(Date.now() - 6.5 * 3_600_000).toISOString();
  waiting.nextTry = new Date(Date.now() + 20 * 60_000).toISOString();
  const { page } = await visit(t, '#/drops', { state: { ...state, omitted: 1_234 } });
  const cell = (name) =>
    page.getByRole('table', { name: 'All drops' }).getByRole('row', { name }).getByRole('cell').last().textContent();
  await see(page, '1,234 old drops are not shown, because there are too many.');
  assert.match(await cell(/^Open/), /^\s*row 9000 of part-2.json.gz is the last one/);
  const shortened = await cell(/^Retrying/);
  assert.match(shortened, /^\s*webhook: HTTP 503, .*…\s*next try\s+due 6 hours ago/s);
  assert.ok(shortened.length < 200, shortened);
  assert.match(await cell(/^Waiting/), /wait ends\s+in (19|20) minutes/);
});

test('if nothing needs a person, the page says so', async (t) => {
  const { page } = await visit(t, '#/drops', { state: { ...world(), groups: [] } });
  await see(page, 'Nothing needs you.');
});

test('an older state is shown at once and labelled, and the current state replaces it', async (t) => {
  let release;
  const listed = new Promise((resolve) => {
    release = resolve;
  });
  const { page } = await visit(t, '#/drops', { state: { ...world(), groups: [], age: 47 * 60_000, listed } });
  await see(page, 'This was the state 47 minutes ago. The current state is being read…');
  release();
  await see(page, 'Nothing needs you.');
  await page.waitForFunction(() => !document.body.textContent.includes('47 minutes ago'));
});

test('a cell of the heat map shows the worst state with glyph, text and counts', async (t) => {
  const { page } = await visit(t, '#/drops');
  const cell = page
    .getByRole('table', { name: /by tenant and week/ })
    .getByRole('row')
    .filter({ hasText: tenantId(2) })
    .getByRole('cell')
    .first();
  assert.equal((await cell.textContent()).trim(), '3 ok, 1 set aside');
  assert.match(await cell.getAttribute('class'), /state-set-aside/);
  assert.equal(await cell.locator('svg.glyph').count(), 1);
  await cell.getByRole('link').click();
  await page.waitForURL(/tenant=.*&week=/);
});

test('filters are in the address, survive a reload, and can be shared', async (t) => {
  const { page } = await visit(t, '#/drops');
  await page.getByLabel('State').selectOption('Set aside');
  await page.waitForURL(/#\/drops\?state=set-aside/);
  const rows = page.getByRole('table', { name: 'All drops' }).getByRole('row');
  await see(page, 'Clear filters');
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 2);
  await page.reload();
  await see(page, 'Clear filters');
  assert.equal(await page.getByLabel('State').inputValue(), 'set-aside');
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 2);
  assert.equal(await rows.count(), 3);
  await page.getByRole('link', { name: 'Clear filters' }).click();
  await page.waitForFunction(() => document.querySelectorAll('table.list tbody tr').length === 9);
});

test('a drop shows its files, its rows, the reason and what to do', async (t) => {
  const { page, state } = await visit(t, '#/drops?state=set-aside');
  await page.getByRole('link', { name: state.drops[1].path }).click();
  await page.getByRole('heading', { name: 'Drop', exact: true }).waitFor();
  await see(page, 'What to do:');
  for (const text of [
    'part-1.json.gz',
    'Keys do not fit',
    'does not unwrap',
    '3 of 4 done, 1 set aside',
    `vivadrop replay ${state.drops[1].path}`,
  ])
    await see(page, text);
  await page.locator('h1:focus', { hasText: 'Drop' }).waitFor();
});

test('a file that was not finished when its drop was set aside is not shown as running', async (t) => {
  const state = world();
  const drop = state.drops.find((drop) => drop.state === 'set-aside');
  state.files[drop.path] = [{ name: 'part-0.json.gz', state: 'running', nextRow: 0, updated: drop.since }];
  const { page } = await visit(t, `#/drop/${encodeURIComponent(drop.path)}`, { state });
  await page.locator('table.files').getByText('Not finished').waitFor();
  assert.equal(await page.getByText('Running').count(), 0);
});

test('the progress of a running drop is shown without a reload', async (t) => {
  const state = world();
  const drop = state.drops[4];
  drop.nextTry = null;
  const { page } = await visit(t, `#/drop/${encodeURIComponent(drop.path)}`, { state });
  await see(page, '2,500');
  Object.assign(drop, { rows: 12_000, state: 'completed', reason: null });
  state.files[drop.path][0] = { ...state.files[drop.path][0], state: 'done', nextRow: 12_000 };
  await see(page, '12,000');
  await see(page, 'Completed');
});

test('replaying a group: the plan is confirmed with its counts, one drop comes first, then the others', async (t) => {
  const { page, server, state } = await visit(t, '#/drops');
  await press(page, /^Replay these drops: Set aside/);
  await see(dialog(page), '8,000 rows will be sent again');
  assert.equal(state.replays.size, 0);
  await press(dialog(page), 'Replay the first one only');
  await page.getByRole('heading', { name: 'Replay', exact: true }).waitFor();
  const run = state.replays.get('run-1');
  assert.equal(run.first, 1);
  await page.locator('p > code', { hasText: 'vivadrop sweep' }).waitFor();
  Object.assign(run, { state: 'paused', done: 1, updated: '2' });
  await press(page, 'Replay the other drop');
  await see(page, 'Running');
  Object.assign(run, { state: 'done', done: 2, updated: '3' });
  await see(page, 'Finished. Every drop is completed.');
  const plan = server.requests.find(({ path }) => path === '/api/manage/v1/plans');
  assert.deepEqual(JSON.parse(plan.body), { tenant: tenantId(2), state: 'set-aside', reason: 'wrong-key' });
});

test('a running replay can be found again and cancelled', async (t) => {
  const { page, state } = await visit(t, '#/drops?state=set-aside');
  await press(page, 'Replay the drops of this filter…');
  await press(dialog(page), 'Replay all 2');
  await page.getByRole('heading', { name: 'Replay', exact: true }).waitFor();
  await page.getByRole('link', { name: 'Drops', exact: true }).first().click();
  await page.getByRole('link', { name: '0 drops of 2' }).click();
  await press(page, 'Cancel this replay…');
  await see(dialog(page), '2 drops will not be replayed');
  await press(dialog(page), 'Cancel the replay');
  await see(page, 'Cancelled. 2 drops were not replayed.');
  assert.equal(state.replays.get('run-1').state, 'cancelled');
});

test('a replay that has changed in the meantime is shown instead of being cancelled', async (t) => {
  const { page, state } = await visit(t, '#/drops');
  await press(page, /^Replay these drops: Set aside/);
  await press(dialog(page), 'Replay all 2');
  await press(page, 'Cancel this replay…');
  await page.route('**/replays/run-1/cancel', (route) => {
    Object.assign(state.replays.get('run-1'), { done: 2, state: 'done', updated: 'later' });
    return route.continue();
  });
  await press(dialog(page), 'Cancel the replay');
  await see(page, 'Finished. Every drop is completed.');
});

test('customers: what expires and what to do, customers with problems first', async (t) => {
  const { page } = await visit(t, '#/customers');
  await see(page, '4 customers need attention');
  const customer = page.locator('.customer').filter({ hasText: tenantId(5) });
  for (const text of ['Paused', 'expired 2 days ago', 'The SAS URL has expired']) await see(customer, text);
  const order = await page.locator('.customer h2 code').allTextContents();
  assert.deepEqual(order.slice(-2), [tenantId(1), tenantId(4)]);
});

test('customers: a missing key or registration is not taken for one that never expires', async (t) => {
  const state = world();
  const none = { keyExpires: null, registrationExpires: null, sasExpires: null, problems: [] };
  const [customer] = state.customers;
  const lastDrop = { ...customer.lastDrop, arrived: '2026-01-04T03:12:00Z' };
  state.customers = [{ ...customer, ...none, keyMissing: true, unregistered: true, lastDrop }];
  const { page } = await visit(t, '#/customers', { state });
  await see(page, 'No key, registration or SAS URL expires soon');
  const values = await page.locator('.customer dd').allTextContents();
  assert.deepEqual(values.slice(0, 3).map((text) => text.trim()), ['none', 'none recorded', 'unknown']);
  // A replay changes the state of an old drop; it does not make the drop a new one.
  assert.equal(await page.locator('.customer time[datetime="2026-01-04T03:12:00Z"]').count(), 1);
});

test('after a failure the last answer stays visible', async (t) => {
  const { page, server } = await visit(t, '#/customers');
  await see(page, '4 customers need attention');
  await server.stop();
  await press(page, 'Refresh customers');
  await see(page, 'The server did not answer.');
  await see(page, '4 customers need attention');
});
