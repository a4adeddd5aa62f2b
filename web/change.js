// Every change of definitions: check it, show what it will do, confirm it, save it. If somebody else saved in the
// meantime, the operator chooses whose version counts; the input is kept until then.
import { html, useEffect, useRef, useState } from './html.js';
import { apiPath, manage, view } from './api.js';
import { differences, EMPTY } from './definitions.js';
import { announce, Dialog, Failure, focusSoon, Notice, Text } from './ui.js';

/**
 * The steps of a change: `form`, `confirm`, `conflict`. `base`: `{ definitions, etag }` that the change starts from.
 * `saved(answer)` is called after the change was saved.
 */
export function useChange({ tenantId, base, saved }) {
  const [state, setState] = useState({ step: 'form', base, busy: false });
  const update = (members) => setState((old) => ({ ...old, ...members }));

  const put = (dryRun, apply, base) =>
    manage(
      'PUT',
      apiPath(['attributes', tenantId], { dryRun: String(dryRun) }),
      apply(base.definitions || EMPTY),
      base.etag ? { 'if-match': base.etag } : { 'if-none-match': '*' },
    );

  const failed = async (error) => {
    if (error.status !== 412) return update({ busy: false, error, step: error.status === 400 ? 'form' : state.step });
    try {
      const { data, etag } = await view(apiPath(['attributes', tenantId]));
      update({ busy: false, error: null, step: 'conflict', theirs: { definitions: data.definitions, etag } });
    } catch (error) {
      update({ busy: false, error });
    }
  };

  /** Asks the server what the change would do. */
  const check = async (apply, base = state.base) => {
    update({ busy: true, error: null, apply, base });
    try {
      const { data } = await put(true, apply, base);
      update({ busy: false, step: 'confirm', consequences: data.consequences || [] });
    } catch (error) {
      await failed(error);
    }
  };

  const save = async () => {
    update({ busy: true, error: null });
    try {
      const { data } = await put(false, state.apply, state.base);
      saved(data);
    } catch (error) {
      await failed(error);
    }
  };

  return {
    ...state,
    check,
    save,
    back: () => update({ step: 'form', error: null }),
    applyToTheirs: () => check(state.apply, state.theirs),
  };
}

/** The steps after the form: confirmation, conflict, failure. `discard` abandons the change. */
export function ChangeSteps({ steps, discard, confirmWord = 'Save', danger = false, hasForm = true }) {
  const group = useRef();
  // The button that was pressed is gone, and the focus with it. Focus on another part of the page stays there.
  useEffect(() => {
    const { activeElement } = document;
    if (activeElement === document.body || activeElement.closest('dialog'))
      (group.current || document.querySelector('dialog[open] h2'))?.focus();
  }, [steps.step]);
  return html`
    ${steps.error && html`<${Failure} error=${steps.error} />`}
    ${
      steps.step === 'confirm' &&
      html`
      <div role="group" aria-label="Confirm" tabindex="-1" ref=${group}>
        ${
          steps.consequences.length > 0
            ? html`<p><strong>This will happen:</strong></p><ul class="consequences">
              ${steps.consequences.map((text) => html`<li><${Text} text=${text} /></li>`)}</ul>`
            : html`<p>Nothing is imported again or deleted.</p>`
        }
        <p class="actions">
          ${hasForm ? html`<button type="button" onClick=${steps.back} disabled=${steps.busy}>Back</button>`
            : html`<button type="button" onClick=${discard} disabled=${steps.busy}>Cancel</button>`}
          <button type="button" class=${danger ? 'danger' : 'primary'} onClick=${steps.save} disabled=${steps.busy}>
            ${steps.busy ? 'Saving…' : confirmWord}</button>
        </p>
      </div>`
    }
    ${steps.step === 'conflict' && html`<${Conflict} group=${group} steps=${steps} discard=${discard} />`}`;
}

function Conflict({ group, steps, discard }) {
  const changes = differences(steps.base.definitions, steps.theirs.definitions);
  return html`
    <div role="alert" tabindex="-1" ref=${group}>
      <${Notice} kind="warn">
        <p><strong>Somebody else changed this</strong> while you were editing. Your input is kept; nothing of it is
          saved yet.</p>
        ${changes.length > 0 && html`<p>Their version:</p><ul>${changes.map((text) => html`<li>${text}</li>`)}</ul>`}
      <//>
      <p class="actions">
        <button type="button" onClick=${discard} disabled=${steps.busy}>Use their version, discard mine</button>
        <button type="button" class="primary" onClick=${steps.applyToTheirs}
          disabled=${steps.busy}>Apply my change to their version</button>
      </p>
    </div>`;
}

/**
 * A dialog that changes definitions. `form(check)` renders its form, which calls `check` with a change; without a form,
 * `apply` is checked at once. The form stays in the document, hidden, until the change is saved or discarded.
 */
export function ChangeDialog({ title, tenant, close, form, apply, intro, confirmWord, danger, focusAfter }) {
  const saved = () => {
    announce(`${title}: saved.`);
    close();
    // The button that opened the dialog disappears with what was deleted.
    if (focusAfter) focusSoon(focusAfter);
    tenant.reload();
  };
  const steps = useChange({
    tenantId: tenant.tenantId,
    base: { definitions: tenant.definitions, etag: tenant.etag },
    saved,
  });
  useEffect(() => {
    if (apply) steps.check(apply);
  }, []);
  const discard = () => {
    close();
    tenant.reload();
  };
  return html`
    <${Dialog} title=${title} close=${close} busy=${steps.busy} holdsInput=${Boolean(form)}>
      ${intro}
      ${form && html`<div hidden=${steps.step !== 'form'}>${form(steps.check, steps.busy)}</div>`}
      ${!form && steps.step === 'form' && !steps.error &&
        html`<p class="placeholder" role="status">Checking what this will do…</p>`}
      <${ChangeSteps} steps=${steps} discard=${discard} confirmWord=${confirmWord} danger=${danger}
        hasForm=${Boolean(form)} />
    <//>`;
}
