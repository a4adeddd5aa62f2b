// Reads an address of the API for a component, and reads it again while something there is running.
import { useCallback, useEffect, useRef, useState } from './html.js';
import { view } from './api.js';

/** How often a view reads again, in milliseconds, if nothing is running. */
export const SLOW = 60_000;

/** How often a view reads again, in milliseconds, while something is running. */
export const FAST = 2_000;

/** The age in milliseconds above which a state is labelled as old. */
const LABELLED_OLD_AFTER = 20_000;

/** The age in milliseconds from which the current state is read at once, because drops may have changed since. */
const REREAD_AFTER = 2_000;

/**
 * The answer for `path`: `{ data, etag, error, busy, old, reload }`. `data` stays while the next answer is on its way, and after
 * an error. `interval(data)` is the time until the next read in milliseconds; a page in the background does not read.
 *
 * The first answer may be an older state, so that a person need not wait for the current one; `old` is then true.
 */
export function useResource(path, interval = () => SLOW) {
  const [answer, setAnswer] = useState({});
  const [read, setRead] = useState({ turn: 0 });
  const reload = useCallback(() => setRead(({ turn }) => ({ turn: turn + 1, again: path })), [path]);
  const latest = useRef(interval);
  latest.current = interval;

  useEffect(() => {
    if (path === null) return;
    const controller = new AbortController();
    setAnswer((old) => ({ ...old, busy: true }));
    const current = read.again === path;
    view(path, { signal: controller.signal, current }).then(
      ({ data, etag, ...state }) => {
        const age = current ? 0 : state.age;
        const [old, reread] = [age > LABELLED_OLD_AFTER, age >= REREAD_AFTER];
        if (!controller.signal.aborted) setAnswer({ path, data, etag, old, reread });
      },
      // The answer for another address would contradict what the view shows beside it.
      (error) => controller.signal.aborted || setAnswer((old) => ({ ...(old.path === path && old), path, error, busy: false })),
    );
    return () => controller.abort();
  }, [path, read]);

  useEffect(() => {
    if (answer.busy || answer.error?.status === 401 || (!answer.data && !answer.error)) return;
    const wait = answer.error ? SLOW / 4 : answer.reread ? 0 : latest.current(answer.data);
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
