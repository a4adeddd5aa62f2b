// The steps of Microsoft's page "Send Viva Insights data into Viva Glint": set up, add attributes with roles, choose
// programs, import; then edit, customize ranges, delete, add and remove programs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillInProgram } from './flows.js';
import { dialog, press, see, visitor } from './visit.js';
import { tenantId, world } from './world.js';

const visit = visitor();

const overview = `#/attributes/${tenantId(1)}`;
/** The card of an attribute. */
const attribute = (page, name) =>
  page.locator('.attribute').filter({ has: page.getByRole('heading', { name: new RegExp(`^${name} `) }) });

test('set up: attributes with roles, a program with a cycle, import', async (t) => {
  const { page, state } = await visit(t, '#/attributes');
  await page.getByRole('link', { name: tenantId(2) }).click();
  await page.getByRole('link', { name: 'Set up attributes' }).click();
  await see(page, 'Add at least one attribute to continue.');
  await press(page, 'Add Email hours');
  await dialog(page).getByLabel('Add a role').fill('Manager');
  await press(dialog(page), 'Add role');
  await dialog(page).getByLabel('Comment filters').uncheck();
  await press(dialog(page), 'Save');
  await see(page, 'Added');
  await press(page, 'Add Collaboration hours');
  await see(dialog(page), 'no default ranges');
  await press(dialog(page), '+ Manager');
  await press(dialog(page), 'Save');
  await press(page, 'Add another metric…');
  await dialog(page).getByLabel('Name', { exact: true }).fill('Focus');
  await dialog(page).getByLabel('Metric column').fill('TotalFocusHours');
  for (const [at, bound] of [5, 10, 15].entries())
    await dialog(page)
      .getByLabel(`Max of range ${at + 1}`)
      .fill(String(bound));
  await press(dialog(page), 'Save');
  await fillInProgram(page);
  await see(dialog(page), 'from Sunday, 21 Jul 2024, to before Sunday, 13 Oct 2024');
  await press(dialog(page), 'Save');
  await page.reload();
  await see(page, '1 cycle: Oct');
  await page.getByRole('link', { name: 'Continue: Import' }).click();
  await see(page, 'Email hours: imports Engagement Oct again');
  assert.equal(state.attributes.get(tenantId(2)).definitions, null);
  await press(page, 'Import');
  await see(page, 'Saved. The data is being imported.');
  assert.deepEqual(state.attributes.get(tenantId(2)).definitions, {
    version: 1,
    minGroupSize: 5,
    inactiveWeeks: 'include',
    values: false,
    attributes: [
      { name: 'Email hours', roles: { Manager: ['report-filters', 'report-sections'] } },
      {
        name: 'Collaboration hours',
        max: [15, 20, 25],
        roles: { Manager: ['report-filters', 'report-sections', 'comment-filters'] },
      },
      { metric: 'TotalFocusHours', name: 'Focus', unit: 'Hour', max: [5, 10, 15], roles: {} },
    ],
    programs: [{ name: 'Engagement', cycles: [{ name: 'Oct', start: '2024-10-08', end: '2024-10-15' }] }],
  });
});

test('bars show the people of each range; a withheld range is hatched and says so', async (t) => {
  const { page } = await visit(t, overview);
  const email = attribute(page, 'Email hours');
  await email.waitFor();
  assert.deepEqual(
    await email
      .getByRole('cell')
      .allTextContents()
      .then((texts) => texts.map((text) => text.trim())),
    ['withheld', 'withheld', '405', '425'],
  );
  assert.equal((await email.locator('svg.withheld path').count()) > 0, true);
  await page.getByLabel('People of').selectOption('Engagement / Apr');
  await see(email, '98');
});

test('add attributes later', async (t) => {
  const { page, state } = await visit(t, overview);
  await page.getByRole('link', { name: 'Add attributes' }).click();
  await see(page, 'In use');
  await press(page, 'Add Call hours');
  await press(dialog(page), 'Save');
  await page.getByRole('link', { name: 'Continue: Import' }).click();
  await press(page, 'Import');
  await attribute(page, 'Call hours').waitFor();
  assert.deepEqual(
    state.attributes.get(tenantId(1)).definitions.attributes.map(({ name }) => name),
    ['Email hours', 'Collaboration hours', 'Meeting hours with Manager 1:1', 'Focus', 'Call hours'],
  );
});

