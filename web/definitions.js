// The definitions of a tenant as data: pure functions, without I/O and without markup.

/** The permissions that a role can have for an attribute. */
export const PERMISSIONS = [
  ['report-filters', 'Report filters'],
  ['report-sections', 'Report sections'],
  ['comment-filters', 'Comment filters'],
];

/** Bounds that are suggested for an attribute without default bounds. */
export const SUGGESTED_BOUNDS = [15, 20, 25];

/** The descriptions of the default attributes. */
export const DESCRIPTIONS = {
  'Email hours': 'Sending and receiving emails.',
  'Call hours': 'Scheduled and unscheduled Teams calls with at least one other person.',
  'After-hours collaboration hours': 'Meetings, emails, Teams chats and calls outside of working hours.',
  'Multitasking hours': 'Sending or reading emails or chats during a meeting or a Teams call.',
  'Collaboration hours': 'Meetings, emails, Teams chats and calls with at least one other person.',
  'Uninterrupted hours': 'Blocks of one hour or longer without meetings, emails, chats and calls.',
  'Meeting hours': 'Meetings with at least one other person.',
  'Meeting hours with Manager 1:1': 'Meetings of only the person and their manager.',
  'Meeting hours with Skip Level Manager': "Meetings that the manager's manager also attended.",
  'Internal network size': 'People in the organization with a reciprocal interaction in the past four weeks.',
};

/** The definitions of a tenant that has none. */
export const EMPTY = {
  version: 1,
  minGroupSize: 5,
  inactiveWeeks: 'include',
  values: false,
  attributes: [],
  programs: [],
};

/** The roles that any attribute has, in order of their names. */
export const rolesOf = (attributes) =>
  [...new Set(attributes.flatMap((attribute) => Object.keys(attribute.roles || {})))].sort();

/** The upper bounds of an attribute: its own, or those of the catalogue. */
export const boundsOf = (attribute, catalogue) =>
  attribute.max || (!attribute.metric && catalogue.find(({ name }) => name === attribute.name)?.max) || null;

/** The unit of an attribute. */
export const unitOf = (attribute, catalogue) =>
  (attribute.metric ? attribute.unit : catalogue.find(({ name }) => name === attribute.name)?.unit) || 'Hour';

/** The unit of the attribute with this name in words. Only the size of a network counts people. */
export function unitWords(unit, name) {
  if (unit === 'Hour') return 'hours a week';
  if (unit !== 'Count') return unit;
  return name === 'Internal network size' ? 'people' : 'a week';
}

/** The names of the four ranges. */
export const labelsOf = ([a, b, c]) => [
  `0 to less than ${a}`,
  `${a} to less than ${b}`,
  `${b} to less than ${c}`,
  `${c} or more`,
];

/** The four ranges in short, for lists. */
export const shortRanges = ([a, b, c]) => `less than ${a} · ${a} to ${b} · ${b} to ${c} · ${c} or more`;

const put = (list, item) =>
  list.some(({ name }) => name === item.name)
    ? list.map((old) => (old.name === item.name ? item : old))
    : [...list, item];

/** Changes of definitions. Each is a function of definitions, so that it can be applied to newer ones as well. */
export const change = {
  attribute: (attribute) => (definitions) => ({
    ...definitions,
    attributes: put(definitions.attributes || [], attribute),
  }),
  attributeMembers: (name, members) => (definitions) => ({
    ...definitions,
    attributes: definitions.attributes.map((attribute) =>
      attribute.name === name ? { ...attribute, ...members } : attribute,
    ),
  }),
  withoutAttribute: (name) => (definitions) => ({
    ...definitions,
    attributes: definitions.attributes.filter((attribute) => attribute.name !== name),
  }),
  program: (program) => (definitions) => ({ ...definitions, programs: put(definitions.programs || [], program) }),
  withoutProgram: (name) => (definitions) => ({
    ...definitions,
    programs: definitions.programs.filter((program) => program.name !== name),
  }),
  settings: (settings) => (definitions) => ({ ...definitions, ...settings }),
  all: (changes) => (definitions) => changes.reduce((changed, apply) => apply(changed), definitions),
};

/** The differences between two versions of definitions, one sentence each. */
export function differences(before, after) {
  const sentences = [];
  for (const [kind, list] of [
    ['Attribute', 'attributes'],
    ['Program', 'programs'],
  ]) {
    const [old, current] = [before?.[list] || [], after?.[list] || []].map(
      (items) => new Map(items.map((item) => [item.name, JSON.stringify(item)])),
    );
    for (const name of current.keys()) if (!old.has(name)) sentences.push(`${kind} “${name}” was added`);
    for (const name of old.keys()) if (!current.has(name)) sentences.push(`${kind} “${name}” was deleted`);
    for (const [name, text] of current)
      if (old.has(name) && old.get(name) !== text) sentences.push(`${kind} “${name}” was changed`);
  }
  for (const [setting, words] of [
    ['minGroupSize', 'Smallest group'],
    ['inactiveWeeks', 'Weeks without activity'],
    ['values', 'Averages of people'],
  ]) {
    const [old, current] = [before, after].map((definitions) => definitions?.[setting] ?? EMPTY[setting]);
    if (old !== current) sentences.push(`${words}: changed from ${old} to ${current}`);
  }
  return sentences;
}

const DAY = 86_400_000;

/** The 12 weeks of data for a survey that closes on `end`: they end with the last Sunday before that day. */
export function windowOf(end) {
  const closes = new Date(`${end}T00:00:00Z`);
  if (Number.isNaN(closes.getTime())) return null;
  const sunday = closes - (((closes.getUTCDay() + 6) % 7) + 1) * DAY;
  return { start: new Date(sunday - 84 * DAY), end: new Date(sunday) };
}
