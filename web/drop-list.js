// The last section of "Drops": all drops, newest first, with filters and pages.
import { html, useRef, useState } from './html.js';
import { apiPath } from './api.js';
import { date, plural } from './format.js';
import { PlanDialog } from './plan.js';
import { FAST, SLOW, useResource } from './resource.js';
import { link, replace } from './route.js';
import { REASON_NAMES, reasonWords, STATES } from './states.js';
import { Age, Answer, DropPath, focusSoon, NextTry, Rows, Section, State, Text } from './ui.js';

const AGES = { '1d': 'the last day', '7d': 'the last 7 days', '30d': 'the last 30 days', '90d': 'the last 90 days' };

/** The section. `filters` come from the address, with the page's cursor. */
export function DropList({ filters }) {
  const { tenant, state, reason, since, week, cursor } = filters;
  const resource = useResource(
    apiPath(['drops'], { tenant, state, reason, since, week, cursor, limit: '100' }),
    refreshTime,
  );
  const [planned, setPlanned] = useState(false);
  const earlier = useRef([]);
  const filtered = tenant || state || reason || since;
  const turnTo = (next) => {
    replace(link(['drops'], { ...filters, cursor: next }));
    focusSoon('all-drops');
  };
  const forward = (next) => {
    earlier.current.push(cursor);
    turnTo(next);
  };
  return html`
    <${Section} id="all-drops" title="All drops" resource=${resource} what="drops">
      <${Filters} filters=${filters} />
      ${filtered && !week && html`<p>
        <button type="button" onClick=${() => setPlanned(true)}>Replay the drops of this filter…</button></p>`}
      <${Answer} resource=${resource}>${({ drops, next, omitted }) => html`
        ${drops.length === 0 ? html`<p class="placeholder">No drops match.</p>` : html`<${Table} drops=${drops} />`}
        <nav class="pages" aria-label="Pages of drops">
          ${cursor && html`<button type="button" onClick=${() => turnTo(earlier.current.pop())}>
            ${earlier.current.length > 0 ? 'Previous page' : 'First page'}</button>`}
          ${next && html`<button type="button" onClick=${() => forward(next)}>Next page</button>`}
        </nav>
        ${omitted > 0 && html`<p class="note">${plural(omitted, 'old drop is', 'old drops are')} not shown, because
          there are too many.</p>`}`}<//>
      ${planned && html`<${PlanDialog} filter=${{ tenant, state, reason, since }} close=${() => setPlanned(false)} />`}
    <//>`;
}

/** Soon, while a drop of this page gets rows. */
const refreshTime = ({ drops }) => (drops.some((drop) => ['open', 'retrying'].includes(drop.state)) ? 5 * FAST : SLOW);

/** The filters. Each change goes into the address at once, and back to the first page. */
function Filters({ filters }) {
  const set = (name) => (event) =>
    replace(link(['drops'], { ...filters, cursor: null, [name]: event.target.value.trim() }));
  const active = ['tenant', 'state', 'reason', 'since', 'week'].some((name) => filters[name]);
  const option = (name, value, text) =>
    html`<option value=${value} selected=${(filters[name] || '') === value}>${text}</option>`;
  return html`
    <form class="filters" role="search" aria-label="Filter drops" onSubmit=${(event) => event.preventDefault()}>
      <label>State <select value=${filters.state || ''} onChange=${set('state')}>${option('state', '', 'Any')}
        ${STATES.map(({ name, word }) => option('state', name, word))}</select></label>
      <label>Reason <select value=${filters.reason || ''} onChange=${set('reason')}>${option('reason', '', 'Any')}
        ${REASON_NAMES.map((name) => option('reason', name, reasonWords(name)))}</select></label>
      <label>Age <select value=${filters.since || ''} onChange=${set('since')}>${option('since', '', 'Any')}
        ${Object.entries(AGES).map(([value, text]) => option('since', value, text))}</select></label>
      <label class="wide">Tenant <input type="search" value=${filters.tenant || ''} onChange=${set('tenant')}
        placeholder="Microsoft Entra tenant id" spellcheck=${false} /></label>
      ${filters.week && html`<span class="chip">Week of ${date(filters.week)} <button type="button" class="quiet"
        onClick=${() => replace(link(['drops'], { ...filters, cursor: null, week: null }))}
          aria-label="Remove the filter of the week">✕</button></span>`}
      ${active && html`<a class="button" href=${link(['drops'], { weeks: filters.weeks })}>Clear filters</a>`}
    </form>`;
}

// `role`s, because browsers drop the semantics of a table whose rows are laid out as a grid on narrow screens.
function Table({ drops }) {
  return html`
    <table class="list" role="table" aria-labelledby="all-drops">
      <thead role="rowgroup"><tr role="row">
        ${['State', 'Drop', 'Rows', 'Since', 'Reason'].map((title) => html`<th role="columnheader" scope="col">${title}
          </th>`)}</tr></thead>
      <tbody role="rowgroup">${drops.map(
        (drop) => html`
        <tr role="row" key=${drop.path || `overdue/${drop.tenantId}/${drop.since}`}>
          <td role="cell"><${State} name=${drop.state} /></td>
          <td role="cell" class="path"><${Path} drop=${drop} /></td>
          <td role="cell">${drop.path &&
            html`<${Rows} rows=${drop.rows} expected=${drop.expectedRows} state=${drop.state} />`}</td>
          <td role="cell" class="tabular"><${Age} at=${drop.since} /></td>
          <td role="cell">${drop.reason ? html`<div>${reasonWords(drop.reason)}</div>`
              : drop.message && html`<div class="message"><${Text} text=${shortened(drop.message)} /></div>`}
            ${drop.nextTry && html`<div class="muted">${drop.state === 'waiting' ? 'wait ends' : 'next try'}
              ${' '}<${NextTry} at=${drop.nextTry} /></div>`}</td>
        </tr>`,
      )}</tbody>
    </table>`;
}

/** The beginning of a long message; the page of the drop has all of it. */
const shortened = (text) => (text.length > 120 ? `${text.slice(0, 120).trimEnd()}…` : text);

/** The path of a drop as a link; the tenant as well unless the path contains it. */
function Path({ drop: { path, tenantId } }) {
  if (!path) return html`<span>No drop has arrived</span><code class="tenant">${tenantId}</code>`;
  return html`<a href=${link(['drop', path])}><${DropPath} path=${path} /></a>
    ${!path.includes(tenantId) && html`<code class="tenant">${tenantId}</code>`}`;
}
