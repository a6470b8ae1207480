// The storefront: who is looking, which lists are shown, and what a click sets in motion.

import * as api from "./api.js";
import { FEEDBACK, titleOf } from "./cards.js";
import { inventedName, make, uniqueId } from "./elements.js";
import { ProfilePanel } from "./profile.js";
import { Row } from "./rows.js";

const N_HOME = 10;
const N_SHELF = 12;
const N_GENRES = 12;
const FIRST_LOOK_MS = 12;
const LONGEST_PAUSE_MS = 400;
const GIVE_UP_MS = 6000;
const RETRY_MS = [300, 600, 1200, 2500, 5000];
const MAX_VISITED = 8;
const PROBED = [..."0123456789".split("").map((n) => `sim-u${n}`), "sim-u12", "anna", "u1", "u2", "1", "2", "3", "5", "8", "13"];
const DONE = { click: "You clicked", like: "You like", dislike: "You dislike", save: "You saved", hide: "You hid" };
const TAKEN_BACK = { like: "like of", dislike: "dislike of", save: "saving", hide: "hiding" };

const OWN_EFFECT_MS = 3000; // for so long after an action here, what comes by itself is its effect
const FILTERS = ["since", "price", "expression"];
const CHOSEN = new Set(["click", "like", "save"]);

const $ = (id) => document.getElementById(id);
const session = uniqueId().slice(0, 12);
const items = new Map(); // id -> item, as far as this page has seen it
const state = { user: "", genres: [], seen: false, since: "", price: "", expression: "", anchor: null, known: nothingSaid(), query: "", undoable: null, surfaces: new Set() };
let turn = 0; // counts visitors and filters: what was asked for an earlier one is not shown
let acted = -Infinity; // when, by performance.now()
let live = null;
let queue = Promise.resolve(); // one action after the other, so that each shows its own effect

const rows = {
  home: new Row({ id: "home", wide: true }, act),
  search: new Row({ id: "found" }, act),
  because: new Row({ id: "because" }, act),
  similar: new Row({ id: "similar" }, act),
  trending: new Row({ id: "trending" }, act),
  popular: new Row({ id: "popular" }, act),
};
const panel = new ProfilePanel($("profile-body"), { named, undo: (kind, item) => enqueue(() => takeBack(kind, item, state.user)) });

function nothingSaid() {
  return Object.fromEntries(FEEDBACK.map((kind) => [kind, new Set()]));
}

// Lists

const common = () => ({ genre: state.genres, released_after: state.since, price_max: state.price, filter: state.expression,
  seen: state.seen ? "show" : "hide", session_id: session });

const lists = {
  home: () => api.list(api.paths.home(state.user), { ...common(), limit: N_HOME }),
  search: () => api.list(api.paths.search(), { ...common(), seen: "show", q: state.query, user_id: state.user, limit: N_SHELF }),
  because: () => api.list(api.paths.home(state.user), { ...common(), surface: "because", item: state.anchor.item_id, limit: N_SHELF }),
  similar: () => api.list(api.paths.similar(state.anchor.item_id), { ...common(), user_id: state.user, limit: N_SHELF }),
  trending: () => api.list(api.paths.trending(), { ...common(), user_id: state.user, limit: N_SHELF, window: "1d" }),
  popular: () => api.list(api.paths.popular(), { ...common(), user_id: state.user, limit: N_SHELF }),
};
const titles = {
  home: () => ["For you", "ranked for this visitor, now"],
  search: () => [`Found for “${state.query}”`, ""],
  because: () => [`Because you chose ${titleOf(state.anchor)}`, "what goes with it, in the order of your taste"],
  similar: () => [`Like ${titleOf(state.anchor)}`, "whoever is looking"],
  trending: () => ["Trending", "most activity of the last day"],
  popular: () => ["Popular", "what most people take these days"],
};

function wanted(name) {
  if (name === "similar" || name === "because") return state.anchor !== null;
  if (name === "search") return state.query !== "";
  return true;
}

/** Fetch lists and show each as soon as it is there; return what changed, by name. */
async function refresh(names, mark) {
  const asked = turn;
  const changed = {};
  const degraded = {};
  await Promise.all(names.map(async (name) => {
    if (!wanted(name)) {
      rows[name].section.hidden = true;
      return;
    }
    const answer = await lists[name]();
    if (asked !== turn) return;
    for (const item of answer.items) items.set(item.item_id, item);
    Object.assign(degraded, answer.degraded);
    const [title, hint] = titles[name]();
    changed[name] = { ...rows[name].show(answer, { title, hint, mark, known: state.known }), server: answer.timing_ms?.total };
  }));
  if (asked === turn && names.includes("home")) tellDegraded(degraded);
  return changed;
}