test('edit roles', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Edit the roles of Email hours');
  await dialog(page).getByRole('group', { name: 'Role HR partner' }).getByLabel('Comment filters').check();
  await press(dialog(page), 'Remove role Manager');
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Nothing is imported again or deleted.');
  await press(dialog(page), 'Save');
  await see(page, 'Roles: Email hours: saved.');
  assert.deepEqual(state.attributes.get(tenantId(1)).definitions.attributes[0], {
    name: 'Email hours',
    roles: { 'HR partner': ['report-filters', 'comment-filters'] },
  });
});

test('customize ranges: mistakes are named, consequences are confirmed', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Customize the ranges of Email hours');
  await dialog(page).getByLabel('Max of range 1').fill('7');
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Each value must be larger than the one above it');
  await dialog(page).getByLabel('Max of range 1').fill('2.5');
  await see(dialog(page), '2.5 to less than 6');
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Email hours: imports Engagement Oct again');
  await press(dialog(page), 'Save');
  await see(page, 'Ranges: Email hours: saved.');
  assert.deepEqual(state.attributes.get(tenantId(1)).definitions.attributes[0].max, [2.5, 6, 8]);
});

test('delete an attribute: the dialog says what it will do', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Delete Email hours');
  await see(dialog(page), 'told to drop everything');
  await see(dialog(page), 'Email hours: sends that it was deleted');
  assert.equal(state.attributes.get(tenantId(1)).definitions.attributes.length, 4);
  await press(dialog(page), 'Delete');
  await see(page, 'Delete Email hours: saved.');
  assert.equal(state.attributes.get(tenantId(1)).definitions.attributes.length, 3);
});

test('add a program, add a cycle to it, remove it', async (t) => {
  const { page, state } = await visit(t, overview);
  const programs = () => state.attributes.get(tenantId(1)).definitions.programs;
  await press(page, 'Add a program');
  await dialog(page).getByLabel('Name of the program').fill('Onboarding');
  await dialog(page).getByLabel('Name', { exact: true }).fill('Q1');
  await dialog(page).getByLabel('Opens').fill('2026-01-12');
  await dialog(page).getByLabel('Closes').fill('2026-01-23');
  await press(dialog(page), 'Continue');
  await press(dialog(page), 'Save');
  await see(page, 'Add a program: saved.');
  assert.equal(programs().length, 2);
  await press(page, 'Edit cycles of Onboarding');
  await press(dialog(page), 'Add cycle');
  const second = dialog(page).getByRole('group', { name: 'Cycle 2' });
  await second.getByLabel('Name').fill('Q2');
  await second.getByLabel('Opens').fill('2026-04-13');
  await second.getByLabel('Closes').fill('2026-04-24');
  await press(dialog(page), 'Continue');
  await press(dialog(page), 'Save');
  await see(page, 'Cycles of Onboarding: saved.');
  assert.equal(programs()[1].cycles.length, 2);
  await press(page, 'Remove Onboarding');
  await see(dialog(page), 'What was imported stays.');
  await press(dialog(page), 'Remove');
  await see(page, 'Remove Onboarding: saved.');
  assert.equal(programs().length, 1);
});

test('import a cycle again', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Import again: Engagement / Oct');
  await press(dialog(page), 'Import again');
  await see(page, 'Engagement / Oct: will be imported again.');
  assert.deepEqual(state.imported, [
    { path: `datasets/run-1/VivaInsights/${tenantId(1)}`, program: 'Engagement', cycle: 'Oct', again: true },
  ]);
});

test('every mistake that the server names is shown, and the form keeps its input', async (t) => {
  const { page } = await visit(t, `#/attributes/${tenantId(2)}/setup/1`);
  await press(page, 'Add Email hours');
  await press(dialog(page), 'Save');
  await press(page, 'Add another metric…');
  await dialog(page).getByLabel('Name', { exact: true }).fill('Bad');
  await dialog(page).getByLabel('Metric column').fill('X');
  for (const [at, bound] of [1, 2, 3].entries())
    await dialog(page)
      .getByLabel(`Max of range ${at + 1}`)
      .fill(String(bound));
  await press(dialog(page), 'Save');
  await page.route('**/manage/v1/**', (route) =>
    route.fulfill({
      status: 400,
      contentType: 'application/problem+json',
      body: JSON.stringify({
        detail: 'The definitions are not valid.',
        errors: [
          { pointer: '/attributes/1', detail: 'first mistake' },
          { pointer: '/programs', detail: 'second mistake' },
        ],
      }),
    }),
  );
  await page.getByRole('link', { name: 'Import', exact: true }).click();
  await see(page, 'first mistake');
  await see(page, 'second mistake');
  await page.getByRole('link', { name: 'All tenants' }).click();
  await see(page, 'Bad');
});

