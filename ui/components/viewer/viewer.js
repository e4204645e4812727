/* The film viewer: one film, or two of the same child side by side, with tools, measures and keys. No dependencies, no
 * build step: __init__.py joins the modules of this folder into one, since a component is a single source. The reasons
 * for a canvas of our own are there too.
 *
 * `data` is described in __init__.py. The page sees on <html data-film-ready> which image is in view, and on
 * <html data-film-gone> which one cannot be shown, for good: only a rejection is possible then. */

import { fetchFilm } from "./films.js";
import { ACTIONS, KeyMap, KeyPanel } from "./keys.js";
import { measureWords, POINTS } from "./measures.js";
import { element } from "./drawing.js";
import { Pane } from "./pane.js";
import { Hand } from "./tools.js";
import { Toolbar } from "./toolbar.js";

const viewers = new WeakMap(); // the element Streamlit gives us -> its Viewer

let inView = null; // the Viewer whose film <html data-film-ready> names

class Viewer {
  constructor(parent) {
    this.root = element("section", "viewer", parent);
    this.root.setAttribute("aria-label", "Film viewer");
    this.panes = element("div", "panes", this.root);
    this.keys = new KeyMap();
    this.tool = "window";
    this.loupe = false;
    this.host = {
      changed: (pane) => this.changed(pane),
      moved: (pane) => this.moved(pane),
      kept: (pane) => pane === this.main && this.keep(pane.kept()),
    };
    this.main = new Pane(this.panes, this.host, this.root);
    this.hands = new Map([[this.main, new Hand(this.main, this)]]);
    this.active = this.main;
    this.bar = new Toolbar(this.root, this);
    this.panel = new KeyPanel(this.root, this.keys, () => this.bar.nameKeys());
    this.status = element("div", "said", this.root);
    this.status.setAttribute("role", "status");
    this.onKey = (event) => this.key(event);
    window.addEventListener("keydown", this.onKey, true); // ahead of Streamlit, for which R means rerun
  }

  destroy() {
    window.removeEventListener("keydown", this.onKey, true);
    if (this.panel.isOpen) this.panel.toggle();
    this.other?.destroy();
    this.main.destroy();
    this.leaveView();
    this.root.remove();
  }

  /** A viewer that is taken down late must not speak for the one that took its place. */
  leaveView() {
    if (inView !== this) return;
    inView = null;
    delete document.documentElement.dataset.filmReady;
    delete document.documentElement.dataset.filmGone;
  }

  /** `keep({image, regions, landmarks})` gives Python what the review stores. */
  show(data, keep) {
    const isNew = data.image !== this.data?.image;
    this.data = data;
    this.keep = keep || (() => {});
    this.root.style.setProperty("--viewer-height", data.height);
    if (data.user !== this.keys.user) this.keys.open(data.user);
    this.keys.setPageKeys(data.keys);
    this.bar.nameKeys();
    if (isNew) this.closeOther();
    if (isNew && this.panel.isOpen) this.panel.toggle();
    this.main.show(data).then(() => this.prefetch());
  }

  prefetch() {
    if (this.main.state !== "ready") return;
    for (const url of this.data.prefetch || []) fetchFilm(url).catch(() => {});
  }

  /** Told by a pane whenever it shows something else. */
  changed(pane) {
    if (pane === this.main) {
      const { dataset } = document.documentElement;
      if (pane.state === "loading" || pane.retry) this.leaveView();
      else {
        inView = this;
        dataset[pane.state === "ready" ? "filmReady" : "filmGone"] = this.data.image;
      }
      if (!this.has(ACTIONS.find(({ id }) => id === this.tool))) this.chooseTool(pane.data.colour ? "pan" : "window");
    }
    if (this.bar && pane === this.active) this.bar.reflect(pane, this.tool, this.loupe, Boolean(this.other));
  }

  /* ------------------------------------------------------------ the film beside */

  openOther(index) {
    const { beside } = this.data;
    if (!this.other) {
      this.other = new Pane(this.panes, this.host);
      this.hands.set(this.other, new Hand(this.other, this));
      const choice = element("select", "beside", this.other.el);
      choice.setAttribute("aria-label", "Film beside");
      choice.append(...beside.map(({ caption }, at) => new Option(caption, at)));
      choice.hidden = beside.length < 2;
      choice.onchange = () => this.openOther(Number(choice.value));
      this.caption = element("div", "hud caption", this.other.stage);
      this.root.dataset.beside = "";
    }
    const film = beside[index];
    this.caption.textContent = beside.length < 2 ? film.caption : "";
    this.other.show(film).then(() => this.moved(this.main));
  }

  closeOther() {
    if (!this.other) return;
    this.hands.delete(this.other);
    this.other.destroy();
    this.other = null;
    delete this.root.dataset.beside;
    this.activate(this.main);
  }

  toggleOther() {
    if (this.other) this.closeOther();
    else this.openOther(0);
    this.changed(this.active);
  }

  /** Two films move together: the same part of each, equally magnified beyond fitting. */
  moved(pane) {
    const follower = pane === this.main ? this.other : this.main;
    if (!follower?.pixels || !pane.pixels) return;
    follower.geometry.follow(pane.geometry.sight(pane.size), follower.size);
    follower.placed(true);
  }

