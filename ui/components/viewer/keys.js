/* Everything the viewer can do, its keys, and the map of them that opens with ?.
 *
 * Each reader may give an action another key; the choice stays in this browser (localStorage). A key that the page uses,
 * that another action has, or that has a fixed meaning is refused, with the reason. */

import { element } from "./drawing.js";

// `tool`: it stays chosen and says what dragging does. `on`: which films have it; without, every film.
// `icon` puts it into the toolbar, `group` parts the toolbar.
export const ACTIONS = [
  { id: "window", key: "W", name: "Window", what: "drag across for width, up and down for level", tool: true, on: "grey", icon: true, group: 1 },
  { id: "pan", key: "P", name: "Pan", what: "drag moves the film", tool: true, icon: true, group: 1 },
  { id: "loupe", key: "G", name: "Magnifier", what: "follows the cursor", icon: true, group: 1 },
  { id: "length", key: "M", name: "Length", what: "two points", tool: true, icon: true, group: 2 },
  { id: "angle", key: "N", name: "Angle", what: "three points, the second is its corner", tool: true, icon: true, group: 2 },
  { id: "rectangle", key: "B", name: "Finding", what: "a rectangle, kept with the review", tool: true, icon: true, group: 2 },
  { id: "zones", key: "Z", name: "Zones I and II", what: "two points: disc, then fovea", tool: true, on: "fundus", icon: true, group: 2 },
  { id: "redFree", key: "D", name: "Red-free", what: "the green channel alone", on: "colour", icon: true, group: 3 },
  { id: "invert", key: "I", name: "Invert", what: "swap black and white", icon: true, group: 3 },
  { id: "turnRight", key: "T", name: "Turn right", what: "by a quarter", icon: true, group: 3 },
  { id: "turnLeft", key: "Shift+T", name: "Turn left", what: "by a quarter" },
  { id: "mirror", key: "H", name: "Mirror", what: "left to right", icon: true, group: 3 },
  { id: "upsideDown", key: "Shift+H", name: "Upside down", what: "top to bottom" },
  { id: "fit", key: "F", name: "Fit", what: "the whole film in view", icon: true, group: 4 },
  { id: "actual", key: "A", name: "Actual size", what: "one film pixel per screen pixel", text: "1:1", icon: true, group: 4 },
  { id: "zoomIn", key: "+", name: "Zoom in", what: "at the cursor" },
  { id: "zoomOut", key: "-", name: "Zoom out", what: "at the cursor" },
  { id: "reset", key: "R", name: "Reset", what: "window, place and orientation as opened", icon: true, group: 4 },
  { id: "nextWindow", key: "V", name: "Next window", what: "of the file, then bone, soft tissue, full range", on: "grey" },
  { id: "previousWindow", key: "Shift+V", name: "Previous window", what: "the other way round", on: "grey" },
  { id: "beside", key: "O", name: "Other film", what: "of the same child, beside this one", on: "beside", icon: true, group: 5 },
];

const BY_HAND = [
  ["Wheel, two fingers", "zoom at the cursor"],
  ["Shift drag, right drag", "pan, whatever the tool"],
  ["Arrows in the film", "what dragging does; Shift: further"],
  ["Space", "set a point where the cursor is"],
  ["Delete", "remove the marked measure"],
  ["Esc", "give up a measure, then the tool"],
  ["Double click", "fit"],
];

// Digits are the page's: they name the reason of a rejection.
const FIXED = { " ": "Space", Enter: "Enter", Escape: "Esc", Delete: "Delete", Backspace: "Delete", Tab: "Tab", "?": "?" };

/** The key of an event as it is shown and stored: "W", "Shift+W", "+"; null for a key that cannot be given. */
export function chordOf(event) {
  const { key } = event;
  if (key.length !== 1 || key === " " || key === "?" || /[0-9]/.test(key)) return null;
  const upper = key.toUpperCase();
  return event.shiftKey && upper !== key.toLowerCase() ? `Shift+${upper}` : upper;
}

/** The keys of one reader in this browser. */
export class KeyMap {
  constructor() {
    this.pageKeys = [];
    this.open(null);
  }

  open(user) {
    this.user = user;
    this.own = {};
    try {
      this.own = JSON.parse(localStorage.getItem(this.place)) || {};
    } catch {
      // no storage, or nothing that can be read: the keys as they come
    }
    this.build();
  }

  get place() {
    return `pediscreen.keys.${this.user || ""}`;
  }

  /** The page's own keys, [[key, what it does]]: they come first, always. */
  setPageKeys(keys) {
    this.pageKeys = keys || [];
    this.build();
  }

  build() {
    this.keyOf = {};
    this.actionOf = {};
    for (const own of [true, false]) { // the reader's choices first, then what comes with the viewer
      for (const action of ACTIONS) {
        const chosen = this.own[action.id];
        const key = own ? chosen : chosen || action.key;
        if (!key || this.keyOf[action.id] || this.actionOf[key] || this.pageMeaning(key)) continue;
        this.keyOf[action.id] = key;
        this.actionOf[key] = action;
      }
    }
  }

  pageMeaning(key) {
    const base = key.replace("Shift+", ""); // the page does not look at Shift
    return this.pageKeys.find(([pageKey]) => pageKey.toUpperCase() === base)?.[1];
  }

