// A poster for every item, drawn from its id and genres: the same item always looks the same.

import { svg } from "./elements.js";

const WIDTH = 200;
const HEIGHT = 300;

// genre -> two hues and what is drawn
const LOOKS = {
  action: [14, 38, rays], adventure: [165, 200, peaks], animation: [318, 40, confetti], biography: [22, 345, arches],
  children: [48, 95, confetti], comedy: [40, 14, confetti], crime: [222, 258, blinds], documentary: [192, 160, grid],
  drama: [258, 326, arches], family: [95, 48, confetti], fantasy: [276, 205, peaks], "film-noir": [225, 240, blinds],
  history: [32, 18, arches], horror: [352, 286, moon], music: [300, 340, waves], musical: [330, 290, waves],
  mystery: [236, 188, rings], romance: [344, 18, hearts], "sci-fi": [204, 266, orbit], scifi: [204, 266, orbit],
  sport: [135, 172, track], thriller: [206, 232, rings], war: [85, 48, rays], western: [26, 6, mesa],
};
const MOTIFS = [rays, peaks, confetti, arches, blinds, grid, moon, waves, rings, hearts, orbit, track, mesa];
let nGradients = 0;

/** Return the poster as an SVG element that screen readers skip: the title stands beside it. */
export function poster(item) {
  const random = seeded(item.item_id);
  const [hue, second, motif] = look(item, random);
  const id = `sky-${++nGradients}`;
  const turn = (random() - 0.5) * 14;
  const colours = {
    hue: hue + turn,
    light: hsl(second + turn, 62, 70),
    middle: hsl((hue + second) / 2 + turn, 48, 46),
    dark: hsl(hue + turn, 45, 17),
  };
  const sky = svg("linearGradient", { id, x1: 0, y1: 0, x2: random() * 0.6, y2: 1 },
    svg("stop", { offset: 0, "stop-color": hsl(hue + turn, 46, 30) }),
    svg("stop", { offset: 1, "stop-color": hsl(second + turn, 56, 56) }));
  const shade = svg("linearGradient", { id: `${id}-shade`, x1: 0, y1: 0, x2: 0, y2: 1 },
    svg("stop", { offset: 0.45, "stop-color": colours.dark, "stop-opacity": 0 }),
    svg("stop", { offset: 1, "stop-color": colours.dark, "stop-opacity": 0.88 }));
  const letters = initials(item);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "xMidYMax slice" },
    svg("defs", {}, sky, shade),
    svg("rect", { width: WIDTH, height: HEIGHT, fill: `url(#${id})` }),
    svg("g", {}, ...motif(random, colours)),
    svg("rect", { width: WIDTH, height: HEIGHT, fill: `url(#${id}-shade)` }),
    svg("text", { x: 16, y: HEIGHT - 20, class: "initials", "font-size": letters.length > 2 ? 48 : 62 }, letters));
}

/** One of the item's genres decides what is drawn, another one gives the second colour. */
function look(item, random) {
  const known = (item.genres ?? []).map((genre) => LOOKS[genre.toLowerCase()]).filter(Boolean);
  if (known.length) {
    const first = Math.floor(random() * known.length);
    const [hue, second, motif] = known[first];
    return [hue, known.length > 1 ? known[(first + 1) % known.length][0] : second, motif];
  }
  const hue = Math.floor(random() * 360);
  return [hue, hue + 40 + random() * 50, MOTIFS[Math.floor(random() * MOTIFS.length)]];
}

const SMALL_WORDS = new Set(["the", "a", "an", "of", "and", "in", "at", "for", "to", "der", "die", "das", "le", "la", "les"]);

export function initials(item) {
  const words = (item.title || item.item_id).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const telling = words.filter((word) => !SMALL_WORDS.has(word.toLowerCase()));
  const chosen = telling.length ? telling : words;
  if (!item.title) return (chosen.at(-1) ?? "?").slice(-3).toUpperCase();
  return chosen.slice(0, 2).map((word) => word[0]).join("").toUpperCase() || "?";
}

