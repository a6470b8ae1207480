// The dashboard: asks for one small answer again and again, and shows it.

import * as api from "./api.js";
import { Chart, clock, told } from "./charts.js";
import { make } from "./elements.js";

const EVERY_MS = { "1h": 2000, "6h": 5000, "24h": 15000, "7d": 30000 };
const byId = (id) => document.getElementById(id);

// `part`: compared by surface, arm, ...; else lines of the whole.
const CHARTS = [
  { id: "ctr", title: "Click-through rate", metric: "ctr", part: true },
  { id: "slates", title: "Lists shown", metric: "slates", part: true },
  { id: "watch", title: "Time watched per list", metric: "watch_s_per_list", part: true },
  { id: "mrr", title: "How high positives stood", metric: "mrr", part: true },
  { id: "saves", title: "Saves per item shown", metric: "save_rate", part: true },
  { id: "hides", title: "Hides and dislikes per item shown", metric: "hide_rate", part: true },
  { id: "events", title: "Events and rejects", lines: [["events", "events"], ["rejected", "rejected"]] },
  { id: "labels", title: "What the ranker is told", lines: [["positives", "positive labels"]] },
  { id: "shown", title: "Different items shown", lines: [["items_shown", "items"]] },
  { id: "gini", title: "Evenness of exposure (Gini)", lines: [["gini", "gini"]] },
  { id: "scores", title: "Scores of shown items", lines: [["score_p90", "90 % are below"], ["score_p50", "median"], ["score_p10", "10 % are below"]] },
  { id: "degraded", title: "Lists not made as declared", lines: [["degraded_share", "degraded"]] },
];
const TILES = [
  ["events", "Events"], ["slates", "Lists shown"], ["ctr", "Click-through rate"], ["watch_s_per_list", "Watched per list"],
  ["items_shown", "Items shown"], ["degraded_share", "Degraded lists"], ["rejected", "Rejected"],
];

const charts = new Map();
let timer;
let asked = 0;
let before;

function wanted() {
  const form = new FormData(byId("wanted"));
  return { range: form.get("range"), surface: form.get("surface") ?? "", by: form.get("by") ?? "arm" };
}

async function refresh() {
  clearTimeout(timer);
  const number = ++asked;
  const query = wanted();
  try {
    const answer = await api.metrics(query);
    if (number !== asked) return; // something else is wanted by now
    byId("lost").hidden = true;
    show(answer, query);
  } catch (error) {
    if (number !== asked) return;
    byId("lost").hidden = false;
    byId("lost").textContent = error instanceof api.LostError ? `The server is away: ${error.message}. Trying again.` : `No numbers: ${error.message}`;
  }
  schedule(query.range);
}

function schedule(range) {
  if (byId("pause").getAttribute("aria-pressed") === "true" || document.hidden) return;
  timer = setTimeout(refresh, EVERY_MS[range]);
}

function show(answer, query) {
  byId("degraded").hidden = !answer.degraded;
  byId("degraded").textContent = answer.degraded ? Object.values(answer.degraded).join("; ") : "";
  if (!answer.starts.length) return;
  const windows = { 60000: "a minute", 300000: "five minutes", 3600000: "an hour" }[answer.width];
  byId("status").textContent = `As of ${new Date(answer.now).toLocaleTimeString("en-GB")}, in windows of ${windows}`;
  choices(answer.choices, query);
  tiles(answer);
  for (const declared of CHARTS) draw(declared, answer, query);
  timings(answer.timings);
  flows(answer.flows, answer.now);
  model(answer.model, answer.now);
}

function draw(declared, answer, query) {
  const metric = declared.metric ?? declared.lines[0][0];
  const { unit, formula, meaning } = answer.metrics[metric];
  if (!charts.has(declared.id)) {
    const hint = declared.metric ? formula : declared.lines.length > 1 ? "" : meaning;
    const chart = new Chart({ ...declared, unit, hint });
    charts.set(declared.id, chart);
    byId("charts").append(chart.node);
  }
  let lines;
  if (declared.part) {
    const parts = answer.parts.filter((part) => part.values[metric]);
    lines = parts.map((part) => ({ name: part.name, values: part.values[metric] }));
    if (!lines.length && answer.total.values[metric]) lines = [{ name: query.surface || "all", values: answer.total.values[metric] }];
  } else {
    lines = declared.lines.filter(([name]) => answer.total.values[name]).map(([name, said]) => ({ name: said, values: answer.total.values[name] }));
  }
  // What is not over yet would look like a fall.
  const over = (value, at) => (answer.starts[at] + answer.width <= answer.now ? value : null);
  for (const line of lines) line.values = line.values.map(over);
  charts.get(declared.id).show({ starts: answer.starts, width: answer.width, early: answer.early_from, lines });
}

