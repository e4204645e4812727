/* The film viewer: a 16-bit canvas, 8 kB gzipped, no dependencies and no build step.
 *
 * The film arrives once as raw little-endian pixels (uint16 grey, or 8-bit RGB) from `data.url`. Geometry (zoom, pan)
 * resamples it into `view`, a buffer of the canvas's size holding stored values; window/level only maps `view`
 * through a 65,536-entry table, so dragging the window stays at the screen's rate without a GPU.
 *
 * `data` is described in __init__.py beside this file. The root element carries what a test needs to read back:
 * data-state (loading | ready | error), data-image, data-window ("center width", stored values), data-voi, data-zoom
 * (canvas pixels per film pixel), data-origin (canvas position of the film's top left corner), data-inverted. */

const ZOOM_LIMITS = [0.02, 40]; // canvas pixels per film pixel
const viewers = new WeakMap(); // the element Streamlit gives us -> its Viewer

let inView = null; // the Viewer whose film <html data-film-ready> names

/* ---------------------------------------------------------------- the viewer */

const TOOLS = [
  // action, label, key, explanation
  ["window", "Window", "W", "Drag changes window and level"],
  ["pan", "Pan", "P", "Drag moves the film (also right button or Shift)"],
  ["invert", "Invert", "I", "Swap black and white"],
  ["fit", "Fit", "F", "Whole film in view"],
  ["actual", "1:1", "A", "Actual size: one film pixel per screen pixel"],
  ["reset", "Reset", "R", "Window, zoom and inversion as opened"],
];

const VIEWER_KEYS = [
  ["Drag", "window (across) and level (up, down)"],
  ["Wheel, + and -", "zoom at the cursor"],
  ["Shift drag, right drag, arrows", "pan"],
  ["V", "next window named in the file"],
  ...TOOLS.map(([, , key, what]) => [key, what.charAt(0).toLowerCase() + what.slice(1)]),
];

const element = (tag, className, parent, text) => {
  const made = document.createElement(tag);
  made.className = className;
  if (text) made.textContent = text;
  parent?.appendChild(made);
  return made;
};

class Viewer {
  constructor(parent) {
    this.root = element("section", "viewer", parent);
    this.stage = element("div", "stage", this.root);
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "img");
    this.canvas = element("canvas", "film", this.stage);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.message = element("div", "message", this.stage);
    this.message.setAttribute("role", "status");
    this.marker = element("div", "hud marker", this.stage);
    this.probe = element("div", "hud probe", this.stage);
    this.zoomText = element("div", "hud zoom", this.stage);
    this.keyMap = element("div", "keymap", this.root);
    this.keyMap.hidden = true;
    this.buildToolbar();

