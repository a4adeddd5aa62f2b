// Set-up of attributes in steps, and adding attributes later. The draft survives a reload of the page.
import { html, useEffect, useState } from './html.js';
import { AttributeForm, ProgramForm } from './attribute-form.js';
import { ChangeSteps, useChange } from './change.js';
import { boundsOf, change, DESCRIPTIONS, rolesOf, shortRanges, unitOf, unitWords } from './definitions.js';
import { plural } from './format.js';
import { go, link } from './route.js';
import { announce, Dialog, Glyph } from './ui.js';

const STEPS = { setup: ['Attributes', 'Programs and cycles', 'Import'], add: ['Attributes', 'Import'] };

/** The view. `page`: `setup` for a tenant without definitions, `add` for further attributes. */
export function Setup({ tenant, page, step }) {
  const [draft, setDraft] = useDraft(`vivadrop.draft.${page}.${tenant.tenantId}`);
  const names = STEPS[page];
  const at = (step) => link(['attributes', tenant.tenantId, page, String(step)]);
  const name = names[step - 1] || names[0];
  const next = html`<a class="button primary" href=${at(step + 1)}>Continue: ${names[step]}</a>`;
  return html`
    <h1 tabindex="-1">${page === 'setup' ? 'Set up attributes' : 'Add attributes'}</h1>
    <p><code class="tenant">${tenant.tenantId}</code></p>
    <ol class="steps">${names.map((each, index) => html`<li aria-current=${index === step - 1 ? 'step' : undefined}>
      <a href=${at(index + 1)}>${each}</a></li>`)}</ol>
    ${
      name === 'Attributes' &&
      html`<${AttributeStep} tenant=${tenant} draft=${draft} setDraft=${setDraft}
      next=${draft.attributes.length > 0 ? next : html`<p class="note">Add at least one attribute to continue.</p>`} />`
    }
    ${name === 'Programs and cycles' && html`<${ProgramStep} draft=${draft} setDraft=${setDraft} next=${next} />`}
    ${name === 'Import' && html`<${ImportStep} tenant=${tenant} draft=${draft} setDraft=${setDraft}
      back=${at(step - 1)} />`}`;
}

/** A draft that is kept in the session's storage until it is saved or discarded. */
function useDraft(key) {
  const empty = { attributes: [], programs: [] };
  const [draft, setDraft] = useState(() => {
    try {
      return { ...empty, ...JSON.parse(sessionStorage.getItem(key)) };
    } catch {
      return empty;
    }
  });
  const keep = (draft) => {
    if (draft) sessionStorage.setItem(key, JSON.stringify(draft));
    else sessionStorage.removeItem(key);
    setDraft(draft || empty);
  };
  return [draft, keep];
}

