/* One film on its canvas. The film arrives once as raw little-endian pixels (uint16 grey, or 8-bit RGB); geometry
 * resamples it into `view`, a buffer of the canvas's size holding stored values; window and level only map `view`
 * through a table of 65,536 grey levels, so that dragging the window stays at the screen's rate without a GPU.
 *
 * `carrier`, an element, says as attributes what is drawn: data-state (loading | ready | error), data-image, data-window
 * ("center width", stored values), data-voi, data-zoom (canvas pixels per film pixel), data-origin (canvas position of
 * the film's top left corner), data-turned, data-inverted. */

import { fetchFilm } from "./films.js";
import { asWindow, clamp, computedWindows, greyPixels, MAX_STORED, openVoi } from "./grey.js";
import { Geometry, turnedPlane } from "./geometry.js";
import { covered, halved, keepBackgroundApart, resample, taps } from "./resample.js";
import { fromKept, inFilm, toKeep } from "./measures.js";
import { drawMeasures, element, shape } from "./drawing.js";

const RETRY_AFTER_S = [1, 2, 4, 8, 15]; // then every 15 s
const COMPUTED = ["Bone", "Soft tissue", "Full range"];
const LOUPE = { size: 240, magnifies: 2.5 }; // CSS pixels across; times the zoom in view, at least 1:1

