// An HTTP server with the API of the operator's page, for states that the real binary cannot be brought into quickly.
// It keeps its state in memory; each test has a server of its own.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const web = new URL('../../web/', import.meta.url);
const TYPES = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  txt: 'text/plain; charset=utf-8',
};

/** Starts the server with `state`, as `world()` makes it. Tests may change `state` at any time. */
export async function startFixture(state) {
  const policy = (await readFile(new URL('content-security-policy.txt', web), 'utf8')).trim();
  const requests = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://fixture');
    const body = await text(request);
    requests.push({ method: request.method, path: url.pathname + url.search, body, headers: request.headers });
    const answer = (status, value, headers = {}) => {
      response.writeHead(status, {
        'content-type': status < 400 ? 'application/json' : 'application/problem+json',
        ...headers,
      });
      response.end(JSON.stringify(value));
    };
    const asset = /^\/api\/page\/?(.*)$/.exec(url.pathname);
    if (asset && asset[1] !== 'session') {
      const name = asset[1] || 'index.html';
      try {
        const bytes = await readFile(new URL(name, web));
        response.writeHead(200, {
          'content-type': TYPES[name.split('.').pop()],
          'content-security-policy': policy,
          'x-content-type-options': 'nosniff',
          'cache-control': 'no-cache',
        });
        return response.end(bytes);
      } catch {
        return answer(404, { title: 'Not found', status: 404 });
      }
    }
    if (asset) {
      if (state.token === null || JSON.parse(body).token !== state.token)
        return answer(401, { title: 'Unauthorized', status: 401 });
      state.token = null;
      return answer(200, { key: state.keys.view });
    }
    const [, area, rest] = /^\/api\/(view|manage)\/v1\/(.*)$/.exec(url.pathname) || [];
    if (!area) return answer(404, { title: 'Not found', status: 404 });
    if (state.keys[area] !== undefined && request.headers['x-functions-key'] !== state.keys[area])
      return answer(401, { title: 'Unauthorized', status: 401 });
    const parts = rest.split('/').map(decodeURIComponent);
    await route(state, {
      method: request.method,
      area,
      parts,
      query: url.searchParams,
      body: body ? JSON.parse(body) : null,
      headers: request.headers,
      answer,
      asOf: await asOf(state, request),
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return {
    origin,
    page: `${origin}/api/page`,
    state,
    requests,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(resolve);
      }),
  };
}

/** Reads a request body. */
async function text(stream) {
  let body = '';
  for await (const chunk of stream) body += chunk;
  return body;
}

const now = () => new Date().toISOString();

/**
 * The time of an answer. With `state.age`, a request that does not ask for the current state gets an older one, and one that
 * does waits until the promise `state.listed` is fulfilled.
 */
async function asOf(state, request) {
  if (request.headers['cache-control'] !== 'no-cache') return new Date(Date.now() - (state.age || 0)).toISOString();
  await state.listed;
  return now();
}

/** Problem details as in RFC 9457. */
const problem = (status, detail, errors) => ({
  type: 'about:blank',
  title: detail,
  status,
  detail,
  ...(errors && { errors }),
});