    this.pointers = new Map();
    this.tool = "window";
    this.size = { width: 0, height: 0 };
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.stage);
    this.listen();
  }

  buildToolbar() {
    this.bar = element("div", "bar", this.root);
    this.bar.setAttribute("role", "toolbar");
    this.bar.setAttribute("aria-label", "Film tools");
    this.buttons = {};
    for (const [action, label, key, what] of TOOLS) {
      const button = element("button", "tool", this.bar, label);
      button.type = "button";
      button.title = `${what} (${key})`;
      element("kbd", "", button, key);
      button.onclick = () => this.act(action);
      this.buttons[action] = button;
    }
    this.presets = element("select", "presets", this.bar);
    this.presets.setAttribute("aria-label", "Window");
    this.presets.title = "Windows named in the file (V)";
    this.presets.onchange = () => this.usePreset(Number(this.presets.value));
    this.windowText = element("output", "window", this.bar);
    this.windowText.setAttribute("aria-live", "off");
    const help = element("button", "tool help", this.bar, "Keys");
    help.type = "button";
    element("kbd", "", help, "?");
    help.onclick = () => this.toggleKeyMap();
  }

  listen() {
    const { stage } = this;
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("pointerdown", (event) => this.pointerDown(event));
    stage.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    stage.addEventListener("pointerleave", () => (this.probe.textContent = ""));
    stage.addEventListener("dblclick", () => this.act("fit"));
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.onKey = (event) => this.key(event);
    window.addEventListener("keydown", this.onKey, true); // ahead of Streamlit, for which R means rerun
  }

  destroy() {
    this.observer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    this.leaveView();
    this.root.remove();
  }

  /** A viewer that is taken down late must not speak for the one that took its place. */
  leaveView() {
    if (inView !== this) return;
    inView = null;
    delete document.documentElement.dataset.filmReady;
  }

  /* ------------------------------------------------------------ loading */

  async show(data) {
    this.data = data;
    this.root.style.setProperty("--viewer-height", data.height);
    this.stage.setAttribute("aria-label", data.label);
    this.marker.textContent = data.marker || "";
    if (data.url === this.url) return this.prefetch();
    this.url = data.url;
    await this.load();
  }

  async load() {
    const { data, url } = this;
    this.pixels = null;
    this.view = null;
    this.blank();
    this.root.dataset.image = data.image;
    this.setState("loading", "Loading film");
    try {
      const bytes = await film(url);
      if (url !== this.url) return; // the reader has gone on to another case
      this.open(bytes, data);
    } catch (error) {
      if (url === this.url) this.setState("error", `Pixels are gone: ${error.message}`);
      return;
    }
    this.prefetch();
  }

  prefetch() {
    if (this.data.prefetch && this.root.dataset.state === "ready") film(this.data.prefetch).catch(() => {});
  }

  open(bytes, data) {
    const expected = data.rows * data.cols * (data.colour ? 3 : 2);
    if (bytes.byteLength !== expected) {
      throw new Error(`${bytes.byteLength} bytes arrived where ${data.cols} x ${data.rows} needs ${expected}`);
    }
    this.pixels = data.colour ? new Uint8Array(bytes) : new Uint16Array(bytes);
    this.levels = [{ pixels: this.pixels, rows: data.rows, cols: data.cols }];
    this.shown = data.background === null ? null : [{ ...this.levels[0], pixels: this.pixels.map((v) => (v ? 255 : 0)) }];
    this.vois = data.vois.map((voi) => (voi.kind === "lut" ? { ...voi, lut: bytesOfBase64(voi.lut) } : voi));
    const byHand = new Option("by hand", -1);
    byHand.hidden = true;
    this.presets.replaceChildren(...this.vois.map((voi, index) => new Option(voi.name, index)), byHand);
    this.presets.hidden = this.windowText.hidden = this.buttons.window.hidden = data.colour;
    if (data.colour) this.chooseTool("pan");
    else this.chooseTool("window");
    this.setState("ready", "");
    this.reset();
  }

  /** The page sees on <html data-film-ready> which image is in view: nobody decides about a film not yet drawn. */
  setState(state, message) {
    this.root.dataset.state = state;
    if (state === "ready") {
      inView = this;
      document.documentElement.dataset.filmReady = this.data.image;
    } else this.leaveView();
    this.message.textContent = message;
    this.stage.setAttribute("aria-busy", String(state === "loading"));
  }

  blank() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.probe.textContent = this.zoomText.textContent = "";
  }

  /* ------------------------------------------------------------ geometry */

  resized() {
    const box = this.stage.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * this.ratio));
    const height = Math.max(1, Math.round(box.height * this.ratio));
    if (width === this.size.width && height === this.size.height) return;
    this.size = { width, height };
    this.canvas.width = width;
    this.canvas.height = height;
    this.picture = this.context.createImageData(width, height);
    this.blank();
    if (this.pixels) this.fit();
  }

  fit() {
    const { rows, cols } = this.data;
    this.place(Math.min(this.size.width / cols, this.size.height / rows));
  }

  /** Centre the film at `zoom`. */
  place(zoom) {
    this.zoom = zoom;
    this.originX = Math.round((this.size.width - this.data.cols * zoom) / 2);
    this.originY = Math.round((this.size.height - this.data.rows * zoom) / 2);
    this.geometryChanged();
  }

  zoomAt(x, y, factor) {
    const zoom = clamp(this.zoom * factor, ...ZOOM_LIMITS);
    this.originX = x - ((x - this.originX) / this.zoom) * zoom;
    this.originY = y - ((y - this.originY) / this.zoom) * zoom;
    this.zoom = zoom;
    this.geometryChanged();
  }

  pan(dx, dy) {
    this.originX += dx;
    this.originY += dy;
    this.geometryChanged();
  }

  geometryChanged() {
    this.view = null;
    this.draw();
  }

  /* ------------------------------------------------------------ grey levels */

  reset() {
    this.inverted = false;
    if (!this.data.colour) this.usePreset(0);
    this.fit();
  }

  usePreset(index) {
    this.presets.value = String(index);
    this.setVoi(this.vois[index], this.vois[index].name);
  }

  nextPreset() {
    this.usePreset((Number(this.presets.value) + 1) % this.vois.length);
  }

  setVoi(voi, name) {
    this.voi = voi;
    this.voiName = name;
    this.table = null;
    this.draw();
  }

  dragWindow(dx, dy) {
    const voi = asWindow(this.voi);
    const opened = asWindow(this.vois[0]);
    const step = Math.max(opened.width, 2) / (360 * this.ratio); // stored values per canvas pixel
    this.presets.value = "-1";
    this.setVoi(
      { kind: voi.kind, center: voi.center + dy * step, width: clamp(voi.width + dx * step, 1, 2 * MAX_STORED) },
      "by hand",
    );
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
    const { colour } = this.data;
    if (!this.view) this.resampleView();
    const out = new Uint32Array(this.picture.data.buffer);
    const flip = colour && this.inverted ? 255 : 0;
    if (!colour && !this.table) {
      this.table = greyTable(this.voi, this.inverted !== this.data.inverted, this.data.background);
    }
    const { view, table } = this;
    const left = this.across.first.findIndex((at) => at >= 0);
    const right = width - [...this.across.first].reverse().findIndex((at) => at >= 0);
    out.fill(0xff000000);
    for (let y = 0; y < height; y++) {
      if (this.down.first[y] < 0 || left < 0) continue;
      for (let o = y * width + left, end = y * width + right; o < end; o++) {
        if (colour) {
          out[o] = 0xff000000 | ((view[3 * o + 2] ^ flip) << 16) | ((view[3 * o + 1] ^ flip) << 8) | (view[3 * o] ^ flip);
        } else {
          const grey = table[view[o]];
          out[o] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
        }
      }
    }
    this.context.putImageData(this.picture, 0, 0);
    this.describe();
  }

  resampleView() {
    const channels = this.data.colour ? 3 : 1;
    let level = 0;
    while (this.zoom * 2 ** (level + 1) <= 1) level++;
    const atLevel = (levels) => {
      while (levels.length <= level) levels.push(halved(levels.at(-1), channels));
      return levels[level];
    };
    const film = atLevel(this.levels);
    const zoom = this.zoom * 2 ** level;
    const { width, height } = this.size;
    this.across = taps(width, this.originX, zoom, film.cols);
    this.down = taps(height, this.originY, zoom, film.rows);
    const plane = (source) => {
      const out = new source.pixels.constructor(width * height * channels);
      for (let channel = 0; channel < channels; channel++) {
        resample(source, channels, channel, this.across, this.down, this.size, out);
      }
      return out;
    };
    this.view = plane(film);
    if (this.shown) keepBackgroundApart(this.view, plane(atLevel(this.shown)));
  }

  /** What is drawn, in words beside the film and as attributes on the root. */
  describe() {
    const { dataset } = this.root;
    const { slope, intercept, colour } = this.data;
    if (!colour) {
      const { kind, center, width } = asWindow(this.voi);
      dataset.window = `${center} ${width}`;
      dataset.voi = this.voiName;
      const half = kind === "linear" ? 0.5 : 0; // a linear window's half-pixel terms do not scale with the slope
      const level = Math.round((center - half) * slope + intercept + half);
      const span = Math.round((width - 2 * half) * slope + 2 * half);
      this.windowText.textContent = this.voi.kind === "lut" ? "table from the file" : `L ${level}  W ${span}`;
    }
    dataset.zoom = this.zoom;
    dataset.origin = `${this.originX} ${this.originY}`;
    dataset.inverted = this.inverted;
    this.buttons.invert.setAttribute("aria-pressed", String(this.inverted));
    this.zoomText.textContent = `${Math.round(this.zoom * 100)} %`;
  }

  /* ------------------------------------------------------------ hand and keyboard */

  /** Pointer position in canvas pixels. */
  at(event) {
    const box = this.stage.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }

  pointerDown(event) {
    if (!this.pixels) return;
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const [x, y] = this.at(event);
    this.pointers.set(event.pointerId, { x, y });
    this.dragTool = event.button > 0 || event.shiftKey ? "pan" : this.tool;
  }

  pointerMove(event) {
    if (!this.pixels) return;
    const [x, y] = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.probeAt(x, y);
    this.pointers.set(event.pointerId, { x, y });
    if (this.pointers.size === 2) return this.pinch(event.pointerId, before, { x, y });
    if (this.dragTool === "pan") this.pan(x - before.x, y - before.y);
    else this.dragWindow(x - before.x, y - before.y);
  }

  /** Two fingers: the film follows them, both in place and in size. */
  pinch(moved, before, now) {
    const [other] = [...this.pointers].filter(([id]) => id !== moved).map(([, point]) => point);
    const reach = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoomAt((now.x + other.x) / 2, (now.y + other.y) / 2, reach(now) / reach(before));
  }

  wheel(event) {
    if (!this.pixels) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    this.zoomAt(...this.at(event), Math.exp(-lines * 0.0015));
  }

  probeAt(x, y) {
    const col = Math.floor((x - this.originX) / this.zoom);
    const row = Math.floor((y - this.originY) / this.zoom);
    const { rows, cols, colour, slope, intercept } = this.data;
    if (col < 0 || row < 0 || col >= cols || row >= rows) {
      this.probe.textContent = "";
      return;
    }
    const at = row * cols + col;
    const value = colour ? this.pixels.slice(3 * at, 3 * at + 3).join(" ") : +(this.pixels[at] * slope + intercept).toFixed(1);
    this.probe.textContent = `x ${col}  y ${row}  value ${value}`;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || !this.handleKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Whether the key meant something here. */
  handleKey(event) {
    const key = event.key.toUpperCase();
    if (key === "?" || (key === "ESCAPE" && !this.keyMap.hidden)) return this.toggleKeyMap(), true;
    if (key === "R" && this.root.dataset.state === "error") return this.load(), true;
    if (!this.pixels) return false;
    const tool = TOOLS.find(([action, , itsKey]) => itsKey === key && !this.buttons[action].hidden);
    if (tool) return this.act(tool[0]), true;
    if (key === "V" && !this.data.colour) return this.nextPreset(), true;
    const middle = [this.size.width / 2, this.size.height / 2];
    if (key === "+" || key === "=") return this.zoomAt(...middle, 1.25), true;
    if (key === "-") return this.zoomAt(...middle, 0.8), true;
    const step = { ARROWLEFT: [1, 0], ARROWRIGHT: [-1, 0], ARROWUP: [0, 1], ARROWDOWN: [0, -1] }[key];
    if (!step || !event.composedPath().includes(this.root)) return false; // elsewhere, arrows belong to the page
    return this.pan(...step.map((direction) => direction * 60 * this.ratio)), true;
  }

  act(action) {
    if (!this.pixels) return;
    if (action === "invert") {
      this.inverted = !this.inverted;
      this.table = null;
      this.draw();
    } else if (action === "fit") this.fit();
    else if (action === "actual") this.place(1);
    else if (action === "reset") this.reset();
    else this.chooseTool(action);
  }

  chooseTool(tool) {
    this.tool = tool;
    for (const name of ["window", "pan"]) this.buttons[name].setAttribute("aria-pressed", String(name === tool));
    this.stage.dataset.tool = tool;
  }

  toggleKeyMap() {
    this.keyMap.hidden = !this.keyMap.hidden;
    if (this.keyMap.hidden) return;
    this.keyMap.replaceChildren();
    for (const [title, keys] of [["Case", this.data.keys || []], ["Film", VIEWER_KEYS]]) {
      if (!keys.length) continue;
      const list = element("dl", "", this.keyMap);
      element("h2", "", list, title);
      for (const [key, what] of keys) {
        const line = element("div", "", list);
        element("kbd", "", element("dt", "", line), key);
        element("dd", "", line, what);
      }
    }
    this.keyMap.onclick = () => this.toggleKeyMap();
  }
}

/** Whether the key belongs to a field or list the reader is typing in. */
function isTyping(event) {
  const target = event.composedPath()[0];
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

export default function (component) {
  const { data, parentElement } = component;
  let viewer = viewers.get(parentElement);
  if (!viewer) {
    viewer = new Viewer(parentElement);
    viewers.set(parentElement, viewer);
  }
  viewer.show(data);
  return () => {
    viewer.destroy();
    viewers.delete(parentElement);
  };
}
