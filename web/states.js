// The states of drops, as in the API, with the words, glyphs and order in which the page shows them.

/** Worst first. `short`: the word in a cell of the heat map. */
export const STATES = [
  { name: 'set-aside', word: 'Set aside', short: 'set aside' },
  { name: 'overdue', word: 'Overdue', short: 'overdue' },
  { name: 'retrying', word: 'Retrying', short: 'retrying' },
  { name: 'open', word: 'Open', short: 'open' },
  { name: 'waiting', word: 'Waiting', short: 'waiting' },
  { name: 'completed', word: 'Completed', short: 'ok' },
];

const byName = new Map(STATES.map((state) => [state.name, state]));

/** A state by its name; a name that this version does not know is shown as it is. */
export const stateOf = (name) => byName.get(name) || { name: 'unknown', word: String(name), short: String(name) };

/** The position of a state, worst first. */
export const rank = (name) => STATES.indexOf(byName.get(name));

/** The meaning of each state, shown with its group. */
export const MEANING = {
  'set-aside': 'Trying again cannot help until somebody has removed the cause.',
  overdue: 'The weekly drop has not arrived.',
  retrying: 'Something did not answer. vivadrop tries again by itself.',
  open: 'Rows are still missing. vivadrop continues when their files arrive.',
  waiting: 'vivadrop waits for the directory export of the same pipeline run, or for the end of the tenant\'s pause.',
};

/** Reasons in words. */
const REASONS = {
  errors: 'Microsoft reported errors',
  metadata: 'Job metadata missing or not readable',
  'no-key': 'No key for this drop',
  'wrong-key': 'Keys do not fit',
  plaintext: 'Not encrypted',
  damaged: 'File is damaged',
  'bad-row': 'Too many bad rows',
  'row-too-long': 'A row is too long',
  'row-count': 'Number of rows does not match',
  refused: 'Rejected by the receiver',
  'too-many-files': 'Too many files',
  'directory-too-large': 'Directory is too large',
  unavailable: 'A service did not answer',
  internal: 'Defect of vivadrop',
};

/** Every reason that a drop can have. */
export const REASON_NAMES = Object.keys(REASONS);

/** A reason in words; one that this version does not know is shown as it is. */
export const reasonWords = (reason) => REASONS[reason] || reason;
