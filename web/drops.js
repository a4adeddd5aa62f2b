// The view "Drops": what needs attention, the weeks of every tenant, and all drops.
import { html } from './html.js';
import { apiPath } from './api.js';
import { DropList } from './drop-list.js';
import { Groups } from './groups.js';
import { HeatMap } from './heat-map.js';
import { ReplayRuns } from './replay-runs.js';
import { FAST, SLOW, useResource } from './resource.js';

const WORKING = ['retrying', 'open', 'waiting'];

/** The view. Filters of the list are in the address; the groups and the weeks always show everything. */
export function Drops({ route }) {
  const groups = useResource(apiPath(['groups']), ({ groups, notes }) => {
    if (!notes) return FAST;
    return groups.some((group) => WORKING.includes(group.state)) ? 5 * FAST : SLOW;
  });
  const weeks = useResource(apiPath(['weeks'], { weeks: route.filters.weeks || '13' }));
  return html`
    <h1 tabindex="-1">Drops</h1>
    <${Groups} resource=${groups} />
    <${ReplayRuns} />
    <${HeatMap} resource=${weeks} filters=${route.filters} />
    <${DropList} filters=${route.filters} />`;
}