/** Answers a request to the API, and changes `state` as it asks. */
async function route(state, { method, area, parts, query, body, headers, answer, asOf }) {
  const [first, id, action] = parts;
  const missing = () => answer(404, problem(404, `There is no ${first} with this name.`));
  if (area === 'view') {
    switch (first) {
      case 'groups':
        return answer(200, { asOf, groups: state.groups, notes: state.notes });
      case 'weeks':
        return answer(200, { asOf, ...state.weeks(Number(query.get('weeks') || 26)) });
      case 'customers':
        return answer(200, { asOf, customers: state.customers });
      case 'drops':
        return answer(200, {
          asOf,
          omitted: state.omitted ?? 0,
          ...page(
            state.drops.filter((drop) => matches(drop, query)),
            query,
          ),
        });
      case 'drop': {
        const drop = state.drops.find((drop) => drop.path === query.get('path'));
        return drop
          ? answer(200, {
              asOf,
              drop: { ...drop, fileList: state.files[drop.path] || [], hasMoreFiles: false },
            })
          : missing();
      }
      case 'replays': {
        if (!id) return answer(200, { asOf, replays: [...state.replays.values()] });
        const run = state.replays.get(id);
        if (!run) return missing();
        state.advance?.(run);
        return answer(200, { asOf, ...run }, { etag: `"${run.updated}"` });
      }
      case 'attributes': {
        if (!id)
          return answer(200, {
            asOf,
            tenants: [...state.attributes].map(([tenantId, tenant]) => ({
              tenantId,
              revision: tenant.revision,
              attributes: tenant.definitions?.attributes.length || 0,
              programs: tenant.definitions?.programs.length || 0,
              problems: tenant.problems.length,
              failing: Boolean(tenant.failing),
              failedImports: tenant.imports.filter((each) => each.state === 'failed').length,
            })),
          });
        const tenant = state.attributes.get(id);
        if (!tenant) return missing();
        return answer(
          200,
          { asOf, tenantId: id, ...tenant, catalogue: state.catalogue },
          tenant.definitions ? { etag: `"${tenant.revision}"` } : {},
        );
      }
    }
    return missing();
  }
  if (first === 'plans' && method === 'POST') {
    if (Object.keys(body).length === 0) return answer(400, problem(400, 'The filter is empty.'));
    const drops = state.drops.filter(
      (drop) =>
        drop.path &&
        ['tenant', 'state', 'reason'].every(
          (name) => !body[name] || body[name] === drop[name === 'tenant' ? 'tenantId' : name],
        ),
    );
    const plan = {
      id: `plan-${state.plans.size + 1}`,
      created: now(),
      filter: body,
      drops: drops.map(({ path, tenantId, state, reason, rows }) => ({ path, tenantId, state, reason, rows })),
      counts: { drops: drops.length, rowsDelivered: drops.reduce((sum, drop) => sum + drop.rows, 0) },
    };
    state.plans.set(plan.id, plan);
    return answer(201, plan);
  }
  if (first === 'replays' && method === 'POST') {
    if (!id) {
      const plan = state.plans.get(body.plan);
      const run = {
        id: `run-${state.replays.size + 1}`,
        plan: plan.id,
        state: 'running',
        total: plan.counts.drops,
        first: body.first ?? null,
        started: 0,
        done: 0,
        failed: 0,
        created: now(),
        updated: now(),
      };
      state.replays.set(run.id, run);
      return answer(202, run);
    }
    const run = state.replays.get(id);
    if (headers['if-match'] !== `"${run.updated}"`) return answer(412, problem(412, 'The replay has changed.'));
    run.state = action === 'cancel' ? 'cancelled' : 'running';
    run.first = null;
    run.updated = now();
    return answer(202, run);
  }
  if (first === 'attributes' && method === 'PUT') {
    const tenant = state.attributes.get(id);
    const current = tenant.definitions ? `"${tenant.revision}"` : null;
    const given = headers['if-match'] || headers['if-none-match'];
    if (!given) return answer(428, problem(428, 'If-Match is missing.'));
    if (headers['if-match'] ? headers['if-match'] !== current : current !== null)
      return answer(412, problem(412, 'The definitions were changed by somebody else.'));
    const mistakes = mistakesOf(body);
    if (mistakes.length > 0) return answer(400, problem(400, 'The definitions are not valid.', mistakes));
    const consequences = consequencesOf(tenant.definitions, body);
    if (query.get('dryRun') !== 'true') {
      tenant.definitions = body;
      tenant.revision = (tenant.revision || 0) + 1;
    }
    return answer(200, { revision: tenant.revision, consequences }, { etag: `"${tenant.revision}"` });
  }
  if (first === 'imports' && method === 'POST') {
    state.imported.push(body);
    return answer(202, {});
  }
  return missing();
}

/** Whether a drop passes the filters in the query. */
function matches(drop, query) {
  const fields = { tenant: 'tenantId', state: 'state', reason: 'reason', week: 'week' };
  return Object.entries(fields).every(([name, field]) => !query.get(name) || drop[field] === query.get(name));
}

/** One page of a list of drops; the cursor is the position of its first drop. */
function page(drops, query) {
  const limit = Number(query.get('limit') || 100);
  const from = Number(query.get('cursor') || 0);
  return {
    drops: drops.slice(from, from + limit).map(({ week, ...drop }) => drop),
    next: from + limit < drops.length ? String(from + limit) : null,
  };
}

/** The mistakes in definitions. Only a name that is used twice is noticed. */
function mistakesOf(definitions) {
  const names = new Set();
  return definitions.attributes.flatMap(({ name }, at) => {
    const isKnown = names.has(name);
    names.add(name);
    return isKnown ? [{ pointer: `/attributes/${at}/name`, detail: `another attribute is named \`${name}\`` }] : [];
  });
}

/** Sentences that say what a change of definitions sends and imports again. */
function consequencesOf(before, after) {
  const old = new Map((before?.attributes || []).map((attribute) => [attribute.name, attribute]));
  const sentences = [];
  for (const attribute of after.attributes) {
    if (JSON.stringify(old.get(attribute.name)?.max) !== JSON.stringify(attribute.max) || !old.has(attribute.name))
      sentences.push(`${attribute.name}: imports Engagement Oct again`);
    old.delete(attribute.name);
  }
  for (const name of old.keys()) sentences.push(`${name}: sends that it was deleted`);
  return sentences;
}