/** The newest window that is complete, and the mean of the others in the range. */
function tiles(answer) {
  byId("tiles").replaceChildren(...TILES.map(([metric, title]) => {
    const values = answer.total.values[metric] ?? (metric === "rejected" ? answer.total.values.events?.map(() => 0) : undefined);
    const unit = answer.metrics[metric].unit;
    const at = values?.findLastIndex((value, index) => value !== null && answer.starts[index] + answer.width <= answer.now) ?? -1;
    const others = (values ?? []).filter((value, index) => value !== null && index !== at);
    const mean = others.reduce((sum, value) => sum + value, 0) / others.length;
    const small = at < 0 ? "nothing yet" : `${clock(answer.starts[at], answer.width)}${others.length ? ` · mean ${told(mean, unit)}` : ""}`;
    return make("div", { className: "tile", title: answer.metrics[metric].meaning }, make("h2", {}, title),
      make("strong", {}, at < 0 ? "–" : told(values[at], unit)), make("small", {}, small));
  }));
}

function choices(found, query) {
  const surface = byId("surface");
  const names = ["", ...(found.surface ?? [])];
  if (query.surface && !names.includes(query.surface)) names.push(query.surface);
  if (names.join("\n") !== [...surface.options].map((option) => option.value).join("\n")) {
    surface.replaceChildren(...names.map((name) => make("option", { value: name, selected: name === query.surface }, name || "all")));
  }
  for (const option of byId("by").options) option.disabled = Boolean(query.surface) && option.value !== "arm";
}

function timings(found) {
  const slowest = Math.max(...found.map((timing) => timing.p95_ms), 0.001);
  const rows = found.toSorted((a, b) => a.surface.localeCompare(b.surface) || b.p95_ms - a.p95_ms).map((timing) => {
    const bar = make("span", { className: "meter", "aria-hidden": "true" });
    bar.style.width = `${Math.max(2, 100 * timing.p95_ms / slowest)}%`;
    return [timing.surface, timing.stage || "whole request", timing.n.toLocaleString("en"), timing.p50_ms.toFixed(1), timing.p95_ms.toFixed(1), bar];
  });
  table("timings", ["Surface", "Stage", "n", "p50 ms", "p95 ms", ""], rows, [2, 3, 4]);
}

function flows(found, now) {
  table("flows", ["Flow", "Newest event", "Last write"], found.map((flow) => [flow.name, age(now - flow.stream_ts), age(now - flow.applied_ts)]), [1, 2]);
}

function model(found, now) {
  const rate = before && now > before.now ? (found.events - before.events) / ((now - before.now) / 1000) : undefined;
  before = { now, events: found.events };
  table("model", ["", ""], [
    ["Model", found.name], ["Version", found.version], ["Events learned from", found.events.toLocaleString("en")],
    ["Events a second", rate === undefined ? "–" : rate.toLocaleString("en", { maximumSignificantDigits: 3 })],
    ["Items", found.items.toLocaleString("en")], ["Follows Redis", found.fresh ? "yes" : "no"],
  ], [1], false);
}

function table(id, heads, rows, numbers, headed = true) {
  const cell = (tag, content, at) => make(tag, { className: numbers.includes(at) ? "n" : "", ...(tag === "th" && { scope: "col" }) }, content);
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((content, at) => cell("td", content, at)))));
  const head = make("thead", {}, make("tr", {}, ...heads.map((content, at) => cell("th", content, at))));
  byId(id).className = "scroll";
  byId(id).replaceChildren(rows.length ? make("table", {}, ...(headed ? [head, body] : [body])) : make("p", { className: "hint" }, "Nothing yet"));
}

function age(ms) {
  const s = ms / 1000;
  if (s < 1) return "now";
  if (s < 120) return `${s.toFixed(s < 10 ? 1 : 0)} s ago`;
  if (s < 7200) return `${Math.round(s / 60)} min ago`;
  return s < 172800 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
}

/** What is shown is in the address: it can be kept and sent. */
function remember() {
  const query = new URLSearchParams(Object.entries(wanted()).filter(([, value]) => value));
  history.replaceState(null, "", `?${query}`);
}

function begin() {
  const given = new URLSearchParams(location.search);
  const range = document.querySelector(`input[name=range][value="${CSS.escape(given.get("range") ?? "1h")}"]`);
  if (range) range.checked = true;
  if (given.get("surface")) byId("surface").append(make("option", { value: given.get("surface"), selected: true }, given.get("surface")));
  if ([...byId("by").options].some((option) => option.value === given.get("by"))) byId("by").value = given.get("by");
  byId("wanted").addEventListener("submit", (event) => event.preventDefault());
  byId("wanted").addEventListener("change", () => {
    if (byId("surface").value) byId("by").value = "arm";
    remember();
    refresh();
  });
  byId("pause").addEventListener("click", () => {
    const paused = byId("pause").getAttribute("aria-pressed") !== "true";
    byId("pause").setAttribute("aria-pressed", String(paused));
    byId("pause").textContent = paused ? "Go on" : "Pause";
    if (paused) clearTimeout(timer);
    else refresh();
  });
  document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : refresh());
  refresh();
}

begin();
