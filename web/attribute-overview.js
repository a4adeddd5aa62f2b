// The attributes, programs and settings of a tenant that is set up, with the people in each range.
import { html, useState } from './html.js';
import { AttributeForm, ProgramForm } from './attribute-form.js';
import { ChangeDialog } from './change.js';
import { boundsOf, change, labelsOf, PERMISSIONS, rolesOf, unitOf, unitWords } from './definitions.js';
import { date, plural } from './format.js';
import { cycleName, Cycles, FormerCycles, isActive } from './cycles.js';
import { RangeBars } from './range-bars.js';
import { link } from './route.js';
import { SettingsForm } from './settings-form.js';
import { Glyph, Section } from './ui.js';

/** The overview. */
export function Overview({ tenant }) {
  const [dialog, setDialog] = useState(null);
  const close = () => setDialog(null);
  const { definitions, catalogue, imports } = tenant;
  const attributes = definitions.attributes || [];
  const programs = definitions.programs || [];
  const completed = imports.filter((each) => each.counts && each.state === 'completed');
  const [chosen, setChosen] = useState(null);
  const shown =
    completed.find((each) => cycleName(each) === chosen) ||
    completed.toSorted((a, b) => (a.updated < b.updated ? 1 : -1))[0];
  const open = {
    edit: (attribute, parts, title) =>
      setDialog({
        title: `${title}: ${attribute.name}`,
        form: (check, busy) =>
          html`<${AttributeForm} attribute=${attribute} parts=${parts} catalogue=${catalogue}
            knownRoles=${rolesOf(attributes)} busy=${busy} submit=${(edited) => check(change.attribute(edited))} />`,
      }),
    delete: (attribute) =>
      setDialog({
        title: `Delete ${attribute.name}`,
        apply: change.withoutAttribute(attribute.name),
        confirmWord: 'Delete',
        focusAfter: 'attributes',
        danger: true,
        intro: html`<p>The survey platform is told to drop everything that was imported under this name, and later
          cycles do not contain it.</p>`,
      }),
    program: (program) =>
      setDialog({
        title: program.name ? `Cycles of ${program.name}` : 'Add a program',
        form: (check, busy) =>
          html`<${ProgramForm} program=${program} isNew=${!program.name} busy=${busy}
            submit=${(edited) => check(change.program(edited))} />`,
      }),
    removeProgram: (program) =>
      setDialog({
        title: `Remove ${program.name}`,
        apply: change.withoutProgram(program.name),
        confirmWord: 'Remove',
        focusAfter: 'programs',
        danger: true,
        intro: html`<p>Nothing is imported for this program any more. What was imported stays.</p>`,
      }),
    settings: () =>
      setDialog({
        title: 'Settings',
        form: (check, busy) =>
          html`<${SettingsForm} definitions=${definitions} busy=${busy}
            submit=${(settings) => check(change.settings(settings))} />`,
      }),
  };
  const active = imports.filter(isActive).length;
  return html`
    ${active > 0 && html`<p class="notice" role="status"><${Glyph} name="retrying" /><span>
      ${plural(active, 'import is', 'imports are')} on the way.</span></p>`}
    <${Section} id="attributes" title="Attributes">
      <div class="toolbar">
        ${
          completed.length > 0 &&
          html`<label class="inline">People of <select value=${shown && cycleName(shown)}
            onChange=${(event) => setChosen(event.target.value)}>
          ${completed.map((each) => html`<option value=${cycleName(each)} selected=${each === shown}>${cycleName(each)}
            </option>`)}</select></label>`
        }
        <a class="button" href=${link(['attributes', tenant.tenantId, 'add', '1'])}>Add attributes</a>
      </div>
      ${shown && html`<p class="note">
        ${plural(shown.people ?? 0, 'person', 'people')}, ${shown.window.weeks} of 12 weeks with data
          (${date(shown.window.start)} to ${date(shown.window.end)}).</p>`}
      <ul class="attributes">${attributes.map((attribute) => html`<${Attribute} key=${attribute.name}
        attribute=${attribute} catalogue=${catalogue} shown=${shown} open=${open} />`)}</ul>
    <//>
    <${Section} id="programs" title="Programs">
      <div class="toolbar"><button type="button"
        onClick=${() => open.program({ name: '', cycles: [] })}>Add a program</button></div>
      ${programs.length === 0 && html`<p class="placeholder">Without a program, nothing is imported.</p>`}
      <ul class="catalogue">${programs.map(
        (program) => html`
        <li class="card" key=${program.name}>
          <h3>${program.name}</h3>
          <span class="actions"><button type="button" onClick=${() => open.program(program)}
            aria-label=${`Edit cycles of ${program.name}`}>Edit cycles</button>
            <button type="button" class="quiet" onClick=${() => open.removeProgram(program)}
              aria-label=${`Remove ${program.name}`}>Remove</button></span>
          <${Cycles} program=${program} tenant=${tenant} />
        </li>`,
      )}</ul>
      <${FormerCycles} tenant=${tenant} />
    <//>
    <${Section} id="settings" title="Settings">
      <dl class="numbers">
        <div><dt>Smallest group</dt><dd>${definitions.minGroupSize ?? 5} people</dd></div>
        <div><dt>Weeks without activity</dt><dd>${definitions.inactiveWeeks === 'exclude' ? 'left out' : 'included'}
          </dd></div>
        <div><dt>Averages of people</dt><dd>${definitions.values ? 'sent' : 'not sent'}</dd></div>
        <div><dt>Revision</dt><dd>${tenant.revision ?? '–'}</dd></div>
      </dl>
      <p><button type="button" onClick=${open.settings}>Change settings</button></p>
    <//>
    ${dialog && html`<${ChangeDialog} ...${dialog} tenant=${tenant} close=${close} />`}`;
}

function Attribute({ attribute, catalogue, shown, open }) {
  const { name, roles = {} } = attribute;
  const bounds = boundsOf(attribute, catalogue);
  const labels = shown?.labels?.[name] || (bounds ? labelsOf(bounds) : []);
  return html`
    <li class="card attribute">
      <h3>${name} <span class="unit">${unitWords(unitOf(attribute, catalogue), name)}</span></h3>
      <${RangeBars} labels=${labels} counts=${shown?.counts?.[name]} name=${name} />
      <dl class="role-list">${Object.entries(roles).map(
        ([role, permissions]) => html`
        <div><dt>${role}</dt><dd>${
          PERMISSIONS.filter(([permission]) => permissions.includes(permission))
            .map(([, word]) => word.toLowerCase())
            .join(', ') || 'nothing'
        }</dd></div>`,
      )}</dl>
      <p class="actions">
        <button type="button" onClick=${() => open.edit(attribute, ['roles'], 'Roles')}
          aria-label=${`Edit the roles of ${name}`}>Roles</button>
        <button type="button" onClick=${() => open.edit(attribute, ['ranges'], 'Ranges')}
          aria-label=${`Customize the ranges of ${name}`}>Ranges</button>
        <button type="button" class="quiet" onClick=${() => open.delete(attribute)}
          aria-label=${`Delete ${name}`}>Delete</button>
      </p>
    </li>`;
}
