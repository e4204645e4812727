/* The toolbar's pictures: lines on a grid of 20, drawn here, in the colour of the text. */

const PATHS = {
  window: "M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13z|fill:M10 3.5a6.5 6.5 0 0 1 0 13z",
  pan: "M10 2.5v15M2.5 10h15M7.8 4.7 10 2.5l2.2 2.2M7.8 15.3 10 17.5l2.2-2.2M4.7 7.8 2.5 10l2.2 2.2M15.3 7.8 17.5 10l-2.2 2.2",
  length: "M13.6 2.6l3.8 3.8L6.4 17.4l-3.8-3.8zM10.9 5.3l1.9 1.9M8.4 7.8l1.3 1.3M5.9 10.3l1.9 1.9",
  angle: "M16.5 16.5h-13L13.2 3.5M9.9 16.5a7.2 7.2 0 0 0-2.5-5.2",
  rectangle: "M4.5 5.5h11v9h-11z|fill:M3 4h3v3H3zM14 4h3v3h-3zM3 13h3v3H3zM14 13h3v3h-3z",
  zones: "M10 2.8a7.2 7.2 0 1 0 0 14.4a7.2 7.2 0 1 0 0-14.4zM10 6.4a3.6 3.6 0 1 0 0 7.2a3.6 3.6 0 1 0 0-7.2z|fill:M10 8.8a1.2 1.2 0 1 0 0 2.4a1.2 1.2 0 1 0 0-2.4z",
  loupe: "M8.7 3.2a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11zM12.8 12.8l4 4M8.7 6.4v4.6M6.4 8.7H11",
  invert: "M3.5 3.5h13v13h-13z|fill:M16.5 3.5v13h-13z",
  redFree: "M2.5 10C4.4 6.8 7 5.2 10 5.2s5.6 1.6 7.5 4.8c-1.9 3.2-4.5 4.8-7.5 4.8S4.4 13.2 2.5 10zM3.5 16.5l13-13|fill:M10 7.7a2.3 2.3 0 1 0 0 4.6a2.3 2.3 0 1 0 0-4.6z",
  turnRight: "M15.8 6.2A7 7 0 1 0 17 10M16.4 2.6v4h-4",
  turnLeft: "M4.2 6.2A7 7 0 1 1 3 10M3.6 2.6v4h4",
  mirror: "M8 4.5v11L2.8 15.5zM12 4.5v11l5.2 0zM10 2.5v15",
  upsideDown: "M4.5 8h11V2.8zM4.5 12h11v5.2zM2.5 10h15",
  fit: "M3.2 7V3.2H7M13 3.2h3.8V7M16.8 13v3.8H13M7 16.8H3.2V13M7.2 7.2h5.6v5.6H7.2z",
  reset: "M4 9.2a6.2 6.2 0 1 1 1.4 5M3.6 4.8l.4 4.4 4.3-.6",
  beside: "M3 4h6v12H3zM11 4h6v12h-6z",
  keys: "M2.5 5.5h15v9h-15zM5.3 8.3h.1M8.4 8.3h.1M11.5 8.3h.1M14.6 8.3h.1M6.5 11.6h7",
};

export function icon(name) {
  const [lines, filled] = PATHS[name].split("|fill:");
  const fill = filled ? `<path class="filled" d="${filled}"/>` : "";
  return `<svg viewBox="0 0 20 20" aria-hidden="true"><path d="${lines}"/>${fill}</svg>`;
}
