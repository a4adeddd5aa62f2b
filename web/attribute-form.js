// The forms of one attribute and of one program, used by the set-up and by the dialogs that change them.
import { html, useState } from './html.js';
import { boundsOf, SUGGESTED_BOUNDS, unitOf, unitWords } from './definitions.js';
import { boundsMistake, CycleFields, RangeFields, RoleFields } from './forms.js';

const texts = (bounds) => (bounds ? bounds.map(String) : ['', '', '']);

/**
 * The form of an attribute. `parts` says which fields it has: `metric`, `ranges`, `roles`. `submit` gets the attribute;
 * default ranges are left out of it.
 */
export function AttributeForm({ attribute, parts, catalogue, knownRoles, submit, busy, word = 'Continue' }) {
  const preset = catalogue.find(({ name }) => name === attribute.name && !attribute.metric);
  const [name, setName] = useState(attribute.name || '');
  const [metric, setMetric] = useState(attribute.metric || '');
  const [unit, setUnit] = useState(unitOf(attribute, catalogue));
  const [bounds, setBounds] = useState(texts(boundsOf(attribute, catalogue) || (preset && SUGGESTED_BOUNDS)));
  const [roles, setRoles] = useState(attribute.roles || {});
  const [mistake, setMistake] = useState(null);
  const has = (part) => parts.includes(part);
  const onSubmit = (event) => {
    event.preventDefault();
    const wrong = has('ranges') ? boundsMistake(bounds) : null;
    setMistake(wrong);
    if (wrong) return;
    const max = bounds.map(Number);
    const isDefault = preset?.max && preset.max.every((bound, at) => bound === max[at]);
    const { max: _, ...rest } = attribute;
    submit({
      ...(has('ranges') ? rest : attribute),
      ...(has('metric') && { name: name.trim(), metric: metric.trim(), unit }),
      ...(has('ranges') && !isDefault && { max }),
      ...(has('roles') && { roles }),
    });
  };
  return html`
    <form onSubmit=${onSubmit}>
      ${
        has('metric') &&
        html`
        <div class="fields">
          <label>Name <input required maxlength="64" value=${name} onInput=${(event) => setName(event.target.value)} />
            </label>
          <label>Metric column <input required value=${metric} onInput=${(event) => setMetric(event.target.value)}
            spellcheck=${false} placeholder="TotalFocusHours" /></label>
          <label>Unit <select value=${unit} onChange=${(event) => setUnit(event.target.value)}>
            <option value="Hour">Hour</option><option value="Count">Count</option></select></label>
        </div>`
      }
      ${
        has('ranges') &&
        html`
        <${RangeFields} value=${bounds} onChange=${setBounds} unit=${unitWords(unit, name)} />
        ${preset && !preset.max &&
          html`<p class="note">This attribute has no default ranges; ${SUGGESTED_BOUNDS.join(', ')} are a
            suggestion.</p>`}
        ${preset?.max && html`<p>
          <button type="button" class="quiet"
            onClick=${() => setBounds(texts(preset.max))}>Use the default ranges</button></p>`}
        <p class="note">Ranges with few people are withheld from results.</p>`
      }
      ${has('roles') && html`<${RoleFields} value=${roles} onChange=${setRoles} known=${knownRoles} />`}
      ${mistake && html`<p class="notice bad" role="alert">${mistake}</p>`}
      <p class="actions"><button class="primary" disabled=${busy}>${busy ? 'Checking…' : word}</button></p>
    </form>`;
}

/** The form of a program: its name and its cycles. */
export function ProgramForm({ program, submit, busy, word = 'Continue', isNew }) {
  const [name, setName] = useState(program.name);
  const [cycles, setCycles] = useState(program.cycles?.length ? program.cycles : [{ name: '', start: '', end: '' }]);
  const onSubmit = (event) => {
    event.preventDefault();
    submit({ ...program, name: name.trim(), cycles });
  };
  return html`
    <form onSubmit=${onSubmit}>
      ${isNew && html`<div class="fields">
        <label>Name of the program <input required maxlength="64" value=${name}
          onInput=${(event) => setName(event.target.value)} /></label></div>`}
      <${CycleFields} value=${cycles} onChange=${setCycles} />
      <p class="actions"><button class="primary" disabled=${busy}>${busy ? 'Checking…' : word}</button></p>
    </form>`;
}
