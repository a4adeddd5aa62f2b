// Fields of the forms for attributes and programs. Their values are held by the form that uses them.
import { html, useRef, useState } from './html.js';
import { labelsOf, PERMISSIONS, windowOf } from './definitions.js';
import { date } from './format.js';

/** The upper bounds of the first three ranges. `value`: three texts. */
export function RangeFields({ value, onChange, unit }) {
  const numbers = value.map(Number);
  const labels = value.every((text) => text !== '') ? labelsOf(numbers) : labelsOf(value.map((text) => text || '…'));
  const set = (at) => (event) => onChange(value.map((text, index) => (index === at ? event.target.value : text)));
  return html`
    <table class="ranges">
      <caption>Ranges (${unit})</caption>
      <thead><tr><th scope="col">Range</th><th scope="col">From</th><th scope="col">To less than</th></tr></thead>
      <tbody>${labels.map(
        (label, at) => html`
        <tr><th scope="row">${label}</th><td class="tabular">${at === 0 ? '0' : value[at - 1] || '…'}</td>
          <td>${
            at < 3
              ? html`<input type="number" inputmode="decimal" step="any" min="0.000001" max="999999999" required
                aria-label=${`Max of range ${at + 1}`} value=${value[at]} onInput=${set(at)} />`
              : html`<span class="muted">no limit</span>`
          }</td></tr>`,
      )}</tbody>
    </table>`;
}

/** Why bounds are not usable, or null. */
export function boundsMistake(value) {
  const [a, b, c] = value.map(Number);
  return a > 0 && a < b && b < c ? null : 'Each value must be larger than the one above it, and above 0.';
}

/** Roles of the survey platform and their permissions. `value`: permissions by role; `known`: roles used elsewhere. */
export function RoleFields({ value, onChange, known }) {
  const [name, setName] = useState('');
  const input = useRef();
  const roles = Object.keys(value);
  const missing = known.filter((role) => !roles.includes(role));
  const toggle = (role, permission) => (event) => {
    const allowed = PERMISSIONS.map(([permission]) => permission).filter((each) =>
      each === permission ? event.target.checked : value[role].includes(each),
    );
    onChange({ ...value, [role]: allowed });
  };
  const add = (role) => {
    if (role && !roles.includes(role)) onChange({ ...value, [role]: PERMISSIONS.map(([permission]) => permission) });
    setName('');
    input.current?.focus();
  };
  const remove = (role) => onChange(Object.fromEntries(Object.entries(value).filter(([each]) => each !== role)));
  const enter = (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    add(name.trim());
  };
  return html`
    <fieldset class="roles">
      <legend>Roles of the survey platform</legend>
      ${roles.length === 0 && html`<p class="note">No role sees this attribute yet.</p>`}
      ${roles.map(
        (role) => html`
        <div class="role" role="group" aria-label=${`Role ${role}`} key=${role}>
          <strong>${role}</strong>
          ${PERMISSIONS.map(([permission, word]) => html`<label class="check">
            <input type="checkbox" checked=${value[role].includes(permission)} onChange=${toggle(role, permission)} />
              ${word}</label>`)}
          <button type="button" class="quiet" onClick=${() => remove(role)}
            aria-label=${`Remove role ${role}`}>Remove</button>
        </div>`,
      )}
      <p class="add-role">
        <label>Add a role <input ref=${input} value=${name} maxlength="64"
          onInput=${(event) => setName(event.target.value)} onKeyDown=${enter} /></label>
        <button type="button" onClick=${() => add(name.trim())} disabled=${!name.trim()}>Add role</button>
        ${missing.map((role) => html`<button type="button" onClick=${() => add(role)}>+ ${role}</button>`)}
      </p>
    </fieldset>`;
}

/** The cycles of a program. `value`: `{ name, start, end }` each. */
export function CycleFields({ value, onChange }) {
  const set = (at, member) => (event) =>
    onChange(value.map((cycle, index) => (index === at ? { ...cycle, [member]: event.target.value } : cycle)));
  return html`
    <fieldset class="cycles">
      <legend>Cycles</legend>
      ${value.map(
        (cycle, at) => html`
        <div class="cycle" role="group" aria-label=${`Cycle ${at + 1}`} key=${at}>
          <label>Name <input required maxlength="64" value=${cycle.name} onInput=${set(at, 'name')} /></label>
          <label>Opens <input type="date" required value=${cycle.start} onInput=${set(at, 'start')} /></label>
          <label>Closes <input type="date" required value=${cycle.end} onInput=${set(at, 'end')} /></label>
          <button type="button" class="quiet" onClick=${() => onChange(value.filter((_, index) => index !== at))}
            aria-label=${`Remove cycle ${at + 1}`}>Remove</button>
          <${Window} cycle=${cycle} />
        </div>`,
      )}
      <p><button type="button" onClick=${() => onChange([...value, { name: '', start: '', end: '' }])}>Add
        cycle</button></p>
    </fieldset>`;
}

/** The weeks of data that a cycle uses, or the mistake in its dates. */
function Window({ cycle }) {
  if (cycle.start && cycle.end && cycle.end <= cycle.start)
    return html`<p class="note bad-text">The survey must close after it opens.</p>`;
  const window = cycle.end && windowOf(cycle.end);
  if (!window) return null;
  return html`<p class="note">Uses 12 weeks of data: from Sunday, ${date(window.start)}, to before
    Sunday, ${date(window.end)}.</p>`;
}
