// The number of people in each range of an attribute, as bars. A withheld range is hatched and has no length.
import { html } from './html.js';
import { count } from './format.js';

/** The bars. `counts`: four numbers, null where withheld; undefined before the first import. */
export function RangeBars({ labels, counts, name }) {
  const largest = Math.max(1, ...(counts || []).filter((value) => value !== null));
  return html`
    <table class="range-bars">
      <caption class="hidden">People in each range of ${name}</caption>
      <thead class="hidden"><tr><th scope="col">Range</th><th scope="col">People</th></tr></thead>
      <tbody>${labels.map(
        (label, at) => html`
        <tr><th scope="row">${label}</th>
          <td>${counts && html`<${RangeBar} value=${counts[at]} largest=${largest} />`}
            <span class="tabular">${!counts ? 'no data yet' : counts[at] === null ? 'withheld' : count(counts[at])}
              </span></td></tr>`,
      )}</tbody>
    </table>`;
}

function RangeBar({ value, largest }) {
  if (value === null) {
    const lines = Array.from({ length: 26 }, (_, at) => html`<path d=${`M${at * 8 - 8} 12l12-12`} />`);
    return html`<svg class="range-bar withheld" viewBox="0 0 200 12" preserveAspectRatio="xMinYMid slice"
      aria-hidden="true" focusable="false">${lines}</svg>`;
  }
  return html`
    <svg class="range-bar" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <rect class="track" width="200" height="12" /><rect class="fill" width=${(200 * value) / largest} height="12" />
        </svg>`;
}
