// Making elements, and the icons.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: properties by name, attributes where the name is in kebab case or has no property. */
export function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (name in node && !name.includes("-")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const ICONS = {
  like: "M7 21V10l5-8c1.700 0 2.600 1.300 2.300 3L13.500 9H19a2 2 0 0 1 2 2.400l-1.500 7.500A2.600 2.600 0 0 1 17 21H7zM3 10h4v11H3z",
  dislike: "M17 3v11l-5 8c-1.700 0-2.600-1.300-2.300-3l.8-4H5a2 2 0 0 1-2-2.400L4.500 5.100A2.600 2.600 0 0 1 7 3h10zM21 14h-4V3h4z",
  save: "M6 3h12v18l-6-4.500L6 21z",
  hide: "M3 3l18 18M10.500 5.200A10 10 0 0 1 12 5c5 0 8.500 4 10 7a16 16 0 0 1-3 4M6.500 6.600A15 15 0 0 0 2 12c1.500 3 5 7 10 7a10 10 0 0 0 5-1.400M9.900 9.900a3 3 0 0 0 4.200 4.200",
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }, svg("path", { d: ICONS[name] }));
}

const SYLLABLES = ["ka", "lo", "mi", "ra", "ne", "su", "ti", "vo", "be", "da", "fi", "jo"];

/** Invent a name that can be said aloud. */
export function inventedName() {
  const drawn = crypto.getRandomValues(new Uint8Array(5));
  const syllables = Array.from(drawn.slice(0, 3), (n) => SYLLABLES[n % SYLLABLES.length]);
  return `${syllables.join("")}-${drawn[3] % 10}${drawn[4] % 10}`;
}

/** An id that works without a secure context, too, unlike `crypto.randomUUID`. */
export function uniqueId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
}
