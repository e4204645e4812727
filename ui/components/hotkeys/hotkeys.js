/* The page's keys: each one presses the button, or goes into the field, of a keyed Streamlit container.
 *
 * Streamlit's own button shortcuts know neither C nor R, and stay silent while a field has the focus; reading case
 * after case needs both. data = {press: {key: name}, focus: {key: name}, doors: {name: name}, submit_from: name}, where
 * a name is a container's. Enter in a field of `submit_from` first commits what was typed there, then does what Enter
 * does elsewhere; a click on a door's button goes into the field without asking the server.
 *
 * A * in a name stands for the image that the viewer shows. While none is drawn such a key does nothing, so that a key
 * pressed twice never decides a case that nobody has seen; a film whose pixels are gone for good can be rejected. */

const bindings = new WeakMap();

function inContainer(name, what) {
  const { filmReady, filmGone } = document.documentElement.dataset;
  const image = filmReady || (name.startsWith("reject_") && filmGone); // what is gone can only be rejected
  if (name.includes("*") && !image) return null;
  return document.querySelector(`.st-key-${name.replace("*", image)} :is(${what})`);
}

function isTyping(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

function onKey(event, data) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if ("keysTaken" in document.documentElement.dataset) return; // the viewer's map of the keys is open
  const target = event.composedPath()[0];
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  if (isTyping(target)) {
    if (key === "Escape") return target.blur();
    if (key !== "Enter" || target.tagName === "TEXTAREA" || !target.closest?.(`.st-key-${data.submit_from}`)) return;
  }
  if (document.querySelector("[role=dialog], [data-testid=stPopoverBody]")) return; // what is on top has the keys
  const field = data.focus[key] && inContainer(data.focus[key], "input, button");
  const button = data.press[key] && inContainer(data.press[key], "button:not([disabled])");
  if (!field && !button) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (field) return enter(field);
  if (isTyping(target)) target.blur(); // commits the value, ahead of the click
  button.click();
}

function enter(field) {
  field.focus();
  field.select?.();
}

function onClick(event, data) {
  const door = Object.keys(data.doors).find((name) => event.target.closest?.(`.st-key-${name} button`));
  const field = door && inContainer(data.doors[door], "input, button");
  if (!field) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  enter(field);
}

export default function ({ data, parentElement }) {
  bindings.get(parentElement)?.();
  const key = (event) => onKey(event, data);
  const click = (event) => onClick(event, data);
  window.addEventListener("keydown", key, true);
  window.addEventListener("click", click, true);
  const { dataset } = document.documentElement;
  const bound = (dataset.keysBound = [...Object.keys(data.press), ...Object.keys(data.focus)].join(" "));
  const unbind = () => {
    if (dataset.keysBound === bound) delete dataset.keysBound;
    window.removeEventListener("keydown", key, true);
    window.removeEventListener("click", click, true);
    bindings.delete(parentElement);
  };
  bindings.set(parentElement, unbind);
  return unbind;
}
