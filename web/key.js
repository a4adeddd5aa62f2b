// Asks for a function key when the server answers 401. The view stays, and its calls are repeated with the new key.
import { html, useEffect, useState } from './html.js';
import { askForKeysWith, exchangeToken, Problem } from './api.js';
import { Dialog } from './ui.js';

const IS_LOCAL = ['127.0.0.1', 'localhost', '[::1]'].includes(location.hostname);

/** Shows a dialog while calls wait for a key: one after another if they need different keys. */
export function KeyDialog() {
  const [requests, setRequests] = useState([]);
  useEffect(() => {
    askForKeysWith(
      ({ area, rejected }) =>
        new Promise((resolve, reject) => setRequests((all) => [...all, { area, rejected, resolve, reject }])),
    );
  }, []);
  const [request] = requests;
  if (!request) return null;
  const close = () => setRequests((all) => all.filter((other) => other !== request));
  const cancel = () => {
    close();
    request.reject(new Problem(401, { detail: 'A key is needed to read this.' }));
  };
  const submit = async (event) => {
    event.preventDefault();
    const key = new FormData(event.target).get('key').trim();
    if (!key) return;
    if (IS_LOCAL && (await exchangeToken(key).catch(() => false)))
      request.resolve(sessionStorage.getItem('vivadrop.key.view'));
    else request.resolve(key);
    close();
  };
  return html`
    <${Dialog} key=${request.area} title=${request.area === 'manage' ? 'Key for changes' : 'Key'} close=${cancel}>
      <form onSubmit=${submit}>
        ${request.rejected && html`<p class="notice bad"
          role="alert">The key was not accepted. It may have been renewed, or it does not
            allow ${request.area === 'manage' ? 'changes' : 'reading'}.</p>`}
        <label>Function key
          <input name="key" type="password" autocomplete="off" required spellcheck=${false} />
        </label>
        <p class="note">${
          IS_LOCAL
            ? html`Open the address that <code>vivadrop page</code> printed last, or paste the token at its end.`
            : html`In the Azure portal: Function App, function <code>${request.area}</code>, Function keys.`
        }
        This tab keeps the key until it is closed.</p>
        <p class="actions"><button type="button" onClick=${cancel}>Cancel</button>
          <button class="primary">Continue</button></p>
      </form>
    <//>`;
}
