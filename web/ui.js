// Parts that all views use.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from './html.js';
import { clockTime, count, dateTime, plural, relative } from './format.js';
import { stateOf } from './states.js';

const GLYPHS = {
  completed: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM5 8.2l2.2 2.2L11.2 6',
  'set-aside': 'M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3zM5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6',
  overdue: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 4.5V8l2.5 1.5',
  retrying: 'M13.5 8a5.5 5.5 0 1 1-1.7-4M13.7 1.5v3h-3',
  open: 'M8 1.5a6.5 6.5 0 0 1 0 13M8 1.5a6.5 6.5 0 0 0 0 13M8 14.5V1.5M10 4.5h2.5M10 8h4M10 11.5h2.5',
  waiting: 'M4 1.5h8M4 14.5h8M5 1.5v2.5L8 8l-3 4v2.5M11 1.5v2.5L8 8l3 4v2.5',
  unknown: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM6.3 6.2a1.8 1.8 0 1 1 2.5 1.7c-.6.3-.8.6-.8 1.2M8 11.5v.1',
  warning: 'M8 2L14.5 13.5h-13zM8 6.5v3M8 11.5v.1',
  paused: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM6.3 5.5v5M9.7 5.5v5',
};

/** A glyph; always beside a word. */
export const Glyph = ({ name }) => html`
  <svg class="glyph" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d=${GLYPHS[name] || GLYPHS.unknown} /></svg>`;

/** A state as glyph and word. */
export function State({ name }) {
  const state = stateOf(name);
  return html`<span class="badge state-${state.name}"><${Glyph} name=${state.name} />${state.word}</span>`;
}

/** A moment as the time from now, with the exact time as a tooltip and for screen readers. */
export const Age = ({ at }) =>
  at
    ? html`<time datetime=${at} title=${dateTime(at)}>${relative(at)}</time>`
    : html`<span class="muted">unknown</span>`;

/** How late a try may be, in milliseconds, before the page says so: sweeps run every five minutes. */
const TRY_IS_LATE_AFTER = 600_000;

/** When a drop is tried again. */
export function NextTry({ at }) {
  const wait = new Date(at) - Date.now();
  if (wait > 0) return html`<${Age} at=${at} />`;
  return wait > -TRY_IS_LATE_AFTER ? 'due now' : html`due <${Age} at=${at} />`;
}

/** The moment at which the server read what is shown, and a button to read it again. */
export const AsOf = ({ resource, what }) => {
  const { data, busy, old, reload } = resource;
  return html`
    <span class="as-of ${old ? 'old' : ''}">
      ${data?.asOf && html`<span class="tabular">as of <time datetime=${data.asOf} title=${dateTime(data.asOf)}>
        ${clockTime(data.asOf)}</time>${old && `, ${relative(data.asOf)}`}</span>`}
      <button type="button" class="quiet" onClick=${reload} aria-disabled=${busy} aria-label=${`Refresh ${what}`}>
        ${busy ? 'Loading…' : 'Refresh'}</button>
    </span>`;
};

/** A section with a heading that scripts can focus. */
export const Section = ({ id, title, resource, what, children, note }) => html`
  <section aria-labelledby=${id}>
    <div class="section-head">
      <h2 id=${id} tabindex="-1">${title}</h2>
      ${resource && html`<${AsOf} resource=${resource} what=${what || title.toLowerCase()} />`}
    </div>
    ${note && html`<p class="note">${note}</p>`}
    ${children}
  </section>`;

/** The state of an answer: a failure, a placeholder, or the children. A failure leaves the last answer visible. */
export const Answer = ({ resource, children }) => html`
  ${resource.error && html`<${Failure} error=${resource.error} retry=${resource.reload} />`}
  ${resource.data ? children(resource.data)
    : !resource.error && html`<p class="placeholder" role="status">Loading…</p>`}`;

/** A text of the server; what it has between backticks is code. */
export const Text = ({ text }) => text.split('`').map((part, at) => (at % 2 === 1 ? html`<code>${part}</code>` : part));

/** A drop path; lines break after its slashes. */
export const DropPath = ({ path }) =>
  html`<code class="drop-path">${path.split('/').map((part, at) => (at === 0 ? part : html`/<wbr />${part}`))}</code>`;

/** A failed call: what happened, and every mistake that the server named. */
export function Failure({ error, retry }) {
  return html`
    <div class="notice bad" role="alert">
      <${Glyph} name="warning" /><div>
      <p>${error.mistakes?.length > 0 ? 'Correct this:' : html`<${Text} text=${error.message} />`}</p>
      ${error.mistakes?.length > 0 &&
        html`<ul>${error.mistakes.map(({ place, text }) => html`<li>${place && html`<code>${place}</code>: `}
          <${Text} text=${text} /></li>`)}</ul>`}
      ${retry && html`<p><button type="button" onClick=${retry}>Try again</button></p>`}</div>
    </div>`;
}

