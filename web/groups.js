// The first section of "Drops": everything that is not completed, by state, reason and tenant, with what to do.
import { html, useState } from './html.js';
import { count, plural, relative } from './format.js';
import { PlanDialog } from './plan.js';
import { link } from './route.js';
import { MEANING, rank, reasonWords, stateOf } from './states.js';
import { Age, Answer, focusSoon, Glyph, Limited, Section, State, Text } from './ui.js';

/** The states in which a replay can help. Drops in other states end by themselves, or there is no drop. */
const CAN_REPLAY = ['set-aside', 'open', 'retrying'];

/** The section. */
export function Groups({ resource }) {
  const [planned, setPlanned] = useState(null);
  return html`
    <${Section} id="groups" title="What needs attention" resource=${resource} what="groups">
      <${Answer} resource=${resource}>${({ groups, notes, asOf }) => {
        const causes = byCause(groups);
        const urgent = causes.filter((cause) => cause.person);
        const working = causes.filter((cause) => !cause.person);
        // A late drop is among the groups.
        const others = (notes ?? []).filter((note) => note.about !== 'drops');
        const [problems, retried] = [true, false].map((needed) => others.filter((note) => note.needsPerson === needed));
        return html`
          ${resource.old || resource.error || !notes
            ? html`<${OldState} asOf=${asOf} isReading=${!resource.error} />`
            : html`<${Verdict} causes=${causes} notes=${problems} />`}
          ${urgent.map((cause) => html`<${Cause} key=${cause.key} cause=${cause} plan=${setPlanned} />`)}
          ${problems.length > 0 && html`<${Notes} title="Customers and attributes" notes=${problems} />`}
          ${working.length + retried.length > 0 && html`<h3 class="minor">vivadrop is working on these</h3>`}
          ${working.map((cause) => html`<${Cause} key=${cause.key} cause=${cause} plan=${setPlanned} />`)}
          ${retried.length > 0 && html`<${Notes} title="Attributes" notes=${retried} isCalm=${true} />`}`;
      }}<//>
      ${planned && html`<${PlanDialog} filter=${planned} close=${() => setPlanned(null)} />`}
    <//>`;
}

/** Groups with the same state, reason and remedy are one cause; worst first, then the oldest. */
function byCause(groups) {
  const causes = new Map();
  for (const group of groups) {
    const { state, reason, remedy } = group;
    const person = group.needPerson > 0;
    const key = JSON.stringify([state, reason, remedy, person]);
    if (!causes.has(key)) causes.set(key, { key, state, reason, remedy, person, groups: [] });
    causes.get(key).groups.push(group);
  }
  const oldest = (cause) => cause.groups.map((group) => group.oldest || '').sort()[0];
  return [...causes.values()].sort((a, b) => rank(a.state) - rank(b.state) || (oldest(a) < oldest(b) ? -1 : 1));
}

const isOverdue = ({ state }) => state === 'overdue';

const sumOf = (causes, member) => causes.flatMap(({ groups }) => groups).reduce((sum, group) => sum + group[member], 0);

const dropsOf = (causes) => sumOf(causes, 'drops');

/** In place of the verdict, until the current state has been read: an old state must not reassure anybody. */
const OldState = ({ asOf, isReading }) => html`
  <p class="verdict" role="status"><${Glyph} name="waiting" />
    <span><strong>This was the state ${relative(asOf)}.</strong>
      ${isReading && ' The current state is being read…'}</span></p>`;

