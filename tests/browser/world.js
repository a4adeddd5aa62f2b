// The state of a fixture server: six customers in different states, or as many drops as a test needs.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** The time this many milliseconds ago, in ISO 8601. */
const ago = (milliseconds) => new Date(Date.now() - milliseconds).toISOString();
/** The UTC date of a time, such as `2026-11-22`. */
const isoDate = (time) => new Date(time).toISOString().slice(0, 10);

/** The id of the tenant with this number. */
export const tenantId = (number) =>
  `${String(number).padStart(8, '0')}-1f7e-4c2b-9a55-d0e4c6b8a${String(number % 1000).padStart(3, '0')}`;

/** The dates of the latest Sundays, the newest last. */
const sundays = (weeks) => {
  const today = new Date(isoDate(Date.now()));
  const newest = today - today.getUTCDay() * DAY;
  return Array.from({ length: weeks }, (_, at) => isoDate(newest - (weeks - 1 - at) * 7 * DAY));
};

/** A drop as the API shows it; `more` overrides its members. */
const drop = (tenant, state, more = {}) => {
  const {
    age = HOUR,
    reason = null,
    rows = 12_000,
    expectedRows = 12_000,
    path = `datasets/run-${tenant}-${age}/VivaInsights/${tenantId(tenant)}`,
    ...rest
  } = more;
  const setAside = state === 'set-aside' ? 1 : 0;
  return {
    tenantId: tenantId(tenant),
    path,
    state,
    rows,
    expectedRows,
    files: { done: state === 'completed' ? 4 : 3, setAside, total: 4 },
    since: ago(age),
    attempts: 1,
    nextTry: null,
    reason,
    message: null,
    remedy: null,
    week: sundays(1)[0],
    ...rest,
  };
};

const REMEDIES = {
  'wrong-key':
    'Compare the registered public key with the private key (`vivadrop check`), then run `vivadrop replay DROP_PATH`.',
  unavailable:
    'Fix the cause that the message names; sweeps then continue the drop, and `vivadrop deliver DROP_PATH` runs it at once.',
  overdue: 'Ask the customer whether their pipeline still runs, and run `vivadrop check`.',
};

/** The drops of the six customers. */
function drops() {
  const wrongKey = {
    reason: 'wrong-key',
    remedy: REMEDIES['wrong-key'],
    message: 'the File key of request 7d0e… does not unwrap with any enabled version of the key',
    rows: 4_000,
  };
  return [
    drop(1, 'completed', { age: 2 * HOUR }),
    drop(2, 'set-aside', { age: 3 * HOUR, ...wrongKey }),
    drop(2, 'set-aside', { age: 4 * DAY, ...wrongKey }),
    drop(3, 'open', {
      age: 5 * HOUR,
      rows: 9_000,
      remedy: 'Wait for the remaining files, or check the copy activity.',
    }),
    drop(4, 'retrying', {
      age: HOUR / 2,
      rows: 2_500,
      attempts: 4,
      nextTry: new Date(Date.now() + 8 * 60_000).toISOString(),
      message: 'webhook https://receiver.example: HTTP 503',
      reason: 'unavailable',
      remedy: REMEDIES.unavailable,
    }),
    drop(5, 'waiting', { age: HOUR / 4, rows: 0 }),
    drop(6, 'overdue', {
      age: 3 * DAY,
      path: null,
      rows: null,
      expectedRows: null,
      files: { done: null, setAside: null, total: null },
      attempts: null,
      remedy: REMEDIES.overdue,
    }),
    drop(1, 'completed', { age: 7 * DAY }),
    drop(6, 'completed', { age: 11 * DAY }),
  ];
}

/** The groups of these drops, as the API makes them. */
export function groupsOf(drops) {
  const groups = new Map();
  for (const drop of drops.filter(({ state }) => state !== 'completed')) {
    const key = [drop.state, drop.reason, drop.tenantId].join();
    const group = groups.get(key) || {
      state: drop.state,
      reason: drop.reason,
      tenantId: drop.tenantId,
      drops: 0,
      needPerson: 0,
      rowsDelivered: 0,
      oldest: drop.since,
      newest: drop.since,
      message: drop.message,
      remedy: drop.remedy,
    };
    group.drops += 1;
    if (['set-aside', 'overdue'].includes(drop.state)) group.needPerson += 1;
    group.rowsDelivered += drop.rows;
    if (drop.since < group.oldest) group.oldest = drop.since;
    if (drop.since > group.newest) Object.assign(group, { newest: drop.since, message: drop.message });
    groups.set(key, group);
  }
  return [...groups.values()];
}

