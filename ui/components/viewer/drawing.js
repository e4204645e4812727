/* Measures on the film, as SVG over the canvas: sharp on any screen, and text that a screen reader finds. */

import { boxOf, contradictsSide, measureWords, zoneEdge, zoneRadii } from "./measures.js";

const SVG = "http://www.w3.org/2000/svg";

export const element = (tag, className, parent, text) => {
  const made = document.createElement(tag);
  made.className = className;
  if (text) made.textContent = text;
  parent?.appendChild(made);
  return made;
};

export const shape = (tag, attributes, parent) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent?.appendChild(made);
  return made;
};

/** Where a measure can be taken hold of: {point, index}; index "edge" is zone II's. */
export function handlesOf(measure) {
  const handles = measure.points.map((point, index) => ({ point, index }));
  if (measure.kind === "zones" && measure.points.length === 2) handles.push({ point: zoneEdge(measure), index: "edge" });
  return handles;
}

/** Draws `pane`'s measures: `pane` has measures, pending, selected, data, pixels, `svg`, `labels`, and `toScreen`. */
export function drawMeasures(pane) {
  const { svg, labels } = pane;
  svg.replaceChildren();
  labels.replaceChildren();
  for (const measure of pane.measures) drawMeasure(pane, measure, measure === pane.selected);
  if (pane.pending) drawPending(pane);
  if (pane.crosshair) drawCrosshair(pane);
}

function drawMeasure(pane, measure, selected) {
  const group = shape("g", { class: `measure ${measure.kind}${selected ? " selected" : ""}` }, pane.svg);
  const at = measure.points.map((point) => pane.toScreen(point));
  LINES[measure.kind](group, at, measure, pane);
  for (const { point } of handlesOf(measure)) {
    const { x, y } = pane.toScreen(point);
    shape("circle", { class: "handle", cx: x, cy: y, r: 3.5 }, group);
  }
  label(pane, measure, at, selected);
}

/** Every line twice: a dark one below, so that the bright one is seen on bone as well. */
function line(group, tag, attributes, className = "") {
  shape(tag, { ...attributes, class: `halo ${className}` }, group);
  shape(tag, { ...attributes, class: className }, group);
}

const LINES = {
  length(group, [p, q]) {
    line(group, "line", { x1: p.x, y1: p.y, x2: q.x, y2: q.y });
  },
  angle(group, [p, v, q]) {
    line(group, "polyline", { points: `${p.x},${p.y} ${v.x},${v.y} ${q.x},${q.y}` });
    const reach = Math.min(26, 0.6 * Math.hypot(p.x - v.x, p.y - v.y), 0.6 * Math.hypot(q.x - v.x, q.y - v.y));
    const from = Math.atan2(p.y - v.y, p.x - v.x);
    let turn = Math.atan2(q.y - v.y, q.x - v.x) - from;
    if (turn > Math.PI) turn -= 2 * Math.PI;
    if (turn < -Math.PI) turn += 2 * Math.PI;
    const on = (angle) => `${v.x + reach * Math.cos(angle)} ${v.y + reach * Math.sin(angle)}`;
    line(group, "path", { d: `M ${on(from)} A ${reach} ${reach} 0 0 ${turn > 0 ? 1 : 0} ${on(from + turn)}` }, "thin");
  },
  rectangle(group, at, measure, pane) {
    const { x0, y0, x1, y1 } = boxOf(measure.points, pane.data);
    const p = pane.toScreen({ x: x0, y: y0 });
    const q = pane.toScreen({ x: x1, y: y1 });
    const size = { width: Math.abs(q.x - p.x), height: Math.abs(q.y - p.y) };
    line(group, "rect", { x: Math.min(p.x, q.x), y: Math.min(p.y, q.y), ...size });
  },
  zones(group, [disc, fovea], measure, pane) {
    const { one, two } = zoneRadii(measure);
    const perPixel = pane.screenPerPixel();
    line(group, "line", { x1: disc.x, y1: disc.y, x2: fovea.x, y2: fovea.y }, "thin");
    line(group, "circle", { cx: disc.x, cy: disc.y, r: one * perPixel });
    line(group, "circle", { cx: disc.x, cy: disc.y, r: two * perPixel }, measure.edge ? "" : "estimated");
    zoneName(group, disc, one * perPixel, "zone I", pane);
    zoneName(group, disc, two * perPixel, measure.edge ? "zone II" : "zone II, estimated", pane);
  },
};

/** On the circle where it is in view: above, below, or at the sides. */
function zoneName(group, { x, y }, radius, text, pane) {
  const { width, height } = pane.screenSize();
  const places = [
    [x, y - radius - 6, "middle"],
    [x, y + radius + 16, "middle"],
    [x - radius - 8, y, "end"],
    [x + radius + 8, y, "start"],
  ];
  const margin = text.length * 7; // of the text, about
  const inView = ([at, down, anchor]) => {
    const left = at - { middle: margin / 2, end: margin, start: 0 }[anchor];
    return left > 0 && left + margin < width && down > 14 && down < height - 24;
  };
  const [at, down, anchor] = places.find(inView) || [];
  if (anchor) shape("text", { class: "zone", x: at, y: down, "text-anchor": anchor }, group).textContent = text;
}

function label(pane, measure, at, selected) {
  const box = element("div", `label${selected ? " selected" : ""}`, pane.labels);
  if (contradictsSide(measure, pane.data)) box.classList.add("contradiction");
  box.dataset.kind = measure.kind;
  element("span", "", box, measureWords(measure, pane.data, pane.dragging ? null : pane.pixels));
  const remove = element("button", "", box, "×");
  remove.type = "button";
  remove.tabIndex = -1; // from the keyboard it is Delete
  remove.title = "Remove (Delete)";
  remove.setAttribute("aria-label", `Remove: ${measureWords(measure, pane.data)}`);
  remove.onclick = () => pane.remove(measure);
  const low = at.reduce((best, point) => (point.y > best.y ? point : best));
  const { width, height } = pane.screenSize();
  const wanted = measure.kind === "zones" ? { x: 8, y: height - 34 - box.offsetHeight } : { x: low.x + 10, y: low.y + 10 };
  const x = Math.min(Math.max(4, wanted.x), Math.max(4, width - box.offsetWidth - 4));
  const y = Math.min(Math.max(4, wanted.y), Math.max(4, height - box.offsetHeight - 4));
  box.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
}

/** A measure that still waits for points: what there is, and a line to the pointer. */
function drawPending(pane) {
  const { kind, points, hover } = pane.pending;
  const group = shape("g", { class: `measure pending ${kind}` }, pane.svg);
  const all = hover ? [...points, hover] : points;
  const at = all.map((point) => pane.toScreen(point));
  if (kind === "rectangle" && at.length === 2) LINES.rectangle(group, at, { points: all }, pane);
  else if (kind === "zones" && at.length === 2) LINES.zones(group, at, { points: all }, pane);
  else line(group, "polyline", { points: at.map(({ x, y }) => `${x},${y}`).join(" ") });
  for (const { x, y } of at.slice(0, points.length)) shape("circle", { class: "handle", cx: x, cy: y, r: 3.5 }, group);
}

function drawCrosshair(pane) {
  const { x, y } = pane.crosshair;
  const group = shape("g", { class: "measure crosshair" }, pane.svg);
  line(group, "path", { d: `M ${x - 16} ${y} H ${x - 4} M ${x + 4} ${y} H ${x + 16} M ${x} ${y - 16} V ${y - 4} M ${x} ${y + 4} V ${y + 16}` });
}
