// Steps that the tests of the real binary have in common.
import { dialog, press, see } from './visit.js';

/** Sets up two attributes and a program for a tenant that has none. */
export async function setUpAttributes(page) {
  await page.locator('.tenant-list li').filter({ hasText: 'not set up' }).first().getByRole('link').click();
  await page.getByRole('link', { name: 'Set up attributes' }).click();
  await press(page, 'Add Email hours');
  await dialog(page).getByLabel('Add a role').fill('Manager');
  await press(dialog(page), 'Add role');
  await press(dialog(page), 'Save');
  await press(page, 'Add Collaboration hours');
  await press(dialog(page), 'Save');
  await fillInProgram(page);
  await press(dialog(page), 'Save');
  await page.getByRole('link', { name: 'Continue: Import' }).click();
  await press(page, 'Import');
  await page.getByRole('heading', { name: /^Email hours/ }).waitFor();
}

/** Goes on to the programs, and fills in the dialog for a new one with a cycle. */
export async function fillInProgram(page) {
  await page.getByRole('link', { name: 'Continue: Programs and cycles' }).click();
  await press(page, 'Add a program…');
  await dialog(page).getByLabel('Name of the program').fill('Engagement');
  await dialog(page).getByLabel('Name', { exact: true }).fill('Oct');
  await dialog(page).getByLabel('Opens').fill('2024-10-08');
  await dialog(page).getByLabel('Closes').fill('2024-10-15');
}

/** Changes ranges in one window while another one changes roles; both changes are kept. */
export async function editInTwoWindows(page) {
  // Another window changes the roles while this one has the ranges open.
  const other = await page.context().newPage();
  await other.addInitScript(
    (key) => sessionStorage.setItem('vivadrop.key.view', key),
    await page.evaluate(() => sessionStorage.getItem('vivadrop.key.view')),
  );
  await other.goto(page.url());
  await press(page, 'Customize the ranges of Email hours');
  await dialog(page).getByLabel('Max of range 1').fill('2.5');
  await press(other, 'Edit the roles of Collaboration hours');
  await press(dialog(other), '+ Manager');
  await press(dialog(other), 'Continue');
  await press(dialog(other), 'Save');
  await see(other, 'Roles: Collaboration hours: saved.');
  await other.close();
  await press(dialog(page), 'Continue');
  await see(dialog(page), 'Somebody else changed this');
  await see(dialog(page), 'Attribute “Collaboration hours” was changed');
  await press(dialog(page), 'Apply my change to their version');
  await press(dialog(page), 'Save');
  await see(page, 'Ranges: Email hours: saved.');
  await see(page, '0 to less than 2.5');
}
