/* Where the film is on the canvas. No DOM here.
 *
 * Film coordinates run from (0, 0), the film's top left corner as stored, to (cols, rows). The film is mirrored, then
 * turned by quarters to the right; `zoom` (canvas pixels per film pixel) and the origin place the result. */

import { clamp } from "./grey.js";

export const ZOOM_LIMITS = [0.02, 40];

/** How a film of rows x cols is turned: film (x, y) is shown at (a x + b y + e, c x + d y + f). */
export function turnedBy(rows, cols, turns, mirrored) {
  let m = mirrored ? { a: -1, b: 0, e: cols, c: 0, d: 1, f: 0 } : { a: 1, b: 0, e: 0, c: 0, d: 1, f: 0 };
  let [width, height] = [cols, rows];
  for (let turn = 0; turn < turns; turn++) {
    m = { a: -m.c, b: -m.d, e: height - m.f, c: m.a, d: m.b, f: m.e }; // (x, y) -> (height - y, x)
    [width, height] = [height, width];
  }
  return { ...m, width, height };
}

/** `level` as a plane for resampling, see resample.js. */
export function turnedPlane({ pixels, rows, cols }, channels, turns, mirrored) {
  const { a, b, e, c, d, f, width, height } = turnedBy(rows, cols, turns, mirrored);
  const stepX = a + b * cols; // one to the right on screen is (a, b) in the film: the matrix is its own transpose's inverse
  const stepY = c + d * cols;
  const x = a * (0.5 - e) + c * (0.5 - f); // of the film pixel shown at the top left
  const y = b * (0.5 - e) + d * (0.5 - f);
  const offset = Math.floor(y) * cols + Math.floor(x);
  return { pixels, channels, rows: height, cols: width, offset, stepX, stepY };
}

export class Geometry {
  constructor(rows, cols) {
    this.rows = rows;
    this.cols = cols;
    this.turns = 0;
    this.mirrored = false;
    this.zoom = 1;
    this.fitted = 1; // the zoom at which the whole film is in view
    this.originX = this.originY = 0;
    this.orient();
  }

  orient() {
    this.turned = turnedBy(this.rows, this.cols, this.turns, this.mirrored);
  }

  /** Film to canvas, and back. */
  toCanvas({ x, y }) {
    const { a, b, e, c, d, f } = this.turned;
    return { x: this.originX + (a * x + b * y + e) * this.zoom, y: this.originY + (c * x + d * y + f) * this.zoom };
  }

  toFilm({ x, y }) {
    const { a, b, e, c, d, f } = this.turned;
    const u = (x - this.originX) / this.zoom - e;
    const v = (y - this.originY) / this.zoom - f;
    return { x: a * u + c * v, y: b * u + d * v };
  }

  fit({ width, height }) {
    this.fitted = Math.min(width / this.turned.width, height / this.turned.height);
    this.place(this.fitted, width, height);
  }

  /** Centre the film at `zoom`. */
  place(zoom, width, height) {
    this.zoom = zoom;
    this.originX = Math.round((width - this.turned.width * zoom) / 2);
    this.originY = Math.round((height - this.turned.height * zoom) / 2);
  }

  zoomAt({ x, y }, factor) {
    const widest = Math.max(ZOOM_LIMITS[1], this.fitted); // a film of a few pixels fits at more
    const zoom = clamp(this.zoom * factor, Math.min(ZOOM_LIMITS[0], this.fitted), widest);
    this.originX = x - ((x - this.originX) / this.zoom) * zoom;
    this.originY = y - ((y - this.originY) / this.zoom) * zoom;
    this.zoom = zoom;
  }

  pan(dx, dy) {
    this.originX += dx;
    this.originY += dy;
  }

  turn(quarters) {
    this.turns = (this.turns + quarters + 4) % 4;
    this.orient();
  }

  /** Mirror what is on screen, left to right. */
  mirror() {
    this.mirrored = !this.mirrored;
    this.turns = (4 - this.turns) % 4;
    this.orient();
  }

  /** What is in the middle of the canvas, as shares of the film as shown, and the zoom beyond fitting: what a film
   * beside this one follows. */
  sight({ width, height }) {
    return {
      across: (width / 2 - this.originX) / (this.turned.width * this.zoom),
      down: (height / 2 - this.originY) / (this.turned.height * this.zoom),
      beyond: this.zoom / this.fitted,
    };
  }

  follow({ across, down, beyond }, { width, height }) {
    this.zoom = this.fitted * beyond;
    this.originX = width / 2 - across * this.turned.width * this.zoom;
    this.originY = height / 2 - down * this.turned.height * this.zoom;
  }

  /** In words, when the film is not shown as stored. */
  words() {
    const turned = ["", "turned 90°", "turned 180°", "turned 270°"][this.turns];
    return [this.mirrored ? "mirrored" : "", turned].filter(Boolean).join(", ");
  }
}
