// What is known of the user, as the API tells it, and what has changed in it.

import { icon, make } from "./elements.js";
import { poster } from "./posters.js";
import { titleOf } from "./cards.js";

const N_GENRES = 7;
const N_RECENT = 6;
const N_NAMED = 8;
const SAID = [["saved", "save", "Saved"], ["liked", "like", "Liked"], ["disliked", "dislike", "Not for you"], ["hidden", "hide", "Hidden"]];
const DID = {
  click: "clicked", view: "looked at", watch: "watched", like: "liked", dislike: "disliked", save: "saved", rating: "rated",
  purchase: "bought",
};

export class ProfilePanel {
  /** `named(ids)` returns id -> item; `undo(kind, item)` takes feedback back. */
  constructor(body, { named, undo }) {
    this.body = body;
    this.named = named;
    this.undo = undo;
    this.before = null;
  }

  async show(user) {
    const recent = user.recent.slice(0, N_RECENT);
    const said = SAID.map(([field, kind, label]) => ({ field, kind, label, ids: user[field], shown: user[field].slice(-N_NAMED).reverse() }));
    const items = await this.named([...recent.map((step) => step.item_id), ...said.flatMap(({ shown }) => shown)]);
    const before = this.before?.user_id === user.user_id ? this.before : null;
    this.before = user;
    const focus = document.activeElement?.dataset?.undo;
    const affinity = Object.entries(user.affinity);
    const parts = [this.head(user)];
    if (affinity.length) parts.push(this.taste(affinity, before?.affinity));
    if (recent.length) parts.push(this.recent(recent, items, before));
    for (const part of said) if (part.ids.length) parts.push(this.said(part, items, before?.[part.field]));
    if (parts.length === 1) parts.push(make("p", { className: "nothing" }, "Nothing yet. Click something, and watch this fill."));
    this.body.replaceChildren(...parts);
    if (focus) (this.body.querySelector(`[data-undo="${CSS.escape(focus)}"]`) ?? document.getElementById("profile-title")).focus?.();
  }

  head(user) {
    const n = Object.values(user.counts).reduce((sum, count) => sum + count, 0);
    const pending = user.pending ? `, ${user.pending} on the way to the flows` : "";
    return make("p", { className: "person" }, make("strong", {}, user.user_id), ` · ${n} ${n === 1 ? "event" : "events"}${pending}`);
  }

  taste(affinity, before) {
    const shown = affinity.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, N_GENRES).sort((a, b) => b[1] - a[1]);
    const most = Math.max(...shown.map(([, weight]) => Math.abs(weight)), 4);
    const bars = shown.map(([genre, weight]) => {
      const was = before?.[genre] ?? 0;
      const bar = make("span", { className: weight < 0 ? "bar less" : "bar" });
      const share = (value) => `${Math.max(2, (100 * Math.abs(value)) / most)}%`;
      bar.style.width = share(weight);
      const changed = before && Math.abs(weight - was) > 0.05;
      if (changed && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
        bar.animate([{ width: share(was) }, { width: share(weight) }], { duration: 600, easing: "ease-out" });
      }
      return make("li", { className: changed ? "changed" : "" }, make("span", { className: "genre" }, genre),
        make("span", { className: "track", "aria-hidden": "true" }, bar), make("span", { className: "weight" }, weight.toFixed(1)));
    });
    return section("Taste", make("ul", { className: "taste" }, ...bars));
  }

  recent(steps, items, before) {
    const known = new Set((before?.recent ?? []).map((step) => `${step.item_id} ${step.ts}`));
    return section("Recent", make("ul", { className: "things" }, ...steps.map((step) => {
      const fresh = before && !known.has(`${step.item_id} ${step.ts}`);
      return thing(items.get(step.item_id), `${DID[step.type] ?? step.type} ${ago(step.ts)}`, fresh);
    })));
  }

  said({ kind, label, ids, shown }, items, before) {
    const list = make("ul", { className: "things" }, ...shown.map((id) => {
      const item = items.get(id);
      const button = make("button", { type: "button", className: "quiet small", "aria-label": `Undo ${kind} of ${titleOf(item)}` }, icon("undo"));
      button.dataset.undo = `${kind} ${id}`;
      button.addEventListener("click", () => this.undo(kind, item));
      return thing(item, "", before && !before.includes(id), button);
    }));
    return section(`${label} (${ids.length})`, list);
  }
}

function section(title, ...children) {
  return make("section", {}, make("h3", {}, title), ...children);
}

function thing(item, told, fresh, ...buttons) {
  return make("li", { className: fresh ? "changed" : "" }, make("span", { className: "thumb", "aria-hidden": "true" }, poster(item)),
    make("span", { className: "name" }, titleOf(item), ...(told ? [make("small", {}, told)] : [])), ...buttons);
}

function ago(ts) {
  const seconds = Math.max(0, (Date.now() - ts) / 1000);
  if (seconds < 10) return "just now";
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
    const n = Math.floor(seconds / size);
    if (n >= 1) return `${n} ${unit}${n === 1 ? "" : "s"} ago`;
  }
  return "just now";
}