test('two people edit at once: both choices are offered, and applying keeps both changes', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Customize the ranges of Email hours');
  await dialog(page).getByLabel('Max of range 1').fill('2');
  const tenant = state.attributes.get(tenantId(1));
  tenant.definitions = {
    ...tenant.definitions,
    minGroupSize: 10,
    attributes: tenant.definitions.attributes.filter(({ name }) => name !== 'Focus'),
  };
  tenant.revision += 1;
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Somebody else changed this');
  await see(dialog(page), 'Attribute “Focus” was deleted');
  await see(dialog(page), 'Smallest group: changed from 5 to 10');
  await press(dialog(page), 'Apply my change to their version');
  await press(dialog(page), 'Save');
  await see(page, 'Ranges: Email hours: saved.');
  assert.equal(tenant.definitions.minGroupSize, 10);
  assert.deepEqual(
    tenant.definitions.attributes.map(({ name, max }) => [name, max]),
    [
      ['Email hours', [2, 6, 8]],
      ['Collaboration hours', [15, 20, 25]],
      ['Meeting hours with Manager 1:1', undefined],
    ],
  );
});

test('two people edit at once: the change can be discarded, also between check and save', async (t) => {
  const { page, state } = await visit(t, overview);
  await press(page, 'Delete Focus');
  await see(dialog(page), 'Focus: sends that it was deleted');
  const tenant = state.attributes.get(tenantId(1));
  tenant.revision += 1;
  await press(dialog(page), 'Delete');
  await press(dialog(page), 'Use their version, discard mine');
  await dialog(page).waitFor({ state: 'hidden' });
  assert.equal(tenant.definitions.attributes.length, 4);
});

test('definitions that were broken by hand: every mistake is shown, the last valid version stays', async (t) => {
  const state = world();
  state.attributes.get(tenantId(1)).problems = [
    'attribute `Email`: has no `metric`',
    '`minGroupSize` is not a whole number of 5 or more',
  ];
  const { page } = await visit(t, overview, { state });
  await see(page, 'The last valid version stays in force.');
  await see(page, 'attribute Email: has no metric');
});

test('a tenant whose definitions cannot be read is listed with its problem', async (t) => {
  const state = world();
  state.attributes.get(tenantId(2)).problems = ['`tenant.json` is not a valid ledger record'];
  const { page } = await visit(t, '#/attributes', { state });
  await see(page, 'nothing is imported');
  await see(page, '1 problem');
});

test('imports that fail, and cycles that cannot be imported, are shown with what happens and what to do', async (t) => {
  const state = world();
  const tenant = state.attributes.get(tenantId(1));
  tenant.failing = {
    attempts: 3,
    since: new Date(Date.now() - 3_600_000).toISOString(),
    nextTry: new Date(Date.now() + 600_000).toISOString(),
    error: 'cannot send attributes: HTTP 503',
  };
  const day = (days) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
  tenant.definitions.programs[0].cycles = [
    { name: 'First', start: day(-50), end: day(-40) },
    { name: 'Second', start: day(-30), end: day(-20) },
    { name: 'Third', start: day(-10), end: day(-5) },
    { name: 'Next', start: day(5), end: day(10) },
  ];
  tenant.imports = [
    {
      ...tenant.imports[0],
      cycle: 'Second',
      state: 'failed',
      people: null,
      reason: 'too-few-people',
      message: '3 people have rows in the window, and the minimum group size is 5',
      remedy: 'Nothing: the group is smaller than `minGroupSize`.',
    },
  ];
  const { page } = await visit(t, '#/attributes', { state });
  await see(page, 'Imports are retried');
  await see(page, '1 cycle failed');
  await page.getByRole('link', { name: tenantId(1) }).click();
  await see(page, '3 attempts, the first one 1 hour ago, next try in ');
  await see(page, 'HTTP 503');
  const cycle = (name) => page.locator('.cycle-list li').filter({ hasText: name });
  await see(cycle('First'), 'only the two latest cycles of a program are imported');
  await see(cycle('Second'), 'What to do: Nothing: the group is smaller');
  await see(cycle('Third'), 'Not imported yet: imports fail and are retried.');
  await see(cycle('Next'), 'This happens when the survey has closed');
});