/** A cell of the heat map: the number of drops by state, and the worst state. */
const cell = (week, counts) => {
  const all = { completed: 0, open: 0, retrying: 0, waiting: 0, setAside: 0, overdue: 0, ...counts };
  const worst = [
    ['setAside', 'set-aside'],
    ['overdue', 'overdue'],
    ['retrying', 'retrying'],
    ['open', 'open'],
    ['waiting', 'waiting'],
    ['completed', 'completed'],
  ].find(([name]) => all[name] > 0);
  return { week, ...all, worst: worst ? worst[1] : null };
};

/** The heat map of the last `count` weeks. */
function weeks(count) {
  const list = sundays(count);
  const newest = [
    { completed: 1 },
    { completed: 3, setAside: 1 },
    { completed: 1, open: 1 },
    { retrying: 1 },
    { waiting: 1 },
    { overdue: 1 },
  ];
  return {
    weeks: list,
    tenants: newest.map((counts, at) => ({
      tenantId: tenantId(at + 1),
      cells: list.map((week, index) =>
        cell(
          week,
          index === count - 1
            ? counts
            : at === 4 && index < count - 5
              ? {}
              : index === count - 4 && at === 3
                ? { completed: 1, setAside: 1 }
                : { completed: 1 + ((at + index) % 2) },
        ),
      ),
    })),
  };
}

const CATALOGUE = [
  ['Email hours', 'Hour', [3, 6, 8]],
  ['Call hours', 'Hour', [5, 10, 15]],
  ['After-hours collaboration hours', 'Hour', [1, 3, 5]],
  ['Multitasking hours', 'Hour', [1, 3, 5]],
  ['Collaboration hours', 'Hour', null],
  ['Uninterrupted hours', 'Hour', [5, 10, 15]],
  ['Meeting hours', 'Hour', [6, 12, 15]],
  ['Meeting hours with Manager 1:1', 'Hour', [0.01, 0.25, 0.5]],
  ['Meeting hours with Skip Level Manager', 'Hour', [0.01, 0.5, 1]],
  ['Internal network size', 'Count', [15, 30, 45]],
].map(([name, unit, max]) => ({ name, unit, max }));

/** The definitions and imports of a customer that is set up, and those of one that is not, by tenant id. */
function attributes() {
  const all = ['report-filters', 'report-sections', 'comment-filters'];
  const definitions = {
    version: 1,
    minGroupSize: 5,
    inactiveWeeks: 'include',
    values: false,
    attributes: [
      { name: 'Email hours', roles: { Manager: all, 'HR partner': ['report-filters'] } },
      { name: 'Collaboration hours', max: [15, 20, 25], roles: { Manager: ['report-filters', 'report-sections'] } },
      { name: 'Meeting hours with Manager 1:1', roles: { 'HR partner': all } },
      { name: 'Focus', metric: 'TotalFocusHours', unit: 'Hour', max: [5, 10, 15] },
    ],
    programs: [
      {
        name: 'Engagement',
        cycles: [
          { name: 'Apr', start: '2026-04-13', end: '2026-04-24' },
          { name: 'Oct', start: '2026-10-12', end: '2026-10-23' },
        ],
      },
    ],
  };
  const labels = { 'Email hours': ['0 to less than 3', '3 to less than 6', '6 to less than 8', '8 or more'] };
  const counts = {
    'Email hours': [null, null, 405, 425],
    'Collaboration hours': [312, 401, 268, 202],
    'Meeting hours with Manager 1:1': [610, 204, 188, 181],
    Focus: [85, 391, 522, 185],
  };
  const path = `datasets/run-1/VivaInsights/${tenantId(1)}`;
  const imports = [
    {
      program: 'Engagement',
      cycle: 'Apr',
      path,
      state: 'completed',
      revision: 2,
      window: { start: '2026-01-25', end: '2026-04-19', weeks: 12, period: 'week' },
      people: 1165,
      counts: { 'Email hours': [98, 410, 312, 345] },
      labels,
      reason: null,
      message: null,
      updated: ago(90 * DAY),
    },
    {
      program: 'Engagement',
      cycle: 'Oct',
      path,
      state: 'completed',
      revision: 2,
      window: { start: '2026-07-26', end: '2026-10-18', weeks: 11, period: 'week' },
      people: 1183,
      counts,
      labels,
      reason: null,
      message: null,
      updated: ago(30 * DAY),
    },
  ];
  return new Map([
    [tenantId(1), { revision: 2, definitions, problems: [], imports }],
    [tenantId(2), { revision: null, definitions: null, problems: [], imports: [] }],
  ]);
}

