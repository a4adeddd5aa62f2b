// Numbers, times and dates as text.

const number = new Intl.NumberFormat('en');
const moment = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  timeZoneName: 'short',
});
const clock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC' });
const shortDay = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

/** `1,234`. */
export const count = (value) => number.format(value);

/** `1 drop`, `3 drops`. */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** A function that formats times; a value that is not a time is shown as it is. */
const formatter = (format) => (value) =>
  Number.isNaN(new Date(value).getTime()) ? String(value) : format.format(new Date(value));

/** `27 Nov 2026, 03:12 CET`, in the time zone of the browser. */
export const dateTime = formatter(moment);

/** `03:12:45 CET`, in the time zone of the browser. */
export const clockTime = formatter(clock);

/** `27 Nov 2026` for a date without a time. */
export const date = formatter(day);

/** `27 Nov` for a date without a time. */
export const dateWithoutYear = formatter(shortDay);

/** `7 days` for `P7D`, `12 hours` for `PT12H`; another duration is shown as it is. */
export function duration(iso) {
  const [, days, hours] = /^P(?:(\d+)D|T(\d+)H)$/.exec(iso) || [];
  if (days) return plural(Number(days), 'day');
  return hours ? plural(Number(hours), 'hour') : iso;
}

/** The time between a moment and now, in its largest unit: `3 days`; never negative. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return plural(seconds, 'second');
  if (seconds < 3600) return plural(Math.floor(seconds / 60), 'minute');
  if (seconds < 48 * 3600) return plural(Math.floor(seconds / 3600), 'hour');
  return plural(Math.floor(seconds / 86_400), 'day');
}

/** `3 days ago`, `in 2 hours`. */
export function relative(value, now = Date.now()) {
  const difference = new Date(value) - now;
  if (Number.isNaN(difference)) return String(value);
  return difference > 0 ? `in ${span(difference)}` : `${span(-difference)} ago`;
}
