// Calls of the HTTP API. `view` reads, `manage` changes; each of the two Azure functions has keys of its own.

/** The address that the functions have in common: `/api/`. */
const BASE = new URL('../', import.meta.url);

/** An answer that is not a success, with the members of its problem details; `status` is 0 if there was no answer. */
export class Problem extends Error {
  constructor(status, details = {}) {
    super(details.detail || details.title || `The server answered ${status}.`);
    this.status = status;
    this.mistakes = (details.errors || []).map((error) => ({
      place: error.pointer || error.field || '',
      text: error.detail,
    }));
  }
}

const keyName = (area) => `vivadrop.key.${area}`;

function keyOf(area) {
  return sessionStorage.getItem(keyName(area)) || sessionStorage.getItem(keyName('view'));
}

let ask = () => Promise.reject(new Problem(401));
const asking = new Map();

/** Registers the function that asks the operator for a key: `({ area, rejected }) => Promise<string>`. */
export function askForKeysWith(dialog) {
  ask = dialog;
}

/** Asks for a key, once for all calls that need it at the same time. */
async function replaceKey(area, rejected) {
  if (keyOf(area) !== rejected) return;
  if (!asking.has(area)) {
    const answer = ask({ area, rejected: Boolean(rejected) });
    asking.set(
      area,
      answer.finally(() => asking.delete(area)),
    );
  }
  const key = await asking.get(area);
  sessionStorage.setItem(keyName(area), key);
}

/**
 * Calls the API; asks for a key as often as the server answers 401, and then repeats the call. A read that is not `current`
 * may get an older state, which the server has at once. Returns `{ data, etag, age }`, where `age` is that of the state in
 * milliseconds; throws a `Problem` for any other answer.
 */
export async function call(area, path, { method = 'GET', body, headers = {}, signal, current = true } = {}) {
  for (;;) {
    const key = keyOf(area);
    const response = await send(`${area}/v1/${path}`, {
      method,
      body,
      signal,
      current,
      headers: { ...headers, ...(key && { 'x-functions-key': key }) },
    });
    if (response.status === 401) {
      await replaceKey(area, key);
      continue;
    }
    const data = await response.json().catch(() => ({}));
    if (!response.ok) throw new Problem(response.status, data);
    const age = Date.parse(response.headers.get('date')) - Date.parse(data.asOf);
    return { data, etag: response.headers.get('etag'), age };
  }
}

/** Exchanges the one-time token that `vivadrop page` printed for the key of this session; false if it is not valid. */
export async function exchangeToken(token) {
  const response = await send('page/session', { method: 'POST', body: { token }, headers: {} });
  if (!response.ok) return false;
  sessionStorage.setItem(keyName('view'), (await response.json()).key);
  return true;
}

/** Reads, as `useResource` does. */
export const view = (path, options) => call('view', path, options);

/** Changes something. */
export const manage = (method, path, body, headers) => call('manage', path, { method, body, headers });

/** A path of the API: segments are encoded, parameters without a value are left out. */
export function apiPath(segments, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return segments.map(encodeURIComponent).join('/') + (query ? `?${query}` : '');
}

async function send(path, { method, body, headers, signal, current = true }) {
  const options = {
    method,
    signal,
    // `default` leaves out the header `Cache-Control: no-cache`; the server forbids to store its answers.
    cache: current ? 'no-store' : 'default',
    credentials: 'omit',
    redirect: 'error',
    headers: { accept: 'application/json', ...(current && { 'cache-control': 'no-cache' }), ...headers },
  };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers['content-type'] = 'application/json';
  }
  try {
    return await fetch(new URL(path, BASE), options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, { detail: 'The server did not answer. The page shows the last state that it received.' });
  }
}
