// Opens the page for one test, and checks at the end of the test that the page had no errors.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { launch, open } from './browser.js';
import { startFixture } from './fixture.js';
import { world } from './world.js';

/** Starts one browser for the tests of a file; returns a function that opens the page at `fragment`. */
export function visitor() {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  /** Opens the page with a fixture server of its own, in the state that `state` describes. */
  return async function visit(t, fragment, { state = world(), ...options } = {}) {
    const server = await startFixture(state);
    const { page, faults, close } = await open(browser, server.page + fragment, options);
    page.setDefaultTimeout(15_000);
    t.after(async () => {
      await close();
      await server.stop();
      assert.deepEqual(faults, []);
    });
    return { page, server, state };
  };
}

/** The dialog that is open. */
export const dialog = (page) => page.getByRole('dialog');

/** Presses the button with this name. */
export const press = (scope, name) => scope.getByRole('button', { name, exact: typeof name === 'string' }).click();

/** Waits until the text is visible. */
export const see = (scope, text) => scope.getByText(text).first().waitFor();
