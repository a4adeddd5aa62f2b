// The settings of a tenant's attributes: confidentiality, weeks without activity, averages.
import { html, useState } from './html.js';

/** The form; `submit` gets the three settings. */
export function SettingsForm({ definitions, submit, busy }) {
  const [size, setSize] = useState(String(definitions.minGroupSize ?? 5));
  const [exclude, setExclude] = useState(definitions.inactiveWeeks === 'exclude');
  const [values, setValues] = useState(Boolean(definitions.values));
  const onSubmit = (event) => {
    event.preventDefault();
    submit({ minGroupSize: Number(size), inactiveWeeks: exclude ? 'exclude' : 'include', values });
  };
  return html`
    <form onSubmit=${onSubmit}>
      <div class="fields"><label>Smallest group <input type="number" min="5" step="1" required value=${size}
        onInput=${(event) => setSize(event.target.value)} /></label></div>
      <p class="note">A range with fewer people is withheld, and so are others from which it could be computed.</p>
      <label class="check"><input type="checkbox" checked=${exclude}
        onChange=${(event) => setExclude(event.target.checked)} />Leave out weeks in which a person was not
          active</label>
      <label class="check"><input type="checkbox" checked=${values}
        onChange=${(event) => setValues(event.target.checked)} />Send each person's average besides the range</label>
      <p class="actions"><button class="primary" disabled=${busy}>${busy ? 'Checking…' : 'Continue'}</button></p>
    </form>`;
}