/** Numbers in [0, 1) that follow from a text (FNV-1a into mulberry32). */
function seeded(text) {
  let state = 2166136261;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const hsl = (hue, saturation, lightness) => `hsl(${Math.round(hue)} ${saturation}% ${lightness}%)`;
const circle = (cx, cy, r, rest) => svg("circle", { cx, cy, r, ...rest });
const path = (d, rest) => svg("path", { d, ...rest });
const between = (random, low, high) => low + random() * (high - low);

function rays(random, { light, dark }) {
  const x = between(random, 30, 170);
  const beams = Array.from({ length: 9 }, (_, n) => {
    const angle = (n / 9) * Math.PI * 2 + random() * 0.3;
    const to = (turn) => `${x + 420 * Math.cos(angle + turn)} ${190 + 420 * Math.sin(angle + turn)}`;
    return path(`M${x} 190L${to(-0.13)}L${to(0.13)}Z`, { fill: light, opacity: 0.34 });
  });
  return [...beams, circle(x, 190, between(random, 28, 52), { fill: dark, opacity: 0.9 })];
}

function peaks(random, { light, middle, dark }) {
  const ridge = (base, height, colour) => {
    let d = `M0 300V${base}`;
    for (let x = 0; x <= 200; x += 40) d += `L${x + 20} ${base - between(random, 0.35, 1) * height}L${x + 40} ${base - random() * 20}`;
    return path(`${d}V300Z`, { fill: colour });
  };
  return [circle(between(random, 40, 160), between(random, 50, 100), between(random, 16, 34), { fill: light }),
    ridge(215, 110, middle), ridge(262, 90, dark)];
}

function confetti(random, { light, middle, dark }) {
  const colours = [light, middle, dark, "#fff6e6"];
  return Array.from({ length: 13 }, (_, n) => circle(random() * 200, random() * 240, between(random, 8, 38),
    { fill: colours[n % colours.length], opacity: between(random, 0.45, 0.9) }));
}

function arches(random, { light, middle, dark }) {
  const x = between(random, 70, 130);
  return [150, 116, 84, 54, 28].map((r, n) => path(`M${x - r} 300V${190 - n * 4}a${r} ${r} 0 0 1 ${2 * r} 0V300Z`,
    { fill: [middle, light, dark, middle, light][n], opacity: [0.5, 0.55, 0.6, 0.8, 0.9][n] }));
}

function blinds(random, { light, dark }) {
  const tilt = between(random, -14, 14);
  const bars = Array.from({ length: 11 }, (_, n) => path(`M-20 ${n * 26 + tilt}L220 ${n * 26 - tilt}v13L-20 ${n * 26 + tilt + 13}Z`,
    { fill: dark, opacity: 0.55 }));
  return [circle(between(random, 50, 150), between(random, 80, 150), 62, { fill: light, opacity: 0.9 }), ...bars];
}

function grid(random, { light }) {
  const centre = between(random, 60, 140);
  return Array.from({ length: 12 }, (_, n) => path(
    `M-10 ${40 + n * 19}C${centre - 40} ${40 + n * 19 - between(random, 0, 70)} ${centre + 40} ${40 + n * 19 + between(random, 0, 50)} 210 ${40 + n * 19}`,
    { fill: "none", stroke: light, "stroke-width": n % 3 ? 1.5 : 4, opacity: 0.8 }));
}

function moon(random, { light, dark }) {
  const x = between(random, 60, 140);
  const trunks = Array.from({ length: 7 }, (_, n) => {
    const at = n * 32 + between(random, -8, 8);
    const top = between(random, 60, 170);
    return path(`M${at - 5} 300L${at} ${top}L${at + 5} 300Z`, { fill: dark });
  });
  return [circle(x, 105, 56, { fill: light, opacity: 0.25 }), circle(x, 105, 42, { fill: light }), ...trunks];
}

function waves(random, { light }) {
  return Array.from({ length: 9 }, (_, n) => {
    const height = between(random, 10, 34);
    const y = 50 + n * 25;
    return path(`M-20 ${y}q30 ${-height} 60 0t60 0t60 0t60 0`, { fill: "none", stroke: light, "stroke-width": 7, opacity: 0.25 + n * 0.07 });
  });
}

function rings(random, { light, dark }) {
  const [x, y] = [between(random, 60, 140), between(random, 90, 150)];
  return [130, 104, 78, 52, 26].map((r, n) => circle(x + n * 3, y + n * 2, r, { fill: n % 2 ? dark : light, opacity: n % 2 ? 0.75 : 0.5 }));
}

function hearts(random, { light, middle }) {
  const y = between(random, 105, 150);
  const gap = between(random, 24, 40);
  return [circle(100 - gap, y, 62, { fill: light, opacity: 0.85 }), circle(100 + gap, y, 62, { fill: middle, opacity: 0.75 }),
    circle(100, y, 24, { fill: "#fff6e6", opacity: 0.85 })];
}

function orbit(random, { light, dark, middle }) {
  const [x, y, r] = [between(random, 70, 130), between(random, 95, 140), between(random, 34, 54)];
  const stars = Array.from({ length: 26 }, () => circle(random() * 200, random() * 260, between(random, 0.6, 1.8), { fill: "#fff", opacity: 0.8 }));
  const ring = svg("ellipse", { cx: x, cy: y, rx: r * 1.8, ry: r * 0.42, fill: "none", stroke: light, "stroke-width": 4,
    transform: `rotate(${between(random, -35, 35)} ${x} ${y})` });
  return [...stars, circle(x, y, r, { fill: middle }), circle(x + r * 0.3, y + r * 0.1, r * 0.86, { fill: dark, opacity: 0.45 }), ring];
}

function track(random, { light, dark }) {
  const turn = between(random, -40, 40);
  return Array.from({ length: 6 }, (_, n) => path(`M${-60 + n * 34} 320C${n * 34 - 30} 180 ${n * 40 + turn} 140 ${n * 52 + turn} -20`,
    { fill: "none", stroke: n % 2 ? light : dark, "stroke-width": 15, opacity: 0.6 }));
}

function mesa(random, { light, middle, dark }) {
  const x = between(random, 50, 150);
  const [left, width, top] = [between(random, -10, 70), between(random, 70, 110), between(random, 150, 190)];
  return [circle(x, 130, between(random, 46, 66), { fill: light }),
    path(`M0 300V225H${left}L${left + 10} ${top}H${left + width}L${left + width + 14} 225H200V300Z`, { fill: middle }),
    path("M0 300V262C60 246 140 274 200 252V300Z", { fill: dark })];
}