/** The answer to "do I have to do anything?", in one sentence. */
function Verdict({ causes, notes }) {
  const working = dropsOf(causes) - sumOf(causes, 'needPerson');
  const busy = working > 0 ? ` vivadrop is working on ${plural(working, 'drop')}.` : '';
  const of = (state) => sumOf(causes.filter((cause) => cause.state === state), 'needPerson');
  const tenants = new Set(notes.map((note) => note.tenantId));
  const parts = [
    [of('set-aside'), 'drop', 'set aside'],
    [of('overdue'), 'customer', 'overdue'],
    [of('retrying'), 'drop', 'retried for more than a day'],
    [tenants.size, 'tenant', 'with other problems'],
  ]
    .filter(([number]) => number > 0)
    .map(([number, what, state]) => `${plural(number, what)} ${state}`);
  if (parts.length === 0) {
    return html`<p class="verdict good"><${Glyph} name="completed" /><span><strong>Nothing needs you.</strong>
      ${busy || ' Every drop is completed.'}</span></p>`;
  }
  return html`<p class="verdict bad"><${Glyph} name="set-aside" />
    <span><strong>${parts.join(', ')}: a person is needed.</strong>${busy}</span></p>`;
}

/** Problems of tenants that are not about a drop: what expires, invalid definitions, imports that fail. */
const Notes = ({ title, notes, isCalm }) => html`
  <article class="cause card edge-${isCalm ? 'retrying calm' : 'overdue'}">
    <div class="cause-head"><${Glyph} name=${isCalm ? 'retrying' : 'warning'} /><h3>${title}</h3></div>
    <${Limited} items=${notes} first=${5} what="note">${(shown) => html`
      <ul class="tenants">${shown.map(
        ({ tenantId, about, text }) => html`
        <li key=${tenantId + text}>
          <code class="tenant">${tenantId}</code>
          <span class="facts"><${Text} text=${text} /></span>
          <span class="actions"><a class="button" aria-label=${`Show ${about} of tenant ${tenantId}`}
            href=${about === 'attributes' ? link(['attributes', tenantId]) : link(['customers'])}>Show</a></span>
        </li>`,
      )}</ul>`}<//>
  </article>`;

function Cause({ cause, plan }) {
  const total = dropsOf([cause]);
  const what = isOverdue(cause) ? ['customer', 'customers'] : ['drop', 'drops'];
  return html`
    <article class="cause card edge-${stateOf(cause.state).name} ${cause.person ? '' : 'calm'}">
      <div class="cause-head">
        <${State} name=${cause.state} />
        <h3>${cause.reason ? reasonWords(cause.reason) : stateOf(cause.state).word}
          ${cause.reason && html` <code class="muted">${cause.reason}</code>`}</h3>
        ${cause.groups.length > 1 &&
          html`<span class="tabular muted">${plural(total, ...what)} of ${plural(cause.groups.length, 'tenant')}
            </span>`}
      </div>
      <p class="remedy"><${Text} text=${cause.remedy || MEANING[cause.state] || ''} /></p>
      <${Limited} items=${cause.groups} first=${5} what="tenant">${(groups) => html`
        <ul class="tenants">${groups.map((group) => html`<${Tenant} key=${group.tenantId} group=${group} plan=${plan}
          what=${what} />`)}</ul>`}<//>
    </article>`;
}

function Tenant({ group, plan, what }) {
  const { tenantId, state, reason, message } = group;
  const about = `${stateOf(state).word}${reason ? ` (${reason})` : ''} of tenant ${tenantId}`;
  return html`
    <li>
      <code class="tenant">${tenantId}</code>
      <span class="facts tabular">
        ${isOverdue(group) ? 'since' : html`${plural(group.drops, ...what)}${' · '}oldest`}${' '}
          <${Age} at=${group.oldest} />
        ${group.rowsDelivered > 0 && html`${' · '}${count(group.rowsDelivered)} rows delivered already`}
      </span>
      <span class="actions">
        <a class="button" href=${link(['drops'], { state, reason, tenant: tenantId })}
          onClick=${() => focusSoon('all-drops')} aria-label=${`Show drops: ${about}`}>Show</a>
        ${CAN_REPLAY.includes(state) &&
          html`<button type="button" class=${state === 'set-aside' && group.remedy?.includes('replay') ? 'primary' : ''}
            onClick=${() => plan({ tenant: tenantId, state, reason })}
              aria-label=${`Replay these drops: ${about}`}>Replay these…</button>`}
      </span>
      ${message && html`<p class="message muted">${group.drops > 1 && 'Last failure: '}<${Text} text=${message} /></p>`}
    </li>`;
}
