// One card: poster, title, why it is here, and what can be said about it.

import { icon, make } from "./elements.js";
import { poster } from "./posters.js";

export const FEEDBACK = ["like", "dislike", "save", "hide"];
const LABELS = { like: "Like", dislike: "Dislike", save: "Save", hide: "Hide" };

// What a candidate source is called for people.
const SOURCES = {
  covisitation: "taken together", collaborative: "similar taste", content: "alike", trending: "trending", popular: "popular",
  matching: "what you asked for", exploration: "to try out", consumed: "yours", neighbours: "taken together",
};

export const titleOf = (item) => item.title || `Item ${item.item_id}`;

export function yearOf(item) {
  return item.release_date?.slice(0, 4) ?? "";
}

/** Return a new card; `act(kind, card)` is called when one of its buttons is used. */
export function card(item, act) {
  const node = make("li", { className: "card" });
  node.dataset.id = item.item_id;
  const open = make("button", { type: "button", className: "open" }, poster(item), make("span", { className: "mark" }));
  open.dataset.control = "click";
  open.addEventListener("click", () => act("click", node));
  const says = make("div", { className: "says" });
  for (const kind of FEEDBACK) {
    const button = make("button", { type: "button", title: LABELS[kind] }, icon(kind));
    button.dataset.control = kind;
    button.addEventListener("click", () => act(kind, node));
    says.append(button);
  }
  node.append(open, make("div", { className: "told" },
    make("h3"), make("p", { className: "facts" }), make("p", { className: "because" }), make("p", { className: "sources" })), says);
  return node;
}

/** Show the item as it is in this answer; `known` says what this user has said about what. */
export function show(node, item, answer, mark, known) {
  node.item = item;
  node.slate = { request_id: answer.request_id, position: item.position };
  const title = titleOf(item);
  node.querySelector("h3").textContent = title;
  node.querySelector(".facts").textContent = [yearOf(item), ...(item.genres ?? []).slice(0, 3)].filter(Boolean).join(" · ");
  node.querySelector(".because").textContent = item.reason ?? "";
  const sources = node.querySelector(".sources");
  const names = (item.sources ?? []).map((source) => SOURCES[source] ?? source);
  sources.replaceChildren(...names.slice(0, 2).map((name) => make("span", {}, name)),
    ...(names.length > 2 ? [make("span", { title: names.slice(2).join(", ") }, `+${names.length - 2}`)] : []));
  sources.setAttribute("aria-label", names.length ? `Found by: ${names.join(", ")}` : "");
  const badge = node.querySelector(".mark");
  badge.textContent = mark;
  badge.className = mark === "new" ? "mark new" : mark ? "mark up" : "mark";
  const told = mark === "new" ? ", new in this list" : mark ? `, moved up by ${mark.slice(1)}` : "";
  node.querySelector(".open").setAttribute("aria-label", `${title}, number ${item.position + 1}${told}. ${item.reason ?? ""}`);
  press(node, known);
}

/** Show what has been said about the item. */
export function press(node, known) {
  const title = titleOf(node.item);
  for (const kind of FEEDBACK) {
    const button = node.querySelector(`[data-control="${kind}"]`);
    button.setAttribute("aria-pressed", String(known[kind].has(node.item.item_id)));
    button.setAttribute("aria-label", `${LABELS[kind]} ${title}`);
  }
}