/** The time in this many days, in ISO 8601. */
const inDays = (days) => new Date(Date.now() + days * DAY).toISOString();

/** The six customers: what expires, and their last drop in `list`. */
function customers(list) {
  const last = (number) => {
    const drop = list.find((drop) => drop.tenantId === tenantId(number) && drop.path);
    return drop ? { path: drop.path, state: drop.state, arrived: drop.since, since: drop.since } : null;
  };
  const customer = (number, more = {}) => ({
    tenantId: tenantId(number),
    paused: false,
    keyMissing: false,
    unregistered: false,
    keyExpires: inDays(210),
    registrationExpires: inDays(160),
    sasExpires: inDays(90),
    checked: ago(6 * HOUR),
    lastDrop: last(number),
    expectedEvery: 'P7D',
    problems: [],
    ...more,
  });
  return [
    customer(1),
    customer(2, {
      problems: ['2 drops are set aside (wrong-key): run `vivadrop check` for this tenant, then replay them.'],
    }),
    customer(3, {
      keyExpires: inDays(9),
      problems: ['The key expires in 9 days: `vivadrop onboard --rotate` creates and registers a new one.'],
    }),
    customer(4),
    customer(5, {
      sasExpires: inDays(-2),
      paused: true,
      problems: ['The SAS URL has expired: `vivadrop onboard --sas-days 365` creates a new one.'],
    }),
    customer(6, {
      checked: null,
      keyExpires: null,
      registrationExpires: null,
      problems: ["The weekly drop is 3 days late: check the customer's Data Factory pipeline."],
    }),
  ];
}

/** Six customers: completed, set aside, open, retrying, waiting, overdue. */
export function world() {
  const list = drops();
  const [setAside, retrying] = [list[1], list[4]];
  const file = (name, state, more = {}) => ({
    name,
    state,
    nextRow: 4_000,
    badRows: 0,
    attempts: 1,
    updated: ago(HOUR / 6),
    reason: null,
    message: null,
    ...more,
  });
  return {
    keys: {},
    token: null,
    drops: list,
    groups: groupsOf(list),
    notes: [],
    weeks,
    customers: customers(list),
    attributes: attributes(),
    catalogue: CATALOGUE,
    plans: new Map(),
    replays: new Map(),
    imported: [],
    files: {
      [setAside.path]: [
        file('part-0.json.gz', 'done'),
        file('part-1.json.gz', 'set-aside', {
          nextRow: 0,
          attempts: 1,
          reason: 'wrong-key',
          message: setAside.message,
        }),
      ],
      [retrying.path]: [file('part-0.json.gz', 'running', { nextRow: 2_500, attempts: 4 })],
    },
  };
}

/** 400 tenants with 25 drops each. */
export function largeWorld() {
  const list = Array.from({ length: 10_000 }, (_, at) =>
    drop(1 + (at % 400), at % 97 === 0 ? 'set-aside' : 'completed', {
      age: at * 60_000,
      path: `datasets/run-${at}/VivaInsights/${tenantId(1 + (at % 400))}`,
      ...(at % 97 === 0 && { reason: 'damaged', remedy: 'Ask for the drop again.' }),
    }),
  );
  const heat = (count) => {
    const dates = sundays(count);
    return {
      weeks: dates,
      tenants: Array.from({ length: 400 }, (_, at) => ({
        tenantId: tenantId(at + 1),
        cells: dates.map((week, index) => cell(week, (at + index) % 97 === 0 ? { setAside: 1 } : { completed: 1 })),
      })),
    };
  };
  return { ...world(), drops: list, groups: groupsOf(list), weeks: heat };
}
