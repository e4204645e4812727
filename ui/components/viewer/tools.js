/* What a hand does on a film: mouse, pen, one finger or two, and the arrow keys. */

import { distance, POINTS, zoneRadii } from "./measures.js";
import { handlesOf } from "./drawing.js";

const NEAR = 10; // CSS pixels: close enough to take hold of a handle
const CLICK = 4; // CSS pixels: a shorter drag is a click
const ZOOM_PER_WHEEL_PIXEL = 0.0015;

/** Listens on one pane. `viewer` has tool, loupe, activate(pane), say(text). Places are in canvas pixels. */
export class Hand {
  constructor(pane, viewer) {
    this.pane = pane;
    this.viewer = viewer;
    this.pointers = new Map();
    const { stage } = pane;
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", (event) => this.up(event, true));
    stage.addEventListener("pointerleave", () => this.left());
    stage.addEventListener("focus", () => viewer.activate(pane));
    stage.addEventListener("dblclick", () => !POINTS[viewer.tool] && pane.pixels && pane.fit());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at(event) {
    const box = this.pane.stage.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.pane.ratio, y: (event.clientY - box.top) * this.pane.ratio };
  }

  down(event) {
    const { pane, viewer } = this;
    if (!pane.pixels || event.target.closest("button")) return;
    event.preventDefault();
    viewer.activate(pane);
    pane.stage.focus({ preventScroll: true });
    pane.stage.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) return this.cancelPending(); // a second finger: it was not a point after all
    this.pressed = at;
    this.cursorTo(at, false);
    const panning = event.button > 0 || event.shiftKey;
    this.held = panning ? null : this.handleAt(at);
    if (this.held) {
      pane.selected = this.held.measure;
      pane.dragging = true;
      pane.drawMarks();
    }
    this.drag = this.held ? "handle" : panning ? "pan" : viewer.tool;
    if (POINTS[this.drag]) this.point(at);
  }

  move(event) {
    const { pane } = this;
    if (!pane.pixels) return;
    const now = this.at(event);
    const before = this.pointers.get(event.pointerId);
    this.cursorTo(now, false);
    if (!before) return;
    this.pointers.set(event.pointerId, now);
    if (this.pointers.size === 2) return this.pinch(event.pointerId, before, now);
    if (this.pointers.size > 2 || !this.drag) return;
    if (this.drag === "handle") this.moveHandle(now);
    else if (this.drag === "window") pane.dragWindow(now.x - before.x, now.y - before.y);
    else if (!POINTS[this.drag]) pane.pan(now.x - before.x, now.y - before.y);
  }

  up(event, cancelled = false) {
    const { pane } = this;
    const at = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!at || !this.drag) return;
    if (this.drag === "handle") {
      pane.dragging = false;
      pane.measuresChanged();
      this.viewer.sayMeasure(pane);
    } else if (pane.pending && !cancelled && distance(at, this.pressed) > CLICK * pane.ratio) this.point(at);
    this.drag = this.held = null;
  }

  left() {
    this.pane.probe.textContent = "";
    this.pane.loupeAt = null;
    this.pane.loupe.hidden = true;
  }

  wheel(event) {
    if (!this.pane.pixels) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    this.pane.zoomAt(this.at(event), Math.exp(-lines * ZOOM_PER_WHEEL_PIXEL));
  }

  /** Two fingers: the film follows them, both in place and in size. */
  pinch(moved, before, now) {
    const [other] = [...this.pointers].filter(([id]) => id !== moved).map(([, point]) => point);
    const reach = (point) => Math.max(1, distance(point, other));
    this.drag = null;
    this.pane.geometry.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.pane.zoomAt({ x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 }, reach(now) / reach(before));
  }

  /* ------------------------------------------------------------ the cursor, by hand or by key */

  cursorTo(at, byKey) {
    const { pane } = this;
    this.cursor = at;
    pane.probeAt(at);
    pane.loupeAt = this.viewer.loupe ? at : null;
    if (this.viewer.loupe) pane.draw();
    const crosshair = byKey ? { x: at.x / pane.ratio, y: at.y / pane.ratio } : null;
    const changed = crosshair || pane.crosshair || pane.pending;
    pane.crosshair = crosshair;
    if (pane.pending) pane.pending.hover = pane.filmPoint(at);
    if (changed) pane.drawMarks();
  }

  /** An arrow key does what dragging does; with a measuring tool or the magnifier it moves the cursor. */
  arrow(dx, dy, isFar) {
    const { pane, viewer } = this;
    const far = isFar ? 10 : 1;
    if (POINTS[viewer.tool] || viewer.loupe) {
      const from = this.cursor || { x: pane.size.width / 2, y: pane.size.height / 2 };
      const step = 2 * far * pane.ratio;
      const within = (value, limit) => Math.min(limit - 1, Math.max(0, value));
      const at = { x: within(from.x + dx * step, pane.size.width), y: within(from.y + dy * step, pane.size.height) };
      this.cursorTo(at, true);
    } else if (viewer.tool === "window") pane.dragWindow(dx * 4 * far * pane.ratio, dy * 4 * far * pane.ratio);
    else pane.pan(-dx * 40 * far * pane.ratio, -dy * 40 * far * pane.ratio);
  }

  /** The space bar: a point where the cursor is. */
  pointAtCursor() {
    if (!this.cursor) this.arrow(0, 0, false);
    this.point(this.cursor);
  }

  /* ------------------------------------------------------------ measures */

  point(at) {
    const { pane, viewer } = this;
    const kind = viewer.tool;
    const point = pane.filmPoint(at);
    pane.pending ||= { kind, points: [] };
    const { points } = pane.pending;
    if (points.length && distance(points.at(-1), point) < 1e-6) return; // the same place twice
    points.push(point);
    if (points.length < POINTS[kind]) {
      if (kind === "zones") viewer.say("Disc set. Now the centre of the fovea.");
      return pane.drawMarks();
    }
    pane.pending = null;
    pane.add({ kind, points });
    viewer.sayMeasure(pane);
  }

  cancelPending() {
    this.drag = null;
    if (!this.pane.pending) return false;
    this.pane.pending = null;
    this.pane.drawMarks();
    return true;
  }

  handleAt(at) {
    const { pane } = this;
    if (pane.pending) return null;
    const near = NEAR * pane.ratio;
    let best = null;
    for (const measure of pane.measures) {
      for (const { point, index } of handlesOf(measure)) {
        const away = distance(pane.geometry.toCanvas(point), at);
        if (away <= near && (!best || away < best.away)) best = { measure, index, away };
      }
    }
    return best || this.zoneEdgeAt(at, near);
  }

  /** Zone II can be taken hold of all along its edge: its handle may lie outside the picture. */
  zoneEdgeAt(at, near) {
    const { measures, geometry } = this.pane;
    const measure = measures.find(({ kind }) => kind === "zones");
    if (!measure) return null;
    const away = distance(geometry.toFilm(at), measure.points[0]) - zoneRadii(measure).two;
    return Math.abs(away) * geometry.zoom <= near / 2 ? { measure, index: "edge" } : null;
  }

  moveHandle(at) {
    const { measure, index } = this.held;
    if (index === "edge") measure.edge = this.pane.geometry.toFilm(at); // the ora may lie outside the photograph
    else measure.points[index] = this.pane.filmPoint(at);
    this.pane.drawMarks();
  }
}

