/* The row of tools below the film: one stop for the Tab key, arrows within it, names that say the key. */

import { ACTIONS } from "./keys.js";
import { element } from "./drawing.js";
import { icon } from "./icons.js";

export class Toolbar {
  /** `viewer` has keys, act(id), useWindow(index), toggleKeys(). */
  constructor(parent, viewer) {
    this.viewer = viewer;
    this.el = element("div", "bar", parent);
    this.el.setAttribute("role", "toolbar");
    this.el.setAttribute("aria-label", "Film tools");
    this.buttons = {};
    let group = 1;
    for (const action of ACTIONS.filter((one) => one.icon)) {
      if (action.group !== group && action.id !== "beside") element("span", "gap", this.el);
      group = action.group;
      this.buttons[action.id] = this.button(action.id, action.text, () => viewer.act(action.id));
    }
    this.lastGap = element("span", "gap", this.el);
    this.windows = element("select", "windows", this.el);
    this.windows.setAttribute("aria-label", "Window");
    this.windows.onpointerdown = () => (this.byHand = true);
    this.windows.onkeydown = () => (this.byHand = false);
    this.windows.onchange = () => viewer.useWindow(Number(this.windows.value), this.byHand);
    this.windowText = element("output", "window", this.el);
    this.windowText.setAttribute("aria-live", "off");
    this.help = this.button("keys", null, () => viewer.toggleKeys());
    this.help.classList.add("help");
    this.name(this.help, "Keys", "all of them, and to change them", "?");
    this.el.addEventListener("keydown", (event) => this.rove(event));
    this.el.addEventListener("focusin", (event) => this.stopAt(event.target));
    this.stopAt(this.buttons.pan);
  }

  button(id, text, act) {
    const button = element("button", "tool", this.el, text);
    button.type = "button";
    button.dataset.action = id;
    if (!text) button.innerHTML = icon(id);
    element("span", "tip", button);
    button.onclick = act;
    return button;
  }

  name(button, name, what, key) {
    button.setAttribute("aria-label", key ? `${name} (${key})` : name);
    if (key) button.setAttribute("aria-keyshortcuts", key);
    else button.removeAttribute("aria-keyshortcuts");
    const tip = button.querySelector(".tip");
    tip.setAttribute("aria-hidden", "true");
    tip.replaceChildren();
    element("b", "", tip, name);
    if (key) element("kbd", "", tip, key);
    element("span", "", tip, what);
  }

  nameKeys() {
    const { keyOf } = this.viewer.keys;
    for (const action of ACTIONS.filter((one) => one.icon)) {
      this.name(this.buttons[action.id], action.name, action.what, keyOf[action.id]);
    }
    this.windows.title = `Windows of the file, then those computed from this film (${keyOf.nextWindow || "no key"})`;
  }

  /** What the film in hand has, and what is chosen. Runs with every frame of a drag: untouched where nothing changed. */
  reflect(pane, tool, loupe, isBeside) {
    const isGrey = pane.state === "ready" && !pane.data.colour;
    const pressed = { loupe, invert: pane.inverted, redFree: pane.redFree, beside: isBeside, mirror: pane.geometry?.mirrored };
    const hidden = ACTIONS.map((action) => !this.viewer.has(action));
    const reflected = JSON.stringify([pane.url, pane.state, pane.windowIndex, tool, pressed, hidden]);
    if (reflected !== this.reflected) {
      this.reflected = reflected;
      this.show(pane, tool, pressed, isGrey);
    }
    if (isGrey) this.windowText.textContent = pane.windowWords();
  }

  show(pane, tool, pressed, isGrey) {
    for (const action of ACTIONS.filter((one) => one.icon)) {
      this.buttons[action.id].hidden = !this.viewer.has(action);
      if (action.tool) this.buttons[action.id].setAttribute("aria-pressed", String(action.id === tool));
    }
    for (const [id, is] of Object.entries(pressed)) this.buttons[id].setAttribute("aria-pressed", String(Boolean(is)));
    this.windows.hidden = this.windowText.hidden = this.lastGap.hidden = !isGrey;
    if (isGrey) this.offer(pane);
  }

  offer(pane) {
    const names = pane.windowNames();
    const offered = names.join("\n");
    if (offered !== this.offered) {
      this.offered = offered;
      const option = (name, index) => new Option(name, index);
      const inFile = element("optgroup");
      inFile.label = "From the file";
      inFile.append(...names.slice(0, pane.vois.length).map(option));
      const computed = element("optgroup");
      computed.label = "Computed from this film";
      computed.append(...names.slice(pane.vois.length).map((name, index) => option(name, index + pane.vois.length)));
      const byHand = option("by hand", -1);
      byHand.hidden = true;
      this.windows.replaceChildren(inFile, computed, byHand);
    }
    this.windows.value = String(pane.windowIndex);
  }

  /* One Tab stop; arrows go from tool to tool (WAI-ARIA toolbar pattern). */

  stops() {
    return [...this.el.querySelectorAll("button, select")].filter((one) => !one.hidden);
  }

  stopAt(target) {
    for (const one of this.el.querySelectorAll("button, select")) one.tabIndex = one === target ? 0 : -1;
  }

  rove(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || (event.target === this.windows && event.altKey)) return;
    const stops = this.stops();
    const next = stops[(stops.indexOf(event.target) + step + stops.length) % stops.length];
    next.focus();
    event.preventDefault();
    event.stopPropagation();
  }
}
