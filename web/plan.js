// Replaying many drops, step one: a plan freezes the list of drops; the operator confirms it, or starts with one drop.
import { html, useEffect, useState } from './html.js';
import { apiPath, manage } from './api.js';
import { count, plural } from './format.js';
import { go, link } from './route.js';
import { reasonWords, stateOf } from './states.js';
import { Dialog, DropPath, Failure, Limited } from './ui.js';

/** The dialog. `filter`: tenant, state, reason and since; at least one of them is set. */
export function PlanDialog({ filter, close }) {
  const [plan, setPlan] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(true);
  const create = () => {
    setBusy(true);
    setError(null);
    const given = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
    manage('POST', 'plans', given)
      .then(({ data }) => setPlan(data), setError)
      .finally(() => setBusy(false));
  };
  useEffect(create, []);
  const start = (first) => {
    setBusy(true);
    setError(null);
    manage('POST', 'replays', { plan: plan.id, ...(first && { first: 1 }) })
      .then(({ data }) => {
        close();
        go(link(['replay', data.id]));
      }, setError)
      .finally(() => setBusy(false));
  };
  const drops = plan?.counts.drops;
  return html`
    <${Dialog} title="Replay drops" close=${close} busy=${busy && plan}>
      <p>${sentence(filter)}</p>
      ${error && html`<${Failure} error=${error} retry=${plan ? null : create} />`}
      ${!plan && !error && html`<p class="placeholder" role="status">Making the plan…</p>`}
      ${plan && drops === 0 && html`<p class="notice" role="status">No drop matches. There is nothing to replay.</p>`}
      ${
        drops > 0 &&
        html`
        <dl class="numbers"><div><dt>Drops</dt><dd>${count(drops)}</dd></div><div><dt>Rows delivered already</dt><dd>
          ${count(plan.counts.rowsDelivered)}</dd></div></dl>
        <p>The plan is fixed: drops that come later are not part of it. Each drop starts afresh. ${
          plan.counts.rowsDelivered > 0
            ? html`<strong>${plural(plan.counts.rowsDelivered, 'row')} will be sent again</strong>, with the same
              message ids, so that receivers can recognise them.`
            : 'None of their rows was delivered before.'
        }</p>
        <details><summary>${plural(drops, 'drop')} in the plan</summary>
          <${Limited} items=${plan.drops} first=${50} what="drop">
            ${(shown) => html`<ul class="paths">${shown.map((drop) => html`<li><${DropPath} path=${drop.path} /></li>`)}
              </ul>`}<//>
        </details>
        <p class="actions">
          <button type="button" onClick=${close} disabled=${busy}>Cancel</button>
          ${drops > 1 && html`<button type="button" onClick=${() => start(true)}
            disabled=${busy}>Replay the first one only</button>`}
          <button type="button" class="primary" onClick=${() => start(false)}
            disabled=${busy}>Replay ${drops === 1 ? 'it' : `all ${count(drops)}`}</button>
        </p>`
      }
    <//>`;
}

/** The filter as a sentence. */
function sentence({ tenant, state, reason, since }) {
  return html`
    ${state ? `Drops that are ${stateOf(state).word.toLowerCase()}` : 'Drops'}
      ${reason && html`, because of “${reasonWords(reason)}”`}
        ${tenant && html`, of tenant <code class="tenant">${tenant}</code>`}${since && `, of the last ${since}`}.`;
}
