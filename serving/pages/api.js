// The few calls of Freshet's API that the page needs. An unreachable server and a refusal are different errors.

const TIMEOUT_MS = 8000;

export class LostError extends Error {}

export class RefusedError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `status ${status}`);
    this.status = status;
  }
}

// A server that asks for API keys: one is given to this tab in the address (`/#key=...`) or when the page is refused.
const KEY = "freshet-key";
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search); // out of the address, and out of sight
}
let declined = false;

/** Ask for a key after one (or none) was refused; return whether there is another one to try. */
function askForKey(refused) {
  if (!declined && sessionStorage.getItem(KEY) === refused) {
    const typed = prompt("This server asks for an API key (with the scopes read and ingest):")?.trim();
    if (typed) sessionStorage.setItem(KEY, typed);
    else declined = true;
  }
  return sessionStorage.getItem(KEY) !== refused;
}

async function call(method, path, { query = {}, body } = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") parameters.append(name, one);
    }
  }
  const search = parameters.toString();
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(search ? `${path}?${search}` : path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw new LostError(error.name === "TimeoutError" ? "it takes too long" : "it does not answer", { cause: error });
  }
  if (answer.status === 401 && askForKey(key)) return call(method, path, { query, body });
  const told = await answer.json().catch((error) => {
    throw new LostError(`its answer (${answer.status}) is no JSON`, { cause: error });
  });
  if (!answer.ok) throw new RefusedError(answer.status, told);
  return told;
}

const segment = encodeURIComponent;

export const description = () => call("GET", "/openapi.json");
export const ready = () => call("GET", "/health/ready");
export const item = (id) => call("GET", `/v1/items/${segment(id)}`);
export const user = (id) => call("GET", `/v1/users/${segment(id)}`);
export const metrics = (query) => call("GET", "/v1/metrics", { query });
export const list = (path, query) => call("GET", path, { query });
export const feedback = (id, body) => call("POST", `/v1/users/${segment(id)}/feedback`, { body });

/** Post one event; it is refused as a whole when it is not taken. */
export async function event(body) {
  const told = await call("POST", "/v1/events", { body: { events: [body] } });
  if (told.rejected?.length) throw new RefusedError(400, { detail: told.rejected[0].error });
  return told;
}

/** Open a live list, or null where a key is asked for: the browser's event source cannot send one. */
export function live(id, query, show) {
  if (sessionStorage.getItem(KEY)) return null;
  const parameters = new URLSearchParams(Object.entries(query).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).filter((one) => one !== "").map((one) => [name, one])));
  const source = new EventSource(`${paths.home(id)}/live?${parameters}`);
  source.addEventListener("list", (event) => show(JSON.parse(event.data)));
  return source;
}

export const paths = {
  home: (id) => `/v1/users/${segment(id)}/recommendations`,
  similar: (id) => `/v1/items/${segment(id)}/similar`,
  popular: () => "/v1/popular",
  trending: () => "/v1/trending",
  search: () => "/v1/search",
};

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