export class Pane {
  /** `host` is told: changed(pane), moved(pane), kept(pane), say(text). */
  constructor(parent, host, carrier) {
    this.host = host;
    this.el = element("div", "pane", parent);
    this.carrier = carrier || this.el;
    this.stage = element("div", "stage", this.el);
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "group");
    this.canvas = element("canvas", "film", this.stage);
    this.canvas.setAttribute("role", "img");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.svg = shape("svg", { class: "marks", "aria-hidden": "true" }, this.stage);
    this.labels = element("div", "labels", this.stage);
    this.loupe = element("canvas", "loupe", this.stage);
    this.loupe.hidden = true;
    this.message = element("div", "message", this.stage);
    this.message.setAttribute("role", "status");
    this.marker = element("div", "hud marker", this.stage);
    this.probe = element("div", "hud probe", this.stage);
    this.placeText = element("div", "hud zoom", this.stage);
    this.size = { width: 0, height: 0 };
    this.measures = [];
    this.observer = new ResizeObserver((entries) => this.resized(entries.at(-1)));
    try {
      this.observer.observe(this.stage, { box: "device-pixel-content-box" }); // also when only the screen's ratio changes
    } catch {
      this.observer.observe(this.stage); // Safari
    }
    this.online = () => this.retry && this.load();
    window.addEventListener("online", this.online);
  }

  destroy() {
    this.observer.disconnect();
    window.removeEventListener("online", this.online);
    clearTimeout(this.retry);
    cancelAnimationFrame(this.frame);
    this.url = null;
    this.el.remove();
  }

  /* ------------------------------------------------------------ loading */

  /** `data` as in __init__.py. The same film again keeps its window, place and measures. */
  show(data) {
    this.data = data;
    this.stage.setAttribute("aria-label", `Film: ${data.label}`);
    this.canvas.setAttribute("aria-label", data.label);
    this.marker.textContent = data.marker || "";
    if (data.url === this.url) return Promise.resolve();
    this.url = data.url;
    this.attempts = 0;
    return this.load();
  }

  async load() {
    const { data, url } = this;
    clearTimeout(this.retry);
    this.retry = 0;
    this.pixels = this.view = this.pending = this.selected = this.crosshair = null;
    this.measures = [];
    this.blank();
    this.carrier.dataset.image = data.image;
    this.setState("loading", "Loading film");
    try {
      const bytes = await fetchFilm(url);
      if (url !== this.url) return; // the reader has gone on to another case
      this.open(bytes, data);
    } catch (error) {
      if (url === this.url) this.failed(error);
    }
  }

  failed(error) {
    const wait = error.again ? RETRY_AFTER_S[Math.min(this.attempts, RETRY_AFTER_S.length - 1)] : null;
    this.attempts++;
    if (wait) this.retry = setTimeout(() => this.load(), wait * 1000);
    this.setState("error", wait ? `${error.message} Trying again in ${wait} s.` : error.message);
    const button = element("button", "again", this.message, "Try again");
    button.type = "button";
    element("kbd", "", button, "R");
    button.onclick = () => this.load();
  }

  open(bytes, data) {
    const expected = data.rows * data.cols * (data.colour ? 3 : 2);
    if (bytes.byteLength !== expected) {
      const came = `${bytes.byteLength} bytes arrived where ${data.cols} x ${data.rows} needs ${expected}.`;
      throw new Error(`The film is not whole: ${came} Reject it as not readable if this stays.`);
    }
    this.pixels = data.colour ? new Uint8Array(bytes) : new Uint16Array(bytes);
    this.levels = [{ pixels: this.pixels, rows: data.rows, cols: data.cols }];
    this.shown = data.background === null ? null : [{ ...this.levels[0], pixels: this.pixels.map((v) => (v ? 255 : 0)) }];
    this.geometry = new Geometry(data.rows, data.cols);
    this.vois = data.vois.map(openVoi);
    this.computed = null;
    this.measures = fromKept(data.kept || {});
    this.attempts = 0;
    this.reset();
    this.setState("ready", "");
  }

  setState(state, message) {
    this.state = this.carrier.dataset.state = state;
    this.message.textContent = message;
    this.stage.setAttribute("aria-busy", String(state === "loading"));
    this.host.changed(this);
  }

  blank() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.probe.textContent = this.placeText.textContent = "";
    this.loupe.hidden = true;
    this.svg.replaceChildren();
    this.labels.replaceChildren();
  }

  /* ------------------------------------------------------------ geometry */

  resized(entry) {
    const exact = entry?.devicePixelContentBoxSize?.[0]; // whole device pixels, also at a ratio of 1.25
    const box = this.stage.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    const whole = (length, told) => Math.max(1, Math.abs(told - length) <= 1 ? told : Math.round(length));
    const width = whole(box.width * this.ratio, exact?.inlineSize);
    const height = whole(box.height * this.ratio, exact?.blockSize);
    if (width === this.size.width && height === this.size.height) return;
    const wasFitted = !this.pixels || this.geometry.zoom === this.geometry.fitted || this.size.width < 2;
    const sight = wasFitted ? null : this.geometry.sight(this.size);
    this.size = { width, height };
    this.canvas.width = width;
    this.canvas.height = height;
    this.picture = this.context.createImageData(width, height);
    this.out = new Uint32Array(this.picture.data.buffer);
    this.blank();
    if (!this.pixels) return;
    this.geometry.fit(this.size);
    if (sight) this.geometry.follow(sight, this.size);
    this.placed();
  }

  /** After any change of `geometry`. */
  placed(isFollowing = false) {
    this.view = null;
    this.draw();
    if (!isFollowing) this.host.moved(this);
  }

  fit() {
    this.geometry.fit(this.size);
    this.placed();
  }

  actual() {
    this.geometry.place(1, this.size.width, this.size.height);
    this.placed();
  }

  zoomAt(point, factor) {
    this.geometry.zoomAt(point, factor);
    this.placed();
  }

  pan(dx, dy) {
    this.geometry.pan(dx, dy);
    this.placed();
  }

  /** Turned or mirrored, the film is brought into view whole. */
  reorient(change) {
    change(this.geometry);
    this.fit();
  }

  toScreen(point) {
    const { x, y } = this.geometry.toCanvas(point);
    return { x: x / this.ratio, y: y / this.ratio };
  }

  screenPerPixel() {
    return this.geometry.zoom / this.ratio;
  }

  screenSize() {
    return { width: this.size.width / this.ratio, height: this.size.height / this.ratio };
  }

  /* ------------------------------------------------------------ grey levels */

  reset() {
    this.inverted = this.redFree = false;
    this.geometry.turns = 0;
    this.geometry.mirrored = false;
    this.geometry.orient();
    if (!this.data.colour) this.useWindow(0);
    this.fit();
  }

  /** Names of the file's windows, then those computed from the film. */
  windowNames() {
    return [...this.vois.map(({ name }) => name), ...COMPUTED];
  }

  useWindow(index) {
    this.windowIndex = index;
    if (index >= this.vois.length) {
      this.computed ||= computedWindows(this.pixels, this.data.inverted, this.data.background);
      this.setVoi(this.computed[index - this.vois.length]);
    } else this.setVoi(this.vois[index]);
  }

  nextWindow(step) {
    const count = this.vois.length + COMPUTED.length;
    this.useWindow(this.windowIndex < 0 ? 0 : (this.windowIndex + step + count) % count);
  }

  setVoi(voi) {
    this.voi = voi;
    this.table = null;
    this.draw();
  }

  dragWindow(dx, dy) {
    if (this.data.colour) return;
    const { kind, center, width } = asWindow(this.voi);
    const opened = asWindow(this.vois[0]);
    const step = Math.max(opened.width, 2) / (360 * this.ratio); // stored values per canvas pixel
    this.windowIndex = -1;
    const dragged = { center: center + dy * step, width: clamp(width + dx * step, 1, 2 * MAX_STORED) };
    this.setVoi({ name: "by hand", kind, ...dragged });
  }

  invert() {
    this.inverted = !this.inverted;
    this.table = null;
    this.draw();
  }

  toggleRedFree() {
    this.redFree = !this.redFree;
    this.draw();
  }

  /* ------------------------------------------------------------ drawing */

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.pixels && this.size.width > 1) this.paint();
    });
  }

  paint() {
    const { width, height } = this.size;
    const isMoved = !this.view;
    if (isMoved) {
      this.resampleView();
      this.out.fill(0xff000000);
      this.drawMarks();
    }
    const [left, right] = covered(this.across);
    const [top, bottom] = covered(this.down);
    const map = this.mapper();
    for (let y = top; y < bottom; y++) map(this.view, this.out, y * width + left, y * width + right);
    if (isMoved) this.context.putImageData(this.picture, 0, 0, 0, 0, width, height);
    else this.context.putImageData(this.picture, 0, 0, left, top, right - left, bottom - top);
    this.drawLoupe();
    this.describe();
  }

  /** A function that maps view[from, to) to canvas pixels. */
  mapper() {
    if (!this.data.colour) {
      this.table ||= greyPixels(this.voi, this.inverted !== this.data.inverted, this.data.background);
      const { table } = this;
      return (view, out, from, to) => {
        for (let o = from; o < to; o++) out[o] = table[view[o]];
      };
    }
    const flip = this.inverted ? 0xffffff : 0;
    if (this.redFree) {
      return (view, out, from, to) => {
        for (let o = from; o < to; o++) out[o] = 0xff000000 | ((view[3 * o + 1] * 0x010101) ^ flip);
      };
    }
    return (view, out, from, to) => {
      for (let o = from; o < to; o++) {
        out[o] = 0xff000000 | (((view[3 * o + 2] << 16) | (view[3 * o + 1] << 8) | view[3 * o]) ^ flip);
      }
    };
  }

  resampleView() {
    const { zoom, originX, originY } = this.geometry;
    const { across, down, view } = this.resampled(zoom, originX, originY, this.size);
    Object.assign(this, { across, down, view });
  }

  /** The film's values on a grid of canvas pixels. */
  resampled(zoom, originX, originY, { width, height }) {
    const channels = this.data.colour ? 3 : 1;
    let level = 0;
    const halves = ({ rows, cols }) => rows > 1 && cols > 1;
    const atLevel = (levels) => {
      while (levels.length <= level) levels.push(halved(levels.at(-1), channels));
      return levels[level];
    };
    while (zoom * 2 ** (level + 1) <= 1 && halves(atLevel(this.levels))) level++;
    const { turns, mirrored } = this.geometry;
    const plane = turnedPlane(atLevel(this.levels), channels, turns, mirrored);
    const across = taps(width, originX, zoom * 2 ** level, plane.cols);
    const down = taps(height, originY, zoom * 2 ** level, plane.rows);
    const view = resample(plane, across, down, width, height);
    if (this.shown) {
      const shown = turnedPlane(atLevel(this.shown), channels, turns, mirrored);
      keepBackgroundApart(view, resample(shown, across, down, width, height));
    }
    return { across, down, view };
  }

  drawMarks() {
    if (this.pixels) drawMeasures(this);
  }

  drawLoupe() {
    const at = this.loupeAt;
    this.loupe.hidden = !at;
    if (!at) return;
    const side = Math.round(LOUPE.size * this.ratio);
    if (this.loupe.width !== side) this.loupe.width = this.loupe.height = side;
    const zoom = Math.max(1, this.geometry.zoom * LOUPE.magnifies);
    const scale = zoom / this.geometry.zoom;
    const origin = (place, from) => side / 2 - (place - from) * scale;
    const originX = origin(at.x, this.geometry.originX);
    const originY = origin(at.y, this.geometry.originY);
    const { view } = this.resampled(zoom, originX, originY, { width: side, height: side });
    const context = this.loupe.getContext("2d", { alpha: false });
    const picture = context.createImageData(side, side);
    this.mapper()(view, new Uint32Array(picture.data.buffer), 0, side * side);
    context.putImageData(picture, 0, 0);
    const half = LOUPE.size / 2;
    this.loupe.style.transform = `translate(${at.x / this.ratio - half}px, ${at.y / this.ratio - half}px)`;
  }

  /** What is drawn, in words beside the film and as attributes. */
  describe() {
    const { dataset } = this.carrier;
    const { zoom, originX, originY, turns, mirrored } = this.geometry;
    if (!this.data.colour) {
      const { center, width } = asWindow(this.voi);
      dataset.window = `${center} ${width}`;
      dataset.voi = this.voi.name;
    }
    dataset.zoom = zoom;
    dataset.origin = `${originX} ${originY}`;
    dataset.turned = `${turns * 90}${mirrored ? " mirrored" : ""}`;
    dataset.inverted = this.inverted;
    this.placeText.textContent = [this.geometry.words(), `${Math.round(zoom * 100)} %`].filter(Boolean).join(" · ");
    this.host.changed(this);
  }

  /** Level and width in the file's unit. */
  windowWords() {
    if (this.voi.kind === "lut") return "table from the file";
    const { kind, center, width } = this.voi;
    const { slope, intercept } = this.data;
    const half = kind === "linear" ? 0.5 : 0; // a linear window's half-pixel terms do not scale with the slope
    const level = Math.round((center - half) * slope + intercept + half);
    return `L ${level}  W ${Math.round((width - 2 * half) * slope + 2 * half)}`;
  }

  probeAt(point) {
    const film = this.geometry.toFilm(point);
    const [col, row] = [Math.floor(film.x), Math.floor(film.y)];
    const { rows, cols, colour, slope, intercept } = this.data;
    if (col < 0 || row < 0 || col >= cols || row >= rows) {
      this.probe.textContent = "";
      return;
    }
    const at = row * cols + col;
    const value = colour ? this.pixels.slice(3 * at, 3 * at + 3).join(" ") : +(this.pixels[at] * slope + intercept).toFixed(1);
    this.probe.textContent = `x ${col}  y ${row}  value ${value}`;
  }

  /* ------------------------------------------------------------ measures */

  add(measure) {
    if (measure.kind === "zones") this.measures = this.measures.filter(({ kind }) => kind !== "zones"); // one pair an eye
    this.measures.push(measure);
    this.selected = measure;
    this.measuresChanged();
  }

  remove(measure) {
    this.measures = this.measures.filter((one) => one !== measure);
    if (this.selected === measure) this.selected = this.measures.at(-1) || null;
    this.measuresChanged();
  }

  measuresChanged() {
    this.drawMarks();
    this.host.kept(this);
  }

  kept() {
    return toKeep(this.measures, this.data);
  }

  filmPoint(point) {
    return inFilm(this.geometry.toFilm(point), this.data);
  }
}