/** Show what the visitor does elsewhere, in another tab or on another device, without being asked. */
function followLive() {
  live?.close();
  const asked = turn;
  live = api.live(state.user, { ...common(), limit: N_HOME }, (answer) => enqueue(async () => {
    const ids = answer.items.map((item) => item.item_id);
    if (asked !== turn || performance.now() - acted < OWN_EFFECT_MS || ids.join() === rows.home.ids.join()) return;
    for (const item of answer.items) items.set(item.item_id, item);
    const [title, hint] = titles.home();
    rows.home.show(answer, { title, hint, mark: true, known: state.known });
    await readUser();
    say("The list has changed by itself: something was done elsewhere.");
  }));
}

async function readUser() {
  const asked = turn;
  const user = await api.user(state.user);
  if (asked === turn) await showUser(user);
  return user;
}

async function showUser(user) {
  state.known = { like: new Set(user.liked), dislike: new Set(user.disliked), save: new Set(user.saved), hide: new Set(user.hidden) };
  for (const row of Object.values(rows)) row.press(state.known);
  await panel.show(user);
}

async function named(ids) {
  const missing = [...new Set(ids)].filter((id) => !items.has(id));
  await Promise.all(missing.map(async (id) => {
    try {
      items.set(id, await api.item(id));
    } catch (error) {
      if (!(error instanceof api.RefusedError)) throw error;
      items.set(id, { item_id: id, title: "", genres: [] }); // known from events only
    }
  }));
  return new Map(ids.map((id) => [id, items.get(id)]));
}

// Actions

function act(kind, node) {
  acted = performance.now();
  const { item, slate } = node;
  const { user } = state;
  const pressed = kind !== "click" && state.known[kind].has(item.item_id);
  enqueue(() => (pressed ? takeBack(kind, item, user) : send(kind, item, slate, user)));
}

function enqueue(action) {
  queue = queue.then(async () => {
    document.body.classList.add("busy");
    try {
      await action();
    } catch (error) {
      await trouble(error);
    } finally {
      document.body.classList.remove("busy");
    }
  }).catch((error) => {
    say(`This page has failed: ${error.message}. Loading it again helps.`);
    reportError(error);
  });
}

async function send(kind, item, slate, user) {
  const started = performance.now();
  const body = { item_id: item.item_id, type: kind, event_id: uniqueId(), session_id: session, ...slate };
  if (kind === "click") {
    const ts = Date.now();
    await api.event({ ...body, user_id: user, ts });
    const told = performance.now() - started;
    const knows = await contains(user, ({ recent }) => recent.some((step) => step.item_id === item.item_id && step.ts >= ts));
    await afterwards(kind, item, user, started, { told, knows });
  } else {
    await api.feedback(user, body);
    await afterwards(kind, item, user, started, { told: performance.now() - started, knows: true });
  }
}

async function takeBack(kind, item, user) {
  const started = performance.now();
  await api.feedback(user, { item_id: item.item_id, type: "undo", value: kind, event_id: uniqueId(), session_id: session });
  await afterwards("undo", item, user, started, { told: performance.now() - started, knows: true, what: kind });
}

/** Wait until the user's profile holds what was sent: asked more and more rarely, and not for ever. */
async function contains(user, isIn) {
  const started = performance.now();
  let pause = FIRST_LOOK_MS;
  while (performance.now() - started < GIVE_UP_MS) {
    await api.pause(pause);
    if (isIn(await api.user(user))) return true;
    pause = Math.min(LONGEST_PAUSE_MS, pause * 1.5);
  }
  return false;
}

