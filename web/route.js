// The address of a view is the fragment of the URL: `#/drops?state=set-aside`. It never reaches a server or its log.
import { useEffect, useState } from './html.js';

/** The address of a view: its name and parts, then its filters. Empty filters are left out. */
export function link(parts, filters = {}) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${query ? `?${query}` : ''}`;
}

/** The view that a fragment names. */
export function parse(fragment) {
  const [path, query] = fragment.replace(/^#\/?/, '').split('?', 2);
  const parts = path.split('/').map(decode);
  return { view: parts[0] || 'drops', parts: parts.slice(1), filters: Object.fromEntries(new URLSearchParams(query)) };
}

/** Shows another view, with an entry in the browser's history. */
export function go(address) {
  location.hash = address;
}

/** Changes the address without an entry in the browser's history. */
export function replace(address) {
  history.replaceState(null, '', address);
  dispatchEvent(new HashChangeEvent('hashchange'));
}

/** The current view; renders again when it changes. */
export function useRoute() {
  const [fragment, setFragment] = useState(location.hash);
  useEffect(() => {
    const changed = () => setFragment(location.hash);
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return parse(fragment);
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
