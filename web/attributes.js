// The view "Attributes": the tenants, and for one tenant either the set-up or the overview.
import { html } from './html.js';
import { apiPath } from './api.js';
import { isActive } from './cycles.js';
import { plural } from './format.js';
import { Overview } from './attribute-overview.js';
import { FAST, SLOW, useResource } from './resource.js';
import { go, link } from './route.js';
import { Setup } from './setup.js';
import { Age, Answer, AsOf, Glyph, Limited, NextTry, Notice, Text } from './ui.js';

/** The view. */
export function Attributes({ route }) {
  const [tenantId, page, step] = route.parts;
  const tenants = useResource(apiPath(['attributes']));
  if (!tenantId) return html`<${Tenants} resource=${tenants} />`;
  return html`<${Tenant} key=${tenantId} tenantId=${tenantId} page=${page} step=${Number(step) || 1}
    tenants=${tenants.data?.tenants || []} />`;
}

function Tenants({ resource }) {
  return html`
    <div class="section-head"><h1 tabindex="-1">Attributes</h1><${AsOf} resource=${resource} what="tenants" /></div>
    <p class="lead">An attribute is a person's weekly metric, averaged over the 12 weeks before a survey closes and
      reported as one of four ranges. Choose a tenant to define its attributes and survey programs.</p>
    <${Answer} resource=${resource}>${({ tenants }) =>
      tenants.length === 0
        ? html`<p class="placeholder">There are no tenants. The setting <code>TENANTS</code> lists them.</p>`
        : html`<${Limited} items=${tenants} first=${50} what="tenant">${(shown) => html`
        <ul class="tenant-list">${shown.map(
          ({ tenantId, attributes, programs, revision, problems, failing, failedImports }) => html`
          <li class="card" key=${tenantId}>
            <a href=${link(['attributes', tenantId])}><code class="tenant">${tenantId}</code></a>
            <span class="muted">${attributes > 0
              ? `${plural(attributes, 'attribute')}, ${plural(programs, 'program')}, revision ${revision}`
                : count(problems) > 0 ? 'nothing is imported' : 'not set up'}</span>
            ${count(problems) > 0 && html`<span class="badge state-set-aside"><${Glyph} name="warning" />
              ${plural(count(problems), 'problem')}</span>`}
            ${failing && html`<span class="badge state-retrying"><${Glyph} name="retrying" />Imports are retried</span>`}
            ${failedImports > 0 && html`<span class="badge state-set-aside"><${Glyph} name="set-aside" />
              ${plural(failedImports, 'cycle')} failed</span>`}
          </li>`,
        )}</ul>`}<//>`}<//>`;
}

/** The number of problems, which the list gives as a number or as texts. */
const count = (problems) => (Array.isArray(problems) ? problems.length : problems || 0);

function Tenant({ tenantId, page, step, tenants }) {
  const resource = useResource(apiPath(['attributes', tenantId]), ({ imports }) =>
    imports.some(isActive) ? FAST : SLOW,
  );
  const { data, etag, reload } = resource;
  const tenant = data && { ...data, tenantId, etag, reload };
  const settingUp = page === 'setup' || page === 'add';
  const choose = (event) => go(link(['attributes', event.target.value]));
  return html`
    <nav class="crumbs" aria-label="Path"><a href=${link(['attributes'])}>All tenants</a>
      ${settingUp && html` <span aria-hidden="true">/</span> <a href=${link(['attributes', tenantId])}>Tenant</a>`}
        </nav>
    ${
      !settingUp &&
      html`
      <div class="section-head"><h1 tabindex="-1">Attributes</h1><${AsOf} resource=${resource} what="attributes" />
        </div>
      <p><label class="inline">Tenant <select class="tenant-picker" value=${tenantId} onChange=${choose}>
        ${[...new Set([tenantId, ...tenants.map((each) => each.tenantId)])].sort().map((each) => html`<option
          value=${each} selected=${each === tenantId}>${each}</option>`)}</select></label></p>`
    }
    <${Answer} resource=${resource}>${() => html`
      ${data.problems.length > 0 &&
        html`<${Notice} kind="bad"><p>
          <strong>The definitions are not
            valid.</strong> ${data.definitions && 'The last valid version stays in force.'}</p><ul>
              ${data.problems.map((problem) => html`<li><${Text} text=${problem} /></li>`)}</ul><//>`}
      ${data.failing && html`<${Failing} failing=${data.failing} />`}
      ${
        settingUp
          ? html`<${Setup} key=${page} tenant=${tenant} page=${page} step=${step} />`
          : data.definitions
            ? html`<${Overview} tenant=${tenant} />`
            : html`<${NotSetUp} tenantId=${tenantId} />`
      }`}<//>`;
}

/** The last failure of imports that are retried. */
const Failing = ({ failing: { attempts, since, nextTry, error } }) => html`
  <${Notice} kind="warn">
    <p><strong>Imports fail and are retried:</strong> ${plural(attempts, 'attempt')}
      ${since && html`, the first one <${Age} at=${since} />`}${nextTry && html`, next try <${NextTry} at=${nextTry} />`}.
    </p>
    ${error && html`<p class="message"><${Text} text=${error} /></p>`}
  <//>`;

const NotSetUp = ({ tenantId }) => html`
  <div class="card empty">
    <h2>No attributes yet</h2>
    <p>Choose which metrics of Viva Insights become attributes, who may see them, and for which surveys.</p>
    <ol><li>Add attributes and their roles</li><li>Add survey programs and their cycles</li>
      <li>Import the data that storage still has</li></ol>
    <p><a class="button primary" href=${link(['attributes', tenantId, 'setup', '1'])}>Set up attributes</a></p>
  </div>`;
