// The page: header, navigation and the current view.
import { html, render, useEffect, useErrorBoundary, useRef } from './html.js';
import { exchangeToken } from './api.js';
import { KeyDialog } from './key.js';
import { link, useRoute } from './route.js';
import { Failure, StatusLine } from './ui.js';
import { Drops } from './drops.js';
import { Drop } from './drop.js';
import { Replay } from './replay.js';
import { Attributes } from './attributes.js';
import { Customers } from './customers.js';

/** The views, by the first part of their address: title, entry of the navigation, component. */
const VIEWS = {
  drops: { title: 'Drops', tab: 'drops', component: Drops },
  drop: { title: 'Drop', tab: 'drops', component: Drop },
  replay: { title: 'Replay', tab: 'drops', component: Replay },
  attributes: { title: 'Attributes', tab: 'attributes', component: Attributes },
  customers: { title: 'Customers', tab: 'customers', component: Customers },
};

const TABS = ['drops', 'attributes', 'customers'];

function App() {
  const route = useRoute();
  const view = VIEWS[route.view] || VIEWS.drops;
  const main = useRef();
  const first = useRef(true);
  const address = [route.view, ...route.parts].join('/');
  // Screen readers announce the heading of a new view. Filters do not move the focus.
  useEffect(() => {
    if (first.current) first.current = false;
    else {
      (main.current.querySelector('h1') || main.current).focus();
      scrollTo(0, 0);
    }
    document.title = `${view.title} · vivadrop`;
  }, [address]);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header>
      <div class="header-inner">
        <a class="brand" href=${link(['drops'])}>
          <img src="/api/page/icon.svg" alt="" width="24" height="24" />vivadrop</a>
        <nav aria-label="Views">
          ${TABS.map((tab) => html`<a href=${link([tab])} aria-current=${view.tab === tab ? 'page' : undefined}>
            ${VIEWS[tab].title}</a>`)}
        </nav>
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1">
      <${View} key=${view === VIEWS.attributes ? 'attributes' : address} view=${view} route=${route} />
    </main>
    <${StatusLine} />
    <${KeyDialog} />`;
}

/** A view. An answer that it cannot show, such as one of a newer version, does not take the navigation away. */
function View({ view, route }) {
  const [error, retry] = useErrorBoundary((error) => console.error(error));
  if (error)
    return html`<h1 tabindex="-1">${view.title}</h1>
      <${Failure} error=${new Error('This view cannot be shown. Reload the page; the browser console has the error.')}
        retry=${retry} />`;
  return html`<${view.component} route=${route} />`;
}

/** The one-time token that `vivadrop page` adds to the address. */
const tokenInAddress = () => /^#token=([^&]+)$/.exec(location.hash)?.[1];

// A browser does not load the page anew if only this part of its address changes.
addEventListener('hashchange', () => tokenInAddress() && location.reload());

/** Opens the page with the token in the address, if there is one, and removes it from the address. */
async function start() {
  const token = tokenInAddress();
  if (token) {
    history.replaceState(null, '', link(['drops']));
    await exchangeToken(decodeURIComponent(token)).catch(() => false);
  }
  const app = document.getElementById('app');
  app.textContent = '';
  render(html`<${App} />`, app);
}

start();
