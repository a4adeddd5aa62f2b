// The page of one replay run: progress, pause after the first drop, cancel.
import { html, useState } from './html.js';
import { apiPath, manage } from './api.js';
import { count, plural } from './format.js';
import { FAST, SLOW, useResource } from './resource.js';
import { link } from './route.js';
import { Age, Answer, AsOf, Bar, Dialog, Failure, Glyph } from './ui.js';

/** The states of a replay run in words, with the glyph and the colour of a state of drops. */
export const RUN_STATES = {
  running: { word: 'Running', state: 'retrying' },
  paused: { word: 'Paused', state: 'waiting', glyph: 'paused' },
  cancelled: { word: 'Cancelled', state: 'waiting', glyph: 'set-aside' },
  done: { word: 'Done', state: 'completed' },
};

/** The state of a replay run as glyph and word. */
export function RunState({ name }) {
  const { word, state, glyph = state } = RUN_STATES[name] || { word: name, state: 'unknown' };
  return html`<span class="badge state-${state}"><${Glyph} name=${glyph} />${word}</span>`;
}

/** The view. */
export function Replay({ route }) {
  const id = route.parts[0];
  const resource = useResource(apiPath(['replays', id]), (run) => (run.state === 'running' ? FAST : SLOW));
  return html`
    <nav class="crumbs" aria-label="Path"><a href=${link(['drops'])}>Drops</a></nav>
    <div class="section-head"><h1 tabindex="-1">Replay</h1><${AsOf} resource=${resource} what="replay" /></div>
    <${Answer} resource=${resource}>
      ${(run) => html`<${Run} run=${run} etag=${resource.etag} reload=${resource.reload} />`}<//>`;
}

function Run({ run, etag, reload }) {
  const [cancelling, setCancelling] = useState(false);
  const [error, setError] = useState(null);
  const change = (action) => {
    setError(null);
    setCancelling(false);
    return manage('POST', apiPath(['replays', run.id, action]), undefined, { 'if-match': etag }).then(
      reload,
      (error) => {
        setError(
          error.status === 412
            ? new Error('The run has changed in the meantime. Its new state is shown; please choose again.')
            : error,
        );
        reload();
      },
    );
  };
  const left = run.total - run.done - run.failed;
  const unstarted = run.total - run.started;
  const isActive = ['running', 'paused'].includes(run.state);
  return html`
    <div class="card" aria-live="polite">
      <p class="badges"><${RunState} name=${run.state} /> <span class="muted">started <${Age}
        at=${run.created} />, last change <${Age} at=${run.updated} /></span></p>
      <${Bar} part=${run.done + run.failed} whole=${run.total}
        kind="thick ${run.failed > 0 ? 'state-set-aside' : 'state-completed'}" />
      <dl class="numbers">
        <div><dt>Drops</dt><dd>${count(run.total)}</dd></div><div><dt>Completed</dt><dd>${count(run.done)}</dd></div>
        <div><dt>Failed</dt><dd>${count(run.failed)}</dd></div><div><dt>To do</dt><dd>${count(left)}</dd></div>
      </dl>
      <p>${explanation(run, left, unstarted)}</p>
      ${error && html`<${Failure} error=${error} />`}
      <p class="actions">
        ${isActive && html`<button type="button" onClick=${() => setCancelling(true)}>Cancel this replay…</button>`}
        ${run.state === 'paused' &&
          html`<button type="button" class="primary"
            onClick=${() => change('resume')}>Replay the other ${left === 1 ? 'drop' : plural(left, 'drop')}</button>`}
      </p>
    </div>
    ${
      cancelling &&
      isActive &&
      html`
      <${Dialog} title="Cancel this replay?" close=${() => setCancelling(false)}>
        <p>${plural(unstarted, 'drop')} will not be replayed and keep their state. Drops that were replayed already stay as
          they are now.</p>
        <p class="actions"><button type="button" onClick=${() => setCancelling(false)}>Keep it running</button>
          <button type="button" class="danger" onClick=${() => change('cancel')}>Cancel the replay</button></p>
      <//>`
    }`;
}

function explanation(run, left, unstarted) {
  if (run.state === 'running' && run.started === 0)
    return html`Recorded. The next sweep starts it: within five minutes in Azure, or at once with
      <code>vivadrop sweep</code>.`;
  if (run.state === 'running')
    return 'vivadrop replays the drops, a few at a time. You may close this page: the replay goes on.';
  if (run.state === 'paused')
    return run.failed > 0
      ? 'The first drop failed again. Remove its cause before you replay the others.'
      : `The first drop was replayed. ${plural(left, 'drop waits', 'drops wait')} for your decision.`;
  if (run.state === 'cancelled') return `Cancelled. ${plural(unstarted, 'drop was', 'drops were')} not replayed.`;
  return run.failed > 0
    ? 'Finished. The drops that failed again are among the groups of the view Drops.'
    : 'Finished. Every drop is completed.';
}
