// Reads an address of the API for a component, and reads it again while something there is running.
import { useCallback, useEffect, useRef, useState } from './html.js';
import { view } from './api.js';

/** How often a view reads again if nothing is running. */
export const SLOW = 60_000;

/** How often a view reads again while something is running. */
export const FAST = 2_000;

/**
 * The answer for `path`: `{ data, etag, error, busy, reload }`. `data` stays while the next answer is on its way, and after
 * an error. `interval(data)` is the time until the next read in milliseconds; a page in the background does not read.
 */
export function useResource(path, interval = () => SLOW) {
  const [answer, setAnswer] = useState({});
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((turn) => turn + 1), []);
  const latest = useRef(interval);
  latest.current = interval;

  useEffect(() => {
    if (path === null) return;
    const controller = new AbortController();
    setAnswer((old) => ({
      ...old,
      data: old.path === path ? old.data : old.data && { ...old.data, stale: true },
      busy: true,
    }));
    view(path, { signal: controller.signal }).then(
      ({ data, etag }) => controller.signal.aborted || setAnswer({ path, data, etag }),
      (error) => controller.signal.aborted || setAnswer((old) => ({ ...old, error, busy: false })),
    );
    return () => controller.abort();
  }, [path, turn]);

  useEffect(() => {
    if (answer.busy || answer.error?.status === 401 || (!answer.data && !answer.error)) return;
    const wait = answer.error ? SLOW / 4 : latest.current(answer.data);
    let timer = setTimeout(next, wait);
    function next() {
      if (document.hidden) document.addEventListener('visibilitychange', next, { once: true });
      else reload();
    }
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', next);
    };
  }, [answer, reload]);

  return { ...answer, busy: path !== null && (answer.busy ?? answer.path === undefined), reload };
}