/** A notice with a glyph. */
export const Notice = ({ kind = 'info', glyph = 'warning', children }) =>
  html`<div class="notice ${kind}"><${Glyph} name=${glyph} /><div>${children}</div></div>`;

/** A bar of `part` of `whole`. The numbers are in the text beside it, so it is hidden from screen readers. */
export function Bar({ part, whole, kind = '' }) {
  const width = whole > 0 ? Math.min(100, (100 * part) / whole) : 0;
  return html`
    <svg class="bar ${kind}" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <rect class="track" width="100" height="4" /><rect class="fill" width=${width} height="4" />
    </svg>`;
}

/** Rows delivered of rows expected, with a bar. */
export const Rows = ({ rows, expected, state }) => html`
  <span class="rows">
    <span class="tabular">${expected == null ? plural(rows ?? 0, 'row')
      : html`${count(rows ?? 0)} <span class="muted">of ${plural(expected, 'row')}</span>`}</span>
    ${expected > 0 && html`<${Bar} part=${rows ?? 0} whole=${expected} kind="state-${state}" />`}
  </span>`;

/**
 * A modal dialog. `close` is called for Escape, the close button, and a press on `Cancel` inside. With `holdsInput`,
 * Escape and the close button ask first, if anything was entered.
 */
export function Dialog({ title, close, children, busy, holdsInput }) {
  const dialog = useRef();
  const keep = useRef();
  const isTouched = useRef(false);
  const [isAsking, setAsking] = useState(false);
  const id = useId();
  useLayoutEffect(() => {
    const element = dialog.current;
    element.showModal();
    // Closing gives the focus back to the element that had it before.
    return () => element.close();
  }, []);
  useEffect(() => {
    if (isAsking) keep.current.focus();
  }, [isAsking]);
  const leave = (event) => {
    event.preventDefault();
    if (busy) return;
    if (isAsking) keepEditing();
    else if (isTouched.current) setAsking(true);
    else close();
  };
  const keepEditing = () => {
    setAsking(false);
    dialog.current.querySelector('h2').focus();
  };
  const touch = ({ type, target }) => {
    if (holdsInput && (type === 'input' || target.closest('form button[type=button]'))) isTouched.current = true;
  };
  // A browser closes the dialog at the second Escape without asking its `cancel` event, but not without its key.
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${leave} onInput=${touch} onClickCapture=${touch}
      onKeyDown=${(event) => event.key === 'Escape' && leave(event)}>
      <div class="dialog-head">
        <h2 id=${id} tabindex="-1" autofocus>${title}</h2>
        <button type="button" class="quiet" onClick=${leave} disabled=${busy} aria-label="Close">✕</button>
      </div>
      ${
        isAsking &&
        html`
        <div role="alertdialog" aria-label="Discard your changes?">
          <${Notice} kind="warn">
            <p>Discard what you have entered?</p>
            <p class="actions">
              <button type="button" onClick=${close}>Discard</button>
              <button type="button" class="primary" ref=${keep} onClick=${keepEditing}>Keep editing</button>
            </p>
          <//>
        </div>`
      }
      ${children}
    </dialog>`;
}

/** A button that copies `text`; says so for two seconds. */
export function Copy({ text, label = 'Copy' }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () =>
    navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => {},
    );
  return html`<button type="button" class="quiet" onClick=${copy}>${copied ? 'Copied' : label}</button>`;
}

/** A command line to copy. */
export const Command = ({ text }) =>
  html`<p class="command"><code>${text}</code><${Copy} text=${text} label="Copy command" /></p>`;

/** The first `first` children of a long list, and a button that shows `step` more. */
export function Limited({ items, first = 20, step = 200, what, children }) {
  const [limit, setLimit] = useState(first);
  const rest = items.length - limit;
  return html`
    ${children(items.slice(0, limit))}
    ${rest > 0 && html`<p><button type="button"
      onClick=${() => setLimit(limit + step)}>Show ${Math.min(rest, step)} more of ${plural(items.length, what)}
        </button></p>`}`;
}

/** Moves the focus to the element with this id, after the next rendering. */
export function focusSoon(id) {
  setTimeout(() => {
    const element = document.getElementById(id);
    element?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: 'start' });
  }, 50);
}

const listeners = new Set();

/** Says something in the status line of the page, which screen readers announce. */
export const announce = (text) => listeners.forEach((listener) => listener({ text }));

/** The status line; disappears after ten seconds. */
export function StatusLine() {
  const [message, setMessage] = useState(null);
  useEffect(() => {
    listeners.add(setMessage);
    return () => listeners.delete(setMessage);
  }, []);
  useEffect(() => {
    if (!message) return;
    const timer = setTimeout(() => setMessage(null), 10_000);
    return () => clearTimeout(timer);
  }, [message]);
  return html`<div class="status-line" role="status">${message && html`<p>${message.text}</p>`}</div>`;
}