test('an attribute of another unit is shown with its unit', async (t) => {
  const state = world();
  const { attributes } = state.attributes.get(tenantId(1)).definitions;
  attributes.push({ name: 'Mails', metric: 'EmailsSent', unit: 'Count', max: [1, 2, 3] });
  attributes.push({ name: 'Share', metric: 'Share', unit: 'Percent', max: [1, 2, 3] });
  const { page } = await visit(t, `#/attributes/${tenantId(1)}`, { state });
  await page.getByRole('heading', { name: 'Mails a week' }).waitFor();
  await page.getByRole('heading', { name: 'Share Percent' }).waitFor();
  await press(page, 'Customize the ranges of Mails');
  await see(dialog(page), 'Ranges (a week)');
});

test('the focus stays in the dialog at each step of a change, and on the page after a deletion', async (t) => {
  const { page } = await visit(t, `#/attributes/${tenantId(1)}`);
  const isFocused = (selector) =>
    page.waitForFunction((selector) => document.activeElement?.matches(selector), selector);
  await press(page, 'Edit the roles of Email hours');
  await dialog(page).getByRole('button', { name: 'Continue' }).press('Enter');
  await isFocused('dialog [aria-label="Confirm"]');
  await dialog(page).getByRole('button', { name: 'Back' }).press('Enter');
  await isFocused('dialog h2');
  await page.keyboard.press('Escape');
  await press(page, 'Delete Email hours');
  await isFocused('dialog [aria-label="Confirm"]');
  await dialog(page).getByRole('button', { name: 'Delete' }).press('Enter');
  await isFocused('#attributes');
  await press(page, 'Remove Engagement');
  await isFocused('dialog [aria-label="Confirm"]');
  await dialog(page).getByRole('button', { name: 'Remove' }).press('Enter');
  await isFocused('#programs');
});

test('the focus stays in the dialog if a confirmed change is not valid', async (t) => {
  const { page } = await visit(t, overview);
  await press(page, 'Edit the roles of Email hours');
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Nothing is imported again or deleted.');
  await page.route('**/manage/v1/**', (route) =>
    route.fulfill({ status: 400, contentType: 'application/problem+json', body: '{"detail":"not valid"}' }),
  );
  await page.locator('dialog [aria-label="Confirm"]:focus').waitFor();
  await dialog(page).getByRole('button', { name: 'Save' }).press('Enter');
  await see(dialog(page), 'not valid');
  await page.locator('dialog h2:focus').waitFor();
});

test('the focus stays on the heading when the set-up shows what an import will do', async (t) => {
  const { page } = await visit(t, `#/attributes/${tenantId(1)}/add/1`);
  await press(page, 'Add Call hours');
  await press(dialog(page), 'Save');
  await page.getByRole('link', { name: 'Continue: Import' }).press('Enter');
  await see(page, 'This will happen:');
  await page.locator('h1:focus').waitFor();
});

test('a dialog asks before it discards what was entered', async (t) => {
  const { page } = await visit(t, overview);
  const question = dialog(page).getByRole('alertdialog');
  await press(page, 'Customize the ranges of Email hours');
  await dialog(page).waitFor();
  await page.keyboard.press('Escape');
  await dialog(page).waitFor({ state: 'hidden' });
  await press(page, 'Customize the ranges of Email hours');
  await dialog(page).getByLabel('Max of range 1').fill('4');
  for (let round = 0; round < 2; round += 1) {
    await page.keyboard.press('Escape');
    await see(question, 'Discard what you have entered?');
    await page.keyboard.press('Escape');
    await question.waitFor({ state: 'detached' });
    assert.equal(await dialog(page).getByLabel('Max of range 1').inputValue(), '4');
  }
  await press(dialog(page), 'Close');
  await press(question, 'Keep editing');
  await press(dialog(page), 'Close');
  await press(question, 'Discard');
  await dialog(page).waitFor({ state: 'hidden' });
  await press(page, 'Edit the roles of Email hours');
  await dialog(page).getByRole('button', { name: /^Remove role/ }).first().click();
  await page.keyboard.press('Escape');
  await see(question, 'Discard what you have entered?');
});
