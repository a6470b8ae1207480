// One chart: lines over windows of time, drawn by uPlot, with a key, and the same numbers as a table.

import { make, svg } from "./elements.js";

const HEIGHT = 190;
const TABLE_ROWS = 12;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 4], [12, 4], [3, 2]];
const SYNC = window.uPlot.sync("time");

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (index) => style(`--s${(index % 8) + 1}`);

/** Say a number as people read it. */
export function told(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return `${(100 * value).toLocaleString("en", { maximumSignificantDigits: 3 })} %`;
  const short = value.toLocaleString("en", Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });
  return unit === "s" ? `${short} s` : short;
}

export function clock(ms, width) {
  const options = width >= 3600000 ? { weekday: "short", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  return new Date(ms).toLocaleTimeString("en-GB", options);
}

export class Chart {
  /** `declared`: id, title, unit, hint. */
  constructor(declared) {
    this.declared = declared;
    this.plotted = make("div", { className: "plot" });
    this.key = make("ul", { className: "key" });
    this.table = make("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": `${declared.title}, as a table` });
    this.details = make("details", {}, make("summary", {}, "As a table"), this.table);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.picture = make("div", { role: "img" }, this.plotted);
    this.node = make("figure", { className: "chart", id: `chart-${declared.id}` },
      make("h2", {}, declared.title), make("p", { className: "formula" }, declared.hint),
      this.picture, this.key, this.details);
    this.shown = "";
    new ResizeObserver(() => this.plot?.setSize({ width: this.plotted.clientWidth, height: HEIGHT })).observe(this.plotted);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.shown = ""; this.draw(); });
  }

  /** Show lines: `{name, values}`, one value (or null) for each of the starts. */
  show({ starts, width, early, lines }) {
    Object.assign(this, { starts, width, early, lines });
    this.draw();
    this.label();
    if (this.details.open) this.fillTable();
  }

  draw() {
    const { starts, lines } = this;
    if (!lines) return;
    const shown = JSON.stringify(lines.map((line) => line.name));
    const columns = [starts.map((start) => start / 1000), ...lines.map((line) => line.values)];
    if (this.plot && shown === this.shown && lines.length) return void this.plot.setData(columns);
    this.plot?.destroy();
    this.plot = undefined;
    this.plotted.replaceChildren();
    this.shown = shown;
    if (!lines.length) return void this.plotted.append(make("p", { className: "none" }, "Nothing in this range yet"));
    this.plot = new window.uPlot(this.options(), columns, this.plotted);
  }

  options() {
    const soft = style("--soft");
    const grid = { stroke: style("--grid"), width: 1 };
    const font = "12px system-ui, sans-serif";
    return {
      width: this.plotted.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, points: { size: 7 }, y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.08] } },
      axes: [
        { stroke: soft, grid, ticks: grid, font, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000, this.width)), space: this.width >= 3600000 ? 90 : 60 },
        { stroke: soft, grid, ticks: grid, font, size: 58, values: (_, ticks) => ticks.map((tick) => told(tick, this.declared.unit)) },
      ],
      series: [{}, ...this.lines.map((line, index) => ({
        label: line.name, stroke: colour(index), width: 2, dash: DASHES[index % 8],
        points: { show: false }, spanGaps: false,
      }))],
      hooks: {
        drawClear: [(plot) => this.shadeEarly(plot)],
        setCursor: [(plot) => this.label(plot.cursor.idx)],
      },
    };
  }

  shadeEarly(plot) {
    const left = Math.max(plot.bbox.left, plot.valToPos(this.early / 1000, "x", true));
    const right = plot.bbox.left + plot.bbox.width;
    if (!(left < right)) return;
    plot.ctx.fillStyle = style("--early");
    plot.ctx.fillRect(left, plot.bbox.top, right - left, plot.bbox.height);
  }

  /** The place that is told in the key: under the pointer, else the newest that is complete. */
  place(line) {
    for (let at = this.starts.length - 1; at >= 0; at--) {
      if (this.starts[at] <= this.early && line.values[at] !== null) return at;
    }
    return line.values.findLastIndex((value) => value !== null);
  }

  label(under) {
    const { unit, title } = this.declared;
    const values = this.lines.map((line) => {
      const at = under ?? this.place(line);
      return { name: line.name, text: told(line.values[at], unit), at };
    });
    this.key.replaceChildren(...values.map(({ name, text }, index) => make("li", {}, swatch(index), `${name} `, make("b", {}, text))));
    if (under === undefined || under === null) {
      const at = values[0] && this.starts[values[0].at];
      const said = values.map(({ name, text }) => `${name} ${text}`).join(", ");
      this.picture.setAttribute("aria-label", said ? `${title}, ${clock(at, this.width)}: ${said}` : `${title}: nothing yet`);
    }
  }

  fillTable() {
    if (!this.details.open || !this.lines) return;
    const newest = this.starts.map((_, at) => at).filter((at) => this.lines.some((line) => line.values[at] !== null)).slice(-TABLE_ROWS).reverse();
    this.table.replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Window"), ...this.lines.map((line) => make("th", { scope: "col", className: "n" }, line.name)))),
      make("tbody", {}, ...newest.map((at) => make("tr", {}, make("td", {}, clock(this.starts[at], this.width) + (this.starts[at] > this.early ? " (early)" : "")),
        ...this.lines.map((line) => make("td", { className: "n" }, told(line.values[at], this.declared.unit))))))));
  }
}

function swatch(index) {
  return svg("svg", { width: 22, height: 8, "aria-hidden": "true" },
    svg("line", { x1: 0, y1: 4, x2: 22, y2: 4, stroke: `var(--s${(index % 8) + 1})`, "stroke-width": 2.5, "stroke-dasharray": DASHES[index % 8].join(" ") }));
}
