// The programs of a tenant: their cycles, and the import of each.
import { html, useState } from './html.js';
import { apiPath, manage } from './api.js';
import { date, plural } from './format.js';
import { link } from './route.js';
import { Age, announce, Dialog, Failure, Glyph, Text } from './ui.js';

/** The states of an import in words, with the glyph and the colour of a state of drops. */
const STATES = {
  waiting: { word: 'Waiting', state: 'waiting' },
  running: { word: 'Importing', state: 'retrying' },
  completed: { word: 'Imported', state: 'completed' },
  failed: { word: 'Failed', state: 'set-aside' },
};

/** The name of a cycle with its program, and of its import. */
export const cycleName = ({ program, cycle }) => `${program} / ${cycle}`;

/** Whether an import has not ended. */
export const isActive = ({ state }) => state === 'waiting' || state === 'running';

/** The cycles of one program with their imports. */
export function Cycles({ program, tenant }) {
  const importOf = (cycle) => tenant.imports.find((each) => each.program === program.name && each.cycle === cycle.name);
  return html`
    <ul class="cycle-list">${(program.cycles || []).map(
      (cycle) => html`
      <${Cycle} key=${cycle.name} name=${cycle.name} dates=${`${date(cycle.start)} to ${date(cycle.end)}`}
        each=${importOf(cycle)} tenant=${tenant} notYet=${whyNotImported(cycle, program, tenant)} />`,
    )}</ul>`;
}

/** Why a cycle has no import. A pass imports the two latest cycles of a program that have ended. */
function whyNotImported(cycle, program, { failing }) {
  const hasEnded = ({ end }) => new Date(end) <= Date.now();
  if (!hasEnded(cycle)) return 'Not imported yet. This happens when the survey has closed.';
  const later = (program.cycles || []).filter((other) => hasEnded(other) && other.end > cycle.end);
  if (later.length >= 2) return 'Not imported: only the two latest cycles of a program are imported.';
  return failing
    ? 'Not imported yet: imports fail and are retried.'
    : 'Not imported yet: no drop in storage has rows of the last week before the survey closed.';
}

/** Imports of cycles that are no longer in the definitions: their data stays with the survey platform. */
export function FormerCycles({ tenant }) {
  const programs = tenant.definitions.programs || [];
  const isDefined = (each) =>
    programs.some(
      ({ name, cycles = [] }) => name === each.program && cycles.some((cycle) => cycle.name === each.cycle),
    );
  const former = tenant.imports.filter((each) => !isDefined(each));
  if (former.length === 0) return null;
  return html`
    <h3 class="minor">Imported earlier, removed since</h3>
    <ul class="cycle-list card">
      ${former.map((each) => html`<${Cycle} key=${cycleName(each)} name=${cycleName(each)} each=${each} tenant=${tenant}
        isFormer=${true} />`)}</ul>`;
}

function Cycle({ name, dates, each, tenant, isFormer, notYet }) {
  const [again, setAgain] = useState(false);
  const { word, state } = each ? STATES[each.state] || { word: each.state, state: 'unknown' } : {};
  return html`
    <li>
      <div><strong>${name}</strong>${dates && html`<div class="muted">${dates}</div>`}</div>
      <div>
        ${each ? html`<span class="badge state-${state}"><${Glyph} name=${state} />${word}</span> <span class="muted">
          ${each.updated && html`<${Age} at=${each.updated} />`}</span>`
            : html`<span class="muted">${notYet}</span>`}
        ${each?.people != null &&
          html`<div class="muted">${plural(each.people, 'person', 'people')}, ${each.window.weeks} of 12 weeks with
            data</div>`}
        ${each && each.revision < tenant.revision && !isActive(each) &&
          html`<div class="muted">computed with revision ${each.revision}; the definitions have
            revision ${tenant.revision}</div>`}
        ${each?.message && html`<div class="bad-text"><${Text} text=${each.message} />
          ${each.reason && html` <code>${each.reason}</code>`}</div>`}
        ${each?.remedy && html`<div><strong>What to do:</strong> <${Text} text=${each.remedy} /></div>`}
      </div>
      <span class="actions">
        ${each?.path && html`<a class="button" href=${link(['drop', each.path])}
          aria-label=${`Show the drop of ${cycleName(each)}`}>Drop</a>`}
        ${each?.path && !isFormer &&
          html`<button type="button" onClick=${() => setAgain(true)}
            aria-label=${`Import again: ${cycleName(each)}`}>Import again</button>`}
      </span>
      ${again && html`<${ImportAgain} each=${each} tenant=${tenant} close=${() => setAgain(false)} />`}
    </li>`;
}

function ImportAgain({ each, tenant, close }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const start = () => {
    setBusy(true);
    const { path, program, cycle } = each;
    manage('POST', apiPath(['imports']), { path, program, cycle, again: true })
      .then(() => {
        announce(`${cycleName(each)}: will be imported again.`);
        close();
        tenant.reload();
      }, setError)
      .finally(() => setBusy(false));
  };
  return html`
    <${Dialog} title="Import again?" close=${close} busy=${busy}>
      <p>vivadrop computes <strong>${cycleName(each)}
        </strong> from the same drop again and sends it. It replaces the cycle's earlier import.</p>
      ${error && html`<${Failure} error=${error} />`}
      <p class="actions"><button type="button" onClick=${close} disabled=${busy}>Cancel</button>
        <button type="button" class="primary" onClick=${start} disabled=${busy}>Import again</button></p>
    <//>`;
}