  /** Tools and keys go to the film last touched. */
  activate(pane) {
    if (this.active === pane) return;
    this.active = pane;
    for (const one of [this.main, this.other]) one?.el.classList.toggle("active", one === pane);
    this.changed(pane);
  }

  /* ------------------------------------------------------------ actions */

  /** Whether the film in hand has this action. */
  has({ on }) {
    if (!on) return true;
    const { data } = this.active;
    if (!data) return false;
    return { grey: !data.colour, colour: data.colour, fundus: data.fundus, beside: this.data.beside?.length > 0 }[on];
  }

  act(id) {
    const pane = this.active;
    if (!pane.pixels) return;
    const middle = { x: pane.size.width / 2, y: pane.size.height / 2 };
    const actions = {
      loupe: () => this.toggleLoupe(),
      invert: () => pane.invert(),
      redFree: () => pane.toggleRedFree(),
      turnRight: () => pane.reorient((geometry) => geometry.turn(1)),
      turnLeft: () => pane.reorient((geometry) => geometry.turn(-1)),
      mirror: () => pane.reorient((geometry) => geometry.mirror()),
      upsideDown: () => pane.reorient((geometry) => { geometry.mirror(); geometry.turn(2); }),
      fit: () => pane.fit(),
      actual: () => pane.actual(),
      zoomIn: () => pane.zoomAt(middle, 1.25),
      zoomOut: () => pane.zoomAt(middle, 0.8),
      reset: () => pane.reset(),
      nextWindow: () => pane.nextWindow(1),
      previousWindow: () => pane.nextWindow(-1),
      beside: () => this.toggleOther(),
    };
    if (actions[id]) actions[id]();
    else this.chooseTool(id);
  }

  chooseTool(tool) {
    for (const hand of this.hands?.values() || []) hand.cancelPending();
    this.tool = tool;
    for (const pane of [this.main, this.other]) if (pane) pane.stage.dataset.tool = tool;
    const { name, what } = ACTIONS.find(({ id }) => id === tool);
    if (POINTS[tool]) this.say(`${name}: ${what}`);
    this.active?.drawMarks();
    if (this.bar) this.bar.reflect(this.active, this.tool, this.loupe, Boolean(this.other));
  }

  toggleLoupe() {
    this.loupe = !this.loupe;
    const hand = this.hands.get(this.active);
    if (this.loupe) hand.cursorTo(hand.cursor || { x: this.active.size.width / 2, y: this.active.size.height / 2 }, false);
    else for (const pane of this.hands.keys()) pane.loupeAt = null;
    this.active.draw();
  }

  useWindow(index, byHand) {
    this.active.useWindow(index);
    if (byHand) this.active.stage.focus({ preventScroll: true }); // a list that keeps the focus would swallow the keys
  }

  toggleKeys() {
    this.panel.toggle(this.active.stage);
  }

  say(text) {
    this.status.textContent = text;
  }

  sayMeasure(pane) {
    if (pane.selected) this.say(measureWords(pane.selected, pane.data, pane.pixels));
  }

  /* ------------------------------------------------------------ keyboard */

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    const isOnTop = this.panel.isOpen;
    if (!isOnTop && document.querySelector("[role=dialog]:not(.keymap), [data-testid=stPopoverBody]")) return; // on top
    if (!(isOnTop ? this.panel.key(event) : this.handleKey(event))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  /** Whether the key meant something here. */
  handleKey(event) {
    if (event.key === "?") return this.toggleKeys(), true;
    const failed = [this.main, this.other].find((pane) => pane?.state === "error");
    if (event.key.toUpperCase() === "R" && failed) return failed.load(), true;
    if (!this.active.pixels) return false;
    const action = this.keys.action(event);
    if (action) {
      if (!this.has(action)) return false;
      this.act(action.id);
      if (action.tool || action.id === "loupe") this.active.stage.focus({ preventScroll: true }); // for the arrows
      return true;
    }
    return this.handleFixedKey(event);
  }

  handleFixedKey(event) {
    const pane = this.active;
    const hand = this.hands.get(pane);
    if (event.key === "Escape") return this.giveUp(hand);
    if ((event.key === "Delete" || event.key === "Backspace") && pane.selected) return pane.remove(pane.selected), true;
    if (!event.composedPath().includes(pane.stage)) return false; // elsewhere, arrows and space belong to the page
    if (event.key === " " && POINTS[this.tool]) return hand.pointAtCursor(), true;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    return step ? (hand.arrow(...step, event.shiftKey), true) : false;
  }

  giveUp(hand) {
    if (hand.cancelPending()) return true;
    if (this.loupe) return this.toggleLoupe(), true;
    if (!POINTS[this.tool]) return false;
    this.chooseTool(this.active.data.colour ? "pan" : "window");
    return true;
  }
}

/** Whether the key belongs to a field or list the reader is typing in. */
function isTyping(event) {
  const target = event.composedPath()[0];
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  let viewer = viewers.get(parentElement);
  if (!viewer) {
    viewer = new Viewer(parentElement);
    viewers.set(parentElement, viewer);
  }
  viewer.show(data, setStateValue && ((kept) => setStateValue("kept", kept)));
  return () => {
    viewer.destroy();
    viewers.delete(parentElement);
  };
}