  action(event) {
    const chord = chordOf(event);
    if (chord === "=") return this.actionOf["="] || this.actionOf["+"]; // the same key without Shift
    return this.actionOf[chord];
  }

  /** Why `event`'s key cannot be given to `action`; null when it can. */
  refusal(event, action) {
    const chord = chordOf(event);
    if (FIXED[event.key]) return `${FIXED[event.key]} has a meaning of its own.`;
    if (/^[0-9]$/.test(event.key)) return "Digits name the reason of a rejection.";
    if (!chord) return "Choose a letter or a sign.";
    const onPage = this.pageMeaning(chord);
    if (onPage) return `${chord.replace("Shift+", "")} belongs to the page: ${onPage}.`;
    const other = this.actionOf[chord];
    if (other && other.id !== action.id) return `${chord} is ${other.name}. Give that another key first.`;
    return null;
  }

  give(action, event) {
    this.own = { ...this.own, [action.id]: chordOf(event) };
    if (this.own[action.id] === action.key) delete this.own[action.id];
    this.store();
  }

  asTheyCame() {
    this.own = {};
    this.store();
  }

  store() {
    this.build();
    try {
      localStorage.setItem(this.place, JSON.stringify(this.own));
    } catch {
      // no storage: the keys hold until the page is closed
    }
  }
}

/** The map of the keys, over the film. `changed()` is called when a key was given to another action. */
export class KeyPanel {
  constructor(parent, keys, changed) {
    this.keys = keys;
    this.changed = changed;
    this.el = element("div", "keymap", parent);
    this.el.hidden = true;
    this.el.setAttribute("role", "dialog");
    this.el.setAttribute("aria-label", "Keys");
  }

  get isOpen() {
    return !this.el.hidden;
  }

  toggle(returnTo) {
    this.el.hidden = !this.el.hidden;
    this.asked = null;
    for (const beneath of this.el.parentElement.children) beneath.inert = this.isOpen && beneath !== this.el;
    if (this.isOpen) {
      document.documentElement.dataset.keysTaken = ""; // the page's keys wait, see hotkeys.js
      this.returnTo = returnTo;
      this.fill();
      this.el.querySelector("button").focus();
    } else this.closed();
  }

  closed() {
    delete document.documentElement.dataset.keysTaken;
    this.returnTo?.focus({ preventScroll: true });
  }

  fill(said = "") {
    this.el.replaceChildren();
    const head = element("header", "", this.el);
    element("h2", "", head, "Keys");
    this.said = element("p", "", head, said || "Choose a key of the film to change it. It is kept in this browser.");
    this.said.setAttribute("role", "status");
    const button = (text, act) => {
      const made = element("button", "plain", head, text);
      made.type = "button";
      made.onclick = act;
      return made;
    };
    button("As they came", () => this.reset()).hidden = !Object.keys(this.keys.own).length;
    element("kbd", "", button("Close", () => this.toggle()), "Esc");
    const lists = element("div", "lists", this.el);
    const film = this.list(lists, "Film");
    for (const action of ACTIONS) this.line(film, action);
    const column = element("div", "", lists);
    if (this.keys.pageKeys.length) this.fixedList(column, "Case", this.keys.pageKeys);
    this.fixedList(column, "By hand", BY_HAND).className = "by-hand";
  }

  list(parent, title) {
    const section = element("section", "", parent);
    element("h3", "", section, title);
    return element("dl", "", section);
  }

  fixedList(parent, title, keys) {
    const list = this.list(parent, title);
    for (const [key, what] of keys) {
      const line = element("div", "", list);
      element("kbd", "", element("dt", "", line), key);
      element("dd", "", line, what);
    }
    return list;
  }

  line(list, action) {
    const line = element("div", "", list);
    const key = this.keys.keyOf[action.id];
    const change = element("button", "key", element("dt", "", line), key || "none");
    change.type = "button";
    change.dataset.action = action.id;
    change.setAttribute("aria-label", `${action.name}: ${key || "no key"}. Change`);
    change.onclick = () => this.ask(action, change);
    const what = element("dd", "", line);
    element("span", "", what, action.name);
    what.append(` ${action.what}`);
  }

  ask(action, button) {
    this.asked?.button.classList.remove("asked");
    this.asked = { action, button };
    button.classList.add("asked");
    this.said.textContent = `Press the new key of ${action.name}, or Esc to leave it.`;
  }

  reset() {
    this.keys.asTheyCame();
    this.changed();
    this.fill("The keys are as they came.");
    this.el.querySelector("button").focus();
  }

  /** Any key while the map is open. Returns whether it meant something here. */
  key(event) {
    const { asked } = this;
    if (!asked) {
      if (event.key === "Escape" || event.key === "?") return this.toggle(), true;
      return !["Tab", "Enter", " "].includes(event.key) && !event.key.startsWith("Arrow") && !event.key.startsWith("Page");
    }
    if (event.key === "Tab" || event.key === "Shift") return false;
    this.asked = null;
    const refusal = event.key === "Escape" ? `${asked.action.name} keeps its key.` : this.keys.refusal(event, asked.action);
    if (!refusal) {
      this.keys.give(asked.action, event);
      this.changed();
    }
    this.fill(refusal || `${asked.action.name} is now ${this.keys.keyOf[asked.action.id]}.`);
    this.el.querySelector(`[data-action=${asked.action.id}]`).focus();
    return true;
  }
}
