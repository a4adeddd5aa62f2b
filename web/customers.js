// The view "Customers": keys, registrations and SAS tokens that expire, the last drop, and what to do.
import { html } from './html.js';
import { apiPath } from './api.js';
import { date, duration, plural, relative } from './format.js';
import { useResource } from './resource.js';
import { link } from './route.js';
import { Age, Answer, AsOf, Glyph, Limited, State, Text } from './ui.js';

/** The number of days before an expiry from which it is marked. */
const SOON = 30;

/** The view. Customers with problems come first. */
export function Customers() {
  const resource = useResource(apiPath(['customers']));
  return html`
    <div class="section-head"><h1 tabindex="-1">Customers</h1><${AsOf} resource=${resource} what="customers" /></div>
    <${Answer} resource=${resource}>${({ customers }) => {
      if (customers.length === 0)
        return html`<p class="placeholder">There are no customers. <code>vivadrop onboard</code> adds one, and the
          setting <code>TENANTS</code> lists them.</p>`;
      const [troubled, fine] = [
        customers.filter(needsAttention),
        customers.filter((customer) => !needsAttention(customer)),
      ];
      return html`
        <p class="verdict ${troubled.length > 0 ? 'bad' : 'good'}">
          <${Glyph} name=${troubled.length > 0 ? 'warning' : 'completed'} />
          <strong>${troubled.length > 0 ? plural(troubled.length, 'customer needs', 'customers need') + ' attention'
            : 'No key, registration or SAS URL expires soon, and no drop is late'}</strong></p>
        <${Limited} items=${[...troubled, ...fine]} first=${50} what="customer">${(shown) => html`
          <ul class="customers">${shown.map((customer) => html`<${Customer} key=${customer.tenantId}
            customer=${customer} />`)}</ul>`}<//>`;
    }}<//>`;
}

const needsAttention = (customer) => customer.problems.length > 0;

function Customer({ customer }) {
  const { tenantId, lastDrop } = customer;
  return html`
    <li class="card customer">
      <h2><code class="tenant">${tenantId}</code>
        ${customer.paused && html` <span class="badge state-waiting"><${Glyph} name="paused" />Paused</span>`}</h2>
      ${
        customer.problems.length > 0 &&
        html`
        <ul class="problems" aria-label="What to do">
          ${customer.problems.map((problem) => html`<li><${Glyph} name="warning" /><span><${Text} text=${problem} />
            </span></li>`)}</ul>`
      }
      <dl class="numbers columns">
        <${Expiry} title="Key" at=${customer.keyExpires} checked=${customer.checked}
          missing=${customer.keyMissing && 'none'} />
        <${Expiry} title="Registration" at=${customer.registrationExpires} checked=${customer.checked}
          missing=${customer.unregistered && 'none recorded'} />
        <${Expiry} title="SAS URL" at=${customer.sasExpires} />
        <div class="grow"><dt>Last drop</dt><dd>${
          lastDrop
            ? html`<a href=${lastDrop.path ? link(['drop', lastDrop.path]) : link(['drops'], { tenant: tenantId })}>
              arrived <${Age} at=${lastDrop.arrived} /></a> <${State} name=${lastDrop.state} />`
            : 'none yet'
        }</dd>${customer.expectedEvery &&
          html`<dd class="muted">expected every ${duration(customer.expectedEvery)}</dd>`}</div>
      </dl>
      <p class="note">${customer.checked ? html`Keys and registration were checked <${Age} at=${customer.checked} />.`
        : 'Keys and registration have not been checked yet; a sweep checks them once a day.'}
        ${' '}<a href=${link(['drops'], { tenant: tenantId })}>Drops</a>${' · '}
          <a href=${link(['attributes', tenantId])}>Attributes</a></p>
    </li>`;
}

/**
 * An expiry date in UTC and the time until then. Without a date: `missing`, if that is known; no expiry date if it was
 * `checked`; otherwise unknown.
 */
function Expiry({ title, at, checked, missing }) {
  if (!at)
    return html`<div><dt>${title}</dt><dd class="muted">${missing || (checked ? 'no expiry date' : 'unknown')}</dd></div>`;
  const days = (new Date(at) - Date.now()) / 86_400_000;
  const kind = days < 0 ? 'set-aside' : days < SOON ? 'retrying' : null;
  return html`
    <div><dt>${title}</dt><dd>
      <time datetime=${at}>${date(at)} UTC</time>${' '}
      <span class=${kind ? `badge state-${kind}` : 'muted'}>${kind && html`<${Glyph} name="warning" />`}
        ${days < 0 ? `expired ${relative(at)}` : relative(at)}</span>
    </dd></div>`;
}
