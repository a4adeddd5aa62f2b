// The weeks of every tenant as a table. A cell shows the worst state of its week: a success never hides a failure.
import { html } from './html.js';
import { dateWithoutYear, date } from './format.js';
import { link, replace } from './route.js';
import { rank, STATES, stateOf } from './states.js';
import { Answer, focusSoon, Glyph, Limited, Section } from './ui.js';

/** The section. The newest week comes first, beside the tenant. */
export function HeatMap({ resource, filters }) {
  const choose = (event) => replace(link(['drops'], { ...filters, weeks: event.target.value }));
  return html`
    <${Section} id="weeks" title="Weeks" resource=${resource} what="weeks"
        note="Each cell counts the drops of a tenant in a week and shows their worst state. Those with problems come first.">
      <p><label class="inline">Show <select value=${filters.weeks || '13'} onChange=${choose}>
        ${['4', '13', '26', '52'].map((weeks) => html`<option value=${weeks}
          selected=${weeks === (filters.weeks || '13')}>${weeks} weeks</option>`)}</select></label></p>
      <${Answer} resource=${resource}>${({ weeks, tenants }) =>
        tenants.length === 0
          ? html`<p class="placeholder">No drops in these weeks.</p>`
          : html`<${Limited} items=${worstFirst(tenants)} first=${15} what="tenant">
            ${(shown) => html`<${Table} weeks=${[...weeks].reverse()} tenants=${shown} />`}<//>`}<//>
    <//>`;
}

/** Counts of a cell, by the names of the states; the API writes `set-aside` as `setAside`. */
const countOf = (cell, state) => cell[state === 'set-aside' ? 'setAside' : state] || 0;

function worstFirst(tenants) {
  const worst = (tenant) =>
    Math.min(...tenant.cells.filter((cell) => cell.worst).map((cell) => rank(cell.worst)), STATES.length);
  return tenants
    .map((tenant) => [worst(tenant), tenant])
    .sort(([a, left], [b, right]) => a - b || (left.tenantId < right.tenantId ? -1 : 1))
    .map(([, tenant]) => tenant);
}

function Table({ weeks, tenants }) {
  return html`
    <div class="scroll" role="group" aria-label="Weeks, scrolls sideways" tabindex="0">
      <table class="heat">
        <caption class="hidden">Drops by tenant and week, newest week first</caption>
        <thead><tr><th scope="col">Tenant</th>
          ${weeks.map((week) => html`<th scope="col">
            <time datetime=${week} title=${`Week that begins on Sunday, ${date(week)}`}>${dateWithoutYear(week)}</time>
              </th>`)}</tr></thead>
        <tbody>${tenants.map(({ tenantId, cells }) => {
          const byWeek = new Map(cells.map((cell) => [cell.week, cell]));
          return html`<tr key=${tenantId}><th scope="row"><code class="tenant">${tenantId}</code></th>
            ${weeks.map((week) => html`<${Cell} tenantId=${tenantId} week=${week} cell=${byWeek.get(week)} />`)}</tr>`;
        })}</tbody>
      </table>
    </div>`;
}

function Cell({ tenantId, week, cell }) {
  if (!cell?.worst)
    return html`<td class="none"><span aria-hidden="true">–</span><span class="hidden">no drop</span></td>`;
  // As in "3 ok, 1 set aside": successes first, then the states from worst to best.
  const counted = [STATES.at(-1), ...STATES.slice(0, -1)].filter((state) => countOf(cell, state.name) > 0);
  const text =
    counted.map((state) => `${countOf(cell, state.name)} ${state.short}`).join(', ') || stateOf(cell.worst).short;
  return html`
    <td class="state-${stateOf(cell.worst).name}">
      <a href=${link(['drops'], { tenant: tenantId, week })} onClick=${() => focusSoon('all-drops')}>
        <${Glyph} name=${stateOf(cell.worst).name} />${text}</a>
    </td>`;
}