function AttributeStep({ tenant, draft, setDraft, next }) {
  const [editing, setEditing] = useState(null);
  const { catalogue } = tenant;
  const existing = tenant.definitions?.attributes || [];
  const presets = catalogue.map(({ name }) => ({ name }));
  const custom = draft.attributes.filter((attribute) => attribute.metric);
  const submit = (attribute) => {
    setDraft(change.attribute(attribute)(draft));
    setEditing(null);
    announce(`${attribute.name}: added.`);
  };
  return html`
    <section aria-labelledby="catalogue">
      <h2 id="catalogue">Which metrics become attributes?</h2>
      <p class="note">Each is split into four ranges. You can change ranges and roles later.</p>
      <ul class="catalogue">${[...presets, ...custom].map((preset) => {
        const added = draft.attributes.find(({ name }) => name === preset.name);
        const attribute = added || preset;
        const bounds = boundsOf(attribute, catalogue);
        return html`
          <li class="card" key=${preset.name}>
            <div><h3>${preset.name}</h3>
              ${!preset.metric && DESCRIPTIONS[preset.name] && html`<p>${DESCRIPTIONS[preset.name]}</p>`}
              <p class="muted">${bounds ? shortRanges(bounds)
                : 'no default ranges;'} ${unitWords(unitOf(attribute, catalogue), attribute.name)}</p>
              ${added && html`<p class="muted">
                ${rolesOf([added]).length > 0 ? `Roles: ${rolesOf([added]).join(', ')}` : 'No roles'}</p>`}</div>
            <span class="actions">${
              existing.some(({ name }) => name === preset.name)
                ? html`<span class="badge state-waiting"><${Glyph} name="completed" />In use</span>`
                : added
                  ? html`<span class="badge state-completed"><${Glyph} name="completed" />Added</span>
                  <button type="button" onClick=${() => setEditing(added)}
                    aria-label=${`Edit ${preset.name}`}>Edit</button>
                  <button type="button" class="quiet"
                    onClick=${() => setDraft(change.withoutAttribute(preset.name)(draft))}
                      aria-label=${`Remove ${preset.name}`}>Remove</button>`
                  : html`<button type="button" onClick=${() => setEditing(preset)}
                    aria-label=${`Add ${preset.name}`}>Add</button>`
            }</span>
          </li>`;
      })}</ul>
      <p><button type="button"
        onClick=${() => setEditing({ metric: '', isNew: true })}>Add another metric…</button></p>
      <div class="next">${next}</div>
      ${
        editing &&
        html`
        <${Dialog} title=${editing.name || 'Another metric'} close=${() => setEditing(null)} holdsInput>
          <${AttributeForm} attribute=${withoutMark(editing)}
            parts=${editing.metric === undefined ? ['ranges', 'roles'] : ['metric', 'ranges', 'roles']}
            catalogue=${catalogue} knownRoles=${rolesOf([...existing, ...draft.attributes])} submit=${submit}
              word="Save" />
        <//>`
      }
    </section>`;
}

const withoutMark = ({ isNew, ...attribute }) => attribute;

function ProgramStep({ draft, setDraft, next }) {
  const [editing, setEditing] = useState(null);
  const submit = (program) => {
    setDraft(change.program(program)(draft));
    setEditing(null);
    announce(`${program.name}: added.`);
  };
  return html`
    <section aria-labelledby="programs">
      <h2 id="programs">For which surveys?</h2>
      <p class="note">A program is a survey that is repeated; each round is a cycle. The two latest ended cycles are
        imported now, later ones as they end.</p>
      <ul class="catalogue">${draft.programs.map(
        (program) => html`
        <li class="card" key=${program.name}>
          <div><h3>${program.name}</h3><p class="muted">
            ${plural(program.cycles.length, 'cycle')}: ${program.cycles.map((cycle) => cycle.name).join(', ')}</p></div>
          <span class="actions"><button type="button" onClick=${() => setEditing(program)}
            aria-label=${`Edit ${program.name}`}>Edit</button>
            <button type="button" class="quiet" onClick=${() => setDraft(change.withoutProgram(program.name)(draft))}
              aria-label=${`Remove ${program.name}`}>Remove</button></span>
        </li>`,
      )}</ul>
      <p><button type="button" onClick=${() => setEditing({ name: '', cycles: [], isNew: true })}>Add a
        program…</button></p>
      <div class="next">${next}</div>
      ${
        editing &&
        html`
        <${Dialog} title=${editing.name || 'Add a program'} close=${() => setEditing(null)} holdsInput>
          <${ProgramForm} program=${withoutMark(editing)} isNew=${editing.isNew} submit=${submit} word="Save" />
        <//>`
      }
    </section>`;
}

function ImportStep({ tenant, draft, setDraft, back }) {
  const done = link(['attributes', tenant.tenantId]);
  const finish = (text) => {
    setDraft(null);
    announce(text);
    tenant.reload();
    go(done);
  };
  const steps = useChange({
    tenantId: tenant.tenantId,
    base: { definitions: tenant.definitions, etag: tenant.etag },
    saved: () => finish('Saved. The data is being imported.'),
  });
  const isEmpty = draft.attributes.length + draft.programs.length === 0;
  const apply = change.all([...draft.attributes.map(change.attribute), ...draft.programs.map(change.program)]);
  useEffect(() => {
    if (!isEmpty) steps.check(apply);
  }, []);
  return html`
    <section aria-labelledby="import">
      <h2 id="import">Import</h2>
      ${
        isEmpty
          ? html`<p class="placeholder">There is nothing to save yet.</p>`
          : html`
        <ul class="review">
          ${draft.attributes.map((attribute) => html`<li><strong>${attribute.name}</strong> <span class="muted">
            ${shortRanges(boundsOf(attribute, tenant.catalogue))}</span></li>`)}
          ${draft.programs.map((program) => html`<li><strong>${program.name}</strong> <span class="muted">
            ${program.cycles.map((cycle) => `${cycle.name} (${cycle.start} to ${cycle.end})`).join(', ')}</span></li>`)}
        </ul>`
      }
      ${!isEmpty && steps.busy && steps.step === 'form' &&
        html`<p class="placeholder" role="status">Checking what this will do…</p>`}
      <${ChangeSteps} steps=${{ ...steps, back: () => go(back) }} discard=${() => finish('Your draft was discarded.')}
        confirmWord="Import" />
    </section>`;
}
