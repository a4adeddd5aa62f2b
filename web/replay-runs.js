// The replay runs that have not ended, as a section of "Drops". Without such a run there is no section.
import { html } from './html.js';
import { apiPath } from './api.js';
import { plural } from './format.js';
import { FAST, SLOW, useResource } from './resource.js';
import { link } from './route.js';
import { RunState } from './replay.js';
import { Age, Bar, Section } from './ui.js';

/** The section. */
export function ReplayRuns() {
  const resource = useResource(apiPath(['replays']), ({ replays }) =>
    replays.some((run) => run.state === 'running') ? 2 * FAST : SLOW,
  );
  const active = (resource.data?.replays || []).filter((run) => ['running', 'paused'].includes(run.state));
  if (active.length === 0) return null;
  return html`
    <${Section} id="replays" title="Replays" resource=${resource}>
      <ul class="runs">${active.map(
        (run) => html`
        <li class="card" key=${run.id}>
          <${RunState} name=${run.state} />
          <a href=${link(['replay', run.id])}>${plural(run.done + run.failed, 'drop')} of ${run.total}</a>
          <span class="muted">started <${Age} at=${run.created} /></span>
          <${Bar} part=${run.done + run.failed} whole=${run.total} kind="state-completed" />
        </li>`,
      )}</ul>
    <//>`;
}
