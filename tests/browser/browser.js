// A browser for the tests: Debian's Chromium with a new profile, and a page that records errors and foreign requests.
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Starts the browser. It runs headless, and playwright gives it a temporary profile. */
export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS });

/**
 * Opens `address` in a new window. `faults` collects script errors, dialogs, violations of the Content-Security-Policy
 * and requests to other hosts; at the end of a test it must be empty.
 */
export async function open(
  browser,
  address,
  { width = 1280, height = 900, colorScheme = 'light', before, reducedMotion = 'reduce' } = {},
) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme,
    reducedMotion,
    timezoneId: 'UTC',
  });
  const page = await context.newPage();
  const faults = [];
  const { origin } = new URL(address);
  page.on('pageerror', (error) => faults.push(`script error: ${error.message}`));
  page.on('console', (message) => {
    // The browser reports each answer that is not a success; the tests look at those themselves.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`request to ${request.url()}`);
  });
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  if (before) await before(page);
  await page.goto(address);
  return { page, faults, close: () => context.close() };
}
