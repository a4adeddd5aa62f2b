// The page of one drop: its state and what to do, its rows, its files.
import { html } from './html.js';
import { apiPath } from './api.js';
import { count, plural } from './format.js';
import { FAST, SLOW, useResource } from './resource.js';
import { link } from './route.js';
import { MEANING, reasonWords } from './states.js';
import { Age, Answer, AsOf, Command, DropPath, Glyph, Limited, NextTry, Notice, Rows, State, Text } from './ui.js';

/** The view. Reads again every two seconds while a file is running. */
export function Drop({ route }) {
  const path = route.parts[0] || '';
  const resource = useResource(apiPath(['drop'], { path }), ({ drop }) => (isRunning(drop) ? FAST : SLOW));
  return html`
    <nav class="crumbs" aria-label="Path"><a href=${link(['drops'])}>Drops</a></nav>
    <div class="section-head"><h1 tabindex="-1">Drop</h1><${AsOf} resource=${resource} what="drop" /></div>
    <p class="lead"><${DropPath} path=${path} /></p>
    <${Answer} resource=${resource}>${({ drop }) => html`<${Details} drop=${drop} />`}<//>`;
}

/** Whether a run may work on the drop: not if it has ended, waits, or is tried again later. */
const isWorkedOn = ({ state, nextTry }) =>
  ['open', 'retrying'].includes(state) && !(nextTry && new Date(nextTry) > Date.now());

const isRunning = (drop) => isWorkedOn(drop) && drop.fileList.some((file) => file.state === 'running');

function Details({ drop }) {
  const { files } = drop;
  return html`
    <p class="badges"><${State} name=${drop.state} /> <span class="muted">since <${Age} at=${drop.since} /></span></p>
    ${drop.state !== 'completed' && html`<${WhatToDo} drop=${drop} />`}
    <dl class="numbers">
      <div class="grow"><dt>Rows</dt><dd><${Rows} rows=${drop.rows} expected=${drop.expectedRows} state=${drop.state} />
        </dd></div>
      <div><dt>Files</dt><dd>${files.total == null ? 'unknown' : `${count(files.done)} of ${count(files.total)} done`}
        ${files.setAside > 0 && `, ${count(files.setAside)} set aside`}</dd></div>
      <div><dt>Attempts</dt><dd>${count(drop.attempts ?? 0)}</dd></div>
      ${drop.nextTry && html`<div><dt>Next try</dt><dd><${NextTry} at=${drop.nextTry} /></dd></div>`}
      <div><dt>Tenant</dt><dd><a href=${link(['drops'], { tenant: drop.tenantId })}><code class="tenant">
        ${drop.tenantId}</code></a></dd></div>
    </dl>
    <section aria-labelledby="files">
      <h2 id="files">Files</h2>
      ${
        drop.fileList.length === 0
          ? html`<p class="placeholder">No file has been read yet.</p>`
          : html`
        <${Limited} items=${drop.fileList} first=${200} what="file">${(shown) => html`<${Files} files=${shown}
          worked=${isWorkedOn(drop)} />`}<//>`
      }
      ${drop.hasMoreFiles && html`<p class="note">The drop has more files; these are the first ones by name.</p>`}
    </section>
    <section aria-labelledby="commands">
      <h2 id="commands">On the command line</h2>
      <${Command} text=${`vivadrop status ${quoted(drop.path)}`} />
      ${drop.state === 'set-aside' && html`<${Command} text=${`vivadrop replay ${quoted(drop.path)}`} />`}
    </section>`;
}

/** A path as one argument of a shell. */
const quoted = (path) => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

function WhatToDo({ drop }) {
  return html`
    <${Notice} kind=${drop.state === 'set-aside' ? 'bad' : 'info'} glyph=${drop.state}>
      <p><strong>${drop.reason ? reasonWords(drop.reason) : MEANING[drop.state]}</strong>
        ${drop.reason && html` <code>${drop.reason}</code>`}</p>
      ${drop.message && html`<p class="message"><${Text} text=${drop.message} /></p>`}
      ${drop.remedy && html`<p><strong>What to do:</strong> <${Text} text=${drop.remedy} /></p>`}
      ${drop.state === 'set-aside' &&
        html`<p><a href=${link(['drops'], { tenant: drop.tenantId, state: drop.state, reason: drop.reason })}>Show drops
          with the same cause, to replay them</a></p>`}
    <//>`;
}

/** The states of a file in words, with the glyph and the colour of a state of drops. */
const FILE_STATES = {
  running: { word: 'Running', state: 'retrying' },
  stopped: { word: 'Not finished', state: 'open' },
  done: { word: 'Done', state: 'completed' },
  'set-aside': { word: 'Set aside', state: 'set-aside' },
};

function Files({ files, worked }) {
  return html`
    <table class="list files" role="table" aria-labelledby="files">
      <thead role="rowgroup"><tr role="row">
        ${['State', 'File', 'Rows', 'Changed', 'Problem'].map((title) => html`<th role="columnheader" scope="col">
          ${title}</th>`)}</tr></thead>
      <tbody role="rowgroup">${files.map((file) => {
        const name = file.state === 'running' && !worked ? 'stopped' : file.state;
        const { word, state } = FILE_STATES[name] || { word: name, state: 'unknown' };
        return html`
          <tr role="row" key=${file.name}>
            <td role="cell"><span class="badge state-${state}"><${Glyph} name=${state} />${word}</span></td>
            <td role="cell" class="path"><code>${file.name}</code></td>
            <td role="cell" class="tabular">${plural(file.nextRow ?? 0, 'row')}
              ${file.badRows > 0 && html`<div class="muted">${plural(file.badRows, 'bad row')}</div>`}
                ${file.attempts > 1 && html`<div class="muted">${plural(file.attempts, 'attempt')}</div>`}</td>
            <td role="cell" class="tabular"><${Age} at=${file.updated} /></td>
            <td role="cell">${file.reason && html`<div>${reasonWords(file.reason)}</div>`}
              ${file.message && html`<div class="message muted"><${Text} text=${file.message} /></div>`}</td>
          </tr>`;
      })}</tbody>
    </table>`;
}