async function afterwards(kind, item, user, started, { told, knows, what }) {
  if (user !== state.user) return; // another visitor is looking by now
  acted = performance.now();
  remember();
  if (CHOSEN.has(kind)) state.anchor = item;
  const first = await refresh(["home"], true);
  if (!first.home) return; // other filters were chosen meanwhile
  const took = performance.now() - started;
  const { fresh, up, server } = first.home;
  const effect = [fresh && `${fresh} new`, up && `${up} moved up`].filter(Boolean).join(", ") || "the list stays as it is";
  const steps = [`event taken after ${told.toFixed(0)} ms`, server && `ranked in ${server.toFixed(1)} ms on the server`].filter(Boolean).join(" · ");
  const late = knows ? "" : " The flows are behind: this click is not in the list yet.";
  const done = what ? `You took back the ${TAKEN_BACK[what]}` : DONE[kind];
  say(`${done} ${titleOf(item)}. For you: ${effect}.${late}`, { took, steps });
  state.undoable = FEEDBACK.includes(kind) ? { kind, item } : null;
  $("undo").hidden = state.undoable === null;
  await Promise.all([refresh(["because", "similar", "trending", "popular"], true), readUser()]);
}

function say(text, { took, steps = "" } = {}) {
  $("said").textContent = text;
  $("said-more").textContent = steps;
  $("took").hidden = took === undefined;
  if (took !== undefined) {
    $("took-ms").textContent = took.toFixed(0);
    $("pulse").classList.remove("beat");
    void $("pulse").offsetWidth; // starts the animation anew
    $("pulse").classList.add("beat");
  }
}

// Trouble

function tellDegraded(degraded) {
  const parts = Object.entries(degraded);
  $("degraded").hidden = parts.length === 0;
  $("degraded").textContent = parts.length
    ? `Freshet answers with what it has left. ${parts.map(([part, why]) => `${part}: ${why}`).join("; ")}.`
    : "";
}

/** Say what went wrong; when the server is lost, ask until it is back and show everything anew. */
async function trouble(error) {
  if (error instanceof api.RefusedError) {
    say(`Refused: ${error.message}`);
    return;
  }
  if (!(error instanceof api.LostError)) throw error;
  $("lost").hidden = false;
  for (let n = 0; ; n++) {
    $("lost").textContent = `The server is lost: ${error.message}. Trying again…`;
    await api.pause(RETRY_MS[Math.min(n, RETRY_MS.length - 1)]);
    try {
      if (!(await api.ready()).ready) continue;
      await load();
      break;
    } catch (again) {
      if (!(again instanceof api.LostError || again instanceof api.RefusedError)) throw again;
    }
  }
  $("lost").hidden = true;
  say("The server is back.");
}

// Who is looking

function remember() {
  const visited = [state.user, ...visitors().filter((id) => id !== state.user)].slice(0, MAX_VISITED);
  localStorage.setItem("freshet-visitors", JSON.stringify(visited));
}

function visitors() {
  return JSON.parse(localStorage.getItem("freshet-visitors") ?? "[]");
}

function become(user) {
  turn += 1;
  Object.assign(state, { user, anchor: null, known: nothingSaid(), undoable: null });
  $("undo").hidden = true;
  begin(`Hello, ${user}.`, "push");
}

function begin(greeting, how) {
  $("user").value = state.user;
  for (const chip of $("people").querySelectorAll("button")) chip.setAttribute("aria-pressed", String(chip.dataset.id === state.user));
  address(how);
  enqueue(async () => {
    await load();
    say(greeting);
  });
}

function address(how) {
  const place = new URL(location.href);
  place.search = new URLSearchParams([["user", state.user], ...state.genres.map((genre) => ["genre", genre]), ...FILTERS.filter((name) => state[name]).map((name) => [name, state[name]]), ...(state.seen ? [["seen", "show"]] : [])]).toString();
  if (place.href !== location.href) history[how === "push" ? "pushState" : "replaceState"](null, "", place);
}

function readAddress() {
  const told = new URLSearchParams(location.search);
  state.user = told.get("user")?.trim() || inventedName();
  state.genres = told.getAll("genre");
  state.seen = told.get("seen") === "show";
  for (const name of FILTERS) $(name).value = state[name] = told.get(name) ?? "";
  $("narrow").open = FILTERS.some((name) => state[name]);
  $("seen").checked = state.seen;
}

async function load() {
  await readUser();
  await refresh(Object.keys(rows), false);
  followLive();
  if (!rows.home.ids.length && !state.genres.length && !FILTERS.some((name) => state[name])) await whileEmpty();
  await offerGenres();
}

async function whileEmpty() {
  say("The catalogue is still empty: lists appear with its first items.");
  const asked = turn;
  while (asked === turn && !rows.home.ids.length) {
    await api.pause(1000);
    await refresh(Object.keys(rows), false);
  }
}

