// A row of cards that rearranges: cards move to their new places, new ones come in, and those that left fade away.

import { card, press, show } from "./cards.js";
import { make } from "./elements.js";

const MOVE_MS = 520;
const LEAVE_MS = 240;
const EASE = "cubic-bezier(.2, .8, .2, 1)";
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Row {
  constructor({ id, wide = false }, act) {
    this.id = id;
    this.ids = [];
    this.act = act;
    this.title = make("h2", { id: `${id}-title` });
    this.hint = make("p", { className: "hint" });
    this.cards = make("ul", { className: wide ? "cards wide" : "cards shelf", "aria-labelledby": `${id}-title` });
    this.ghosts = make("div", { className: "ghosts", "aria-hidden": "true" });
    this.frame = make("div", { className: "frame" }, this.cards, this.ghosts);
    this.nothing = make("p", { className: "nothing", hidden: true });
    this.section = make("section", { id, className: "row", tabIndex: -1, hidden: true },
      make("div", { className: "row-head" }, this.title, this.hint), this.frame, this.nothing);
  }

  /** Show an answer; with `mark`, say which cards are new and which moved up. Return how many of each there are. */
  show(answer, { title, hint = "", nothing = "Nothing is left to show here.", mark = false, known }) {
    const items = answer.items;
    const marks = mark ? changes(this.ids, items.map((item) => item.item_id)) : new Map();
    const focus = this.focused();
    const old = new Map(Array.from(this.cards.children, (node) => [node.dataset.id, node]));
    const before = new Map(Array.from(old, ([id, node]) => [id, node.getBoundingClientRect()]));
    this.title.textContent = title;
    this.hint.textContent = hint;
    this.section.hidden = false;
    this.nothing.textContent = nothing;
    this.nothing.hidden = items.length > 0;
    const nodes = items.map((item) => {
      const node = old.get(item.item_id) ?? card(item, (kind, used) => this.act(kind, used, this));
      show(node, item, answer, marks.get(item.item_id) ?? "", known);
      return node;
    });
    const leaving = Array.from(old.values()).filter((node) => !nodes.includes(node));
    this.cards.replaceChildren(...nodes);
    this.ids = items.map((item) => item.item_id);
    if (focus) this.restore(focus);
    else this.cards.scrollLeft = 0;
    if (before.size && !still.matches) this.animate(nodes, leaving, before);
    const marked = Array.from(marks.values());
    return { fresh: marked.filter((one) => one === "new").length, up: marked.filter((one) => one && one !== "new").length };
  }

  press(known) {
    for (const node of this.cards.children) press(node, known);
  }

  /** Return where the keyboard is, when it is in this row. */
  focused() {
    const node = document.activeElement?.closest?.(".card");
    if (!node || node.parentElement !== this.cards) return null;
    return { id: node.dataset.id, place: Array.from(this.cards.children).indexOf(node), control: document.activeElement.dataset.control };
  }

  /** Keep the keyboard on the card that moved, or on the one that has taken the place of a card that left. */
  restore({ id, place, control }) {
    const nodes = Array.from(this.cards.children);
    const node = nodes.find((one) => one.dataset.id === id) ?? nodes[Math.min(place, nodes.length - 1)];
    const target = node?.querySelector(`[data-control="${control}"]`) ?? this.section;
    target.focus({ preventScroll: true });
  }

  animate(nodes, leaving, before) {
    const frame = this.frame.getBoundingClientRect();
    for (const node of nodes) {
      const was = before.get(node.dataset.id);
      const is = node.getBoundingClientRect();
      if (!was) {
        node.animate([{ opacity: 0, transform: "scale(.86)" }, { opacity: 1, transform: "none" }],
          { duration: MOVE_MS, easing: EASE, delay: 90, fill: "backwards" });
      } else if (was.left !== is.left || was.top !== is.top) {
        node.animate([{ transform: `translate(${was.left - is.left}px, ${was.top - is.top}px)`, zIndex: 1 }, { transform: "none", zIndex: 1 }],
          { duration: MOVE_MS, easing: EASE });
      }
    }
    for (const node of leaving) {
      const was = before.get(node.dataset.id);
      const ghost = make("div", { className: "ghost" }, ...node.childNodes);
      ghost.inert = true;
      const place = { left: was.left - frame.left, top: was.top - frame.top, width: was.width, height: was.height };
      for (const [side, length] of Object.entries(place)) ghost.style[side] = `${length}px`;
      this.ghosts.append(ghost);
      ghost.animate([{ opacity: 1, transform: "none" }, { opacity: 0, transform: "scale(.8)" }], { duration: LEAVE_MS, easing: "ease-in" })
        .finished.finally(() => ghost.remove());
    }
  }
}

/** Return id -> `new`, or `▲n` for what moved up by n among those that were there before, or an empty string. */
export function changes(before, after) {
  const stayed = before.filter((id) => after.includes(id));
  const rank = new Map(stayed.map((id, n) => [id, n]));
  const marks = new Map();
  let place = 0;
  for (const id of after) {
    const was = rank.get(id);
    if (was === undefined) {
      marks.set(id, before.length ? "new" : "");
    } else {
      marks.set(id, was > place ? `▲${was - place}` : "");
      place += 1;
    }
  }
  return marks;
}