// Filters, people, search

async function offerGenres() {
  if (!offerGenres.known) {
    const counts = new Map();
    for (const item of (await api.list(api.paths.popular(), { limit: 100 })).items) {
      for (const genre of item.genres) counts.set(genre, (counts.get(genre) ?? 0) + 1);
    }
    offerGenres.known = [...counts].sort((a, b) => b[1] - a[1]).slice(0, N_GENRES).map(([genre]) => genre).sort();
  }
  const genres = [...new Set([...offerGenres.known, ...state.genres])];
  const chips = ["", ...genres].map((genre) => {
    const chip = make("button", { type: "button" }, genre || "All");
    chip.dataset.genre = genre;
    chip.addEventListener("click", () => choose(genre));
    return chip;
  });
  const focus = document.activeElement?.dataset?.genre;
  $("genres").hidden = genres.length === 0;
  $("genres").replaceChildren(...chips);
  pressGenres();
  if (focus !== undefined) chips.find((chip) => chip.dataset.genre === focus)?.focus({ preventScroll: true });
}

function pressGenres() {
  for (const chip of $("genres").children) {
    const on = chip.dataset.genre ? state.genres.includes(chip.dataset.genre) : !state.genres.length;
    chip.setAttribute("aria-pressed", String(on));
  }
}

function choose(genre) {
  if (!genre) state.genres = [];
  else if (state.genres.includes(genre)) state.genres = state.genres.filter((one) => one !== genre);
  else state.genres = [...state.genres, genre];
  filtered(state.genres.length ? `Only ${state.genres.join(" or ")}.` : "All genres.");
}

function narrow() {
  for (const name of FILTERS) state[name] = $(name).value.trim();
  filtered(FILTERS.some((name) => state[name]) ? "Only what passes these filters." : "All items.");
}

function filtered(told) {
  turn += 1;
  pressGenres();
  address("replace");
  enqueue(async () => {
    await refresh(Object.keys(rows), false);
    followLive();
    say(told);
  });
}

/** Offer people of whom something is known: some that data sets and the simulator have, and earlier visitors. */
async function offerPeople() {
  const found = await Promise.all([...new Set([...visitors(), ...PROBED])].map((id) => api.user(id)));
  const people = found.filter((user) => user.recent.length).slice(0, 3);
  if (!people.length) return;
  const chips = people.map((user) => {
    const taste = Object.entries(user.affinity).filter(([, weight]) => weight > 0).slice(0, 2).map(([genre]) => genre).join(", ");
    const chip = make("button", { type: "button" }, make("strong", {}, user.user_id), taste ? ` likes ${taste}` : "");
    chip.dataset.id = user.user_id;
    chip.setAttribute("aria-pressed", String(user.user_id === state.user));
    chip.addEventListener("click", () => become(user.user_id));
    return chip;
  });
  $("people").replaceChildren(make("span", {}, "Or be somebody Freshet knows:"), ...chips);
  $("people").hidden = false;
}

async function readDescription() {
  const { paths } = await api.description();
  const parameters = paths["/v1/search"]?.get?.parameters ?? [];
  $("search").hidden = !parameters.some((parameter) => parameter.name === "q");
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = $("user").value.trim();
  if (user) become(user);
});
$("new-visitor").addEventListener("click", () => become(inventedName()));
$("seen").addEventListener("change", () => {
  state.seen = $("seen").checked;
  filtered(state.seen ? "Items that you have seen stay in the lists." : "Items that you have seen leave the lists.");
});
$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  narrow();
});
$("filter").addEventListener("reset", () => setTimeout(narrow)); // when the fields are empty
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  state.query = $("query").value.trim();
  enqueue(() => refresh(["search"], false));
});
$("undo").addEventListener("click", () => {
  const last = state.undoable;
  if (last) enqueue(() => takeBack(last.kind, last.item, state.user));
});
addEventListener("popstate", () => {
  turn += 1;
  readAddress();
  Object.assign(state, { anchor: null, known: nothingSaid(), undoable: null });
  begin(`Hello, ${state.user}.`, "replace");
});

$("rows-first").append(rows.search.section, rows.home.section);
$("rows").append(rows.because.section, rows.similar.section, rows.trending.section, rows.popular.section);
readAddress();
begin(`Hello, ${state.user}. Click something you like.`, "replace");
enqueue(offerPeople);
enqueue(readDescription);
