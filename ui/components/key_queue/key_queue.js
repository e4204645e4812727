/* A reader is faster than a page. Keys that come while it is at work wait here, in order, and are pressed again when it
 * rests; what acts on them (hotkeys.js) sees one at a time. With the page at rest a key passes at once.
 *
 * What decides a case (Enter, the number of a rejection) is held to what the reader saw when they pressed it: it counts
 * only for the film then in view, Enter only with the form beside it, and a second one waits for no decision under way.
 * What cannot be carried out is said, never dropped in silence.
 *
 * One listener for the window, there before those of the pages: theirs come anew with each drawing, after it. */

const PATIENCE_MS = 20000;
const DECISION_PATIENCE_MS = 10000;
const RESTS_AFTER_MS = 60; // at rest for so long
const SERVER_SPEAKS_MS = 8000; // between a click and the server's first word of it the page looks idle
const SETTLED_AFTER_MS = 450; // a key that nothing wanted by then means nothing here
const SAID_FOR_MS = 3000;
const TICK_MS = 30;

const DECIDES = /^(Enter|[0-9])$/;
const ASKS_THE_SERVER = /^(Enter|[0-9]|[JKLXU])$/;

let keys = new Set();
let waiting = []; // {key, image, isFromField, at}
let timer = 0;
let restsSince = 0;
let isReplaying = false;
let decidedImage = null; // a decision about it is under way
let askedAt = -Infinity; // when a key last asked the server for something that it has not begun with
let watched = null;
let note = null;
let hush = 0;

const nameOf = (event) => (event.key.length === 1 ? event.key.toUpperCase() : event.key);
const inView = () => document.documentElement.dataset.filmReady || document.documentElement.dataset.filmGone || null;
const areKeysBound = () => "keysBound" in document.documentElement.dataset; // see hotkeys.js

function isAtWork() {
  if (performance.now() - askedAt < SERVER_SPEAKS_MS) return true;
  const app = document.querySelector("[data-testid=stApp]");
  return app?.dataset.testScriptState !== "notRunning" || app.dataset.testConnectionState !== "CONNECTED";
}

function watchServer() {
  const app = document.querySelector("[data-testid=stApp]");
  if (!app || app === watched) return;
  watched = app;
  const observer = new MutationObserver(() => (askedAt = -Infinity)); // it begins or ends
  observer.observe(app, { attributes: true, attributeFilter: ["data-test-script-state"] });
}

function isTyping(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

function onKey(event) {
  if (isReplaying || event.ctrlKey || event.metaKey || event.altKey || !keys.has(nameOf(event))) return;
  if ("keysTaken" in document.documentElement.dataset) return; // the map of the keys is open
  if (document.querySelector("[role=dialog]:not([hidden]), [data-testid=stPopoverBody]")) return; // what is on top has them
  const target = event.composedPath()[0];
  const key = nameOf(event);
  if (isTyping(target)) return onKeyInField(key, target);
  if (event.repeat) return; // a key held down says nothing new
  if (key === "Enter" && !onReview() && target.closest?.("button, a")) return; // it belongs to what has the focus
  if (DECIDES.test(key) && onReview()) {
    const why = whyNotDecide(key);
    if (why !== null) {
      stop(event);
      if (why) say(why);
      return;
    }
  }
  const isFree = !waiting.length && !isAtWork() && (areKeysBound() || !onReview());
  if (isFree) {
    askedAt = performance.now();
    setTimeout(() => passed(key, event)); // once everybody has seen it
    return;
  }
  stop(event);
  hold(key, false);
}

function passed(key, event) {
  if (!event.defaultPrevented || !ASKS_THE_SERVER.test(key) || !onReview()) askedAt = -Infinity;
  else if (DECIDES.test(key)) decidedImage = inView();
  // The server is done, but the browser is still drawing what the key is for.
  if (!event.defaultPrevented && onReview() && !DECIDES.test(key)) hold(key, false);
}

/** Enter in a field of the form: Streamlit takes the value in, and the button it waits for may be locked until then. */
function onKeyInField(key, target) {
  if (key !== "Enter" || target.tagName === "TEXTAREA" || !target.closest?.(".st-key-decision_fields")) return;
  const button = document.querySelector(`.st-key-confirm_${inView()} button`);
  if (button?.disabled) hold(key, true);
}

const onReview = () => location.pathname.endsWith("/review");

/** Null where it may; else the reason in words, "" for one that needs none. */
function whyNotDecide(key) {
  const image = inView();
  if (!image) return `${key} came before the film was in view. Look at it, then press ${key} again.`;
  if (decidedImage === image && isAtWork()) return ""; // pressed twice
  if (waiting.some((one) => DECIDES.test(one.key))) return "";
  const isRejecting = /[0-9]/.test(key);
  if (isRejecting || document.querySelector(`.st-key-confirm_${image}, .st-key-next_free_${image}`)) return null;
  return isAtWork() ? `${key} came before the case was in view. Look at it, then press ${key} again.` : null;
}

function stop(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

function hold(key, isFromField) {
  waiting.push({ key, image: inView(), isFromField, at: performance.now() });
  if (!timer) timer = setInterval(tick, TICK_MS);
}

function tick() {
  const now = performance.now();
  restsSince = isAtWork() ? 0 : restsSince || now;
  if (!waiting.length) {
    clearInterval(timer);
    timer = restsSince = 0;
    return;
  }
  const [first] = waiting;
  const isDecision = DECIDES.test(first.key);
  if (isDecision && inView() !== first.image) return void waiting.shift(); // that case is no longer in view
  const rests = restsSince ? now - restsSince : 0;
  const age = now - first.at;
  if (rests >= RESTS_AFTER_MS && (!first.isFromField || age > 3 * RESTS_AFTER_MS)) {
    if (press(first)) {
      waiting.shift();
      restsSince = 0; // and wait for what it set off
      if (ASKS_THE_SERVER.test(first.key)) askedAt = now;
      return;
    }
    if (rests > SETTLED_AFTER_MS) {
      waiting.shift();
      if (first.isFromField) say("Not saved yet: the answer is not complete.");
      return;
    }
  }
  if (age < (isDecision ? DECISION_PATIENCE_MS : PATIENCE_MS)) return;
  waiting = [];
  say(`The page was too long at work to take ${first.key}. Press it again.`);
}

/** Whether anything took it. */
function press({ key, image }) {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, composed: true });
  isReplaying = true;
  document.body.dispatchEvent(event);
  isReplaying = false;
  if (event.defaultPrevented && DECIDES.test(key)) decidedImage = image;
  return event.defaultPrevented;
}

/** A hand on the mouse means something else. */
function onPointer() {
  waiting = [];
}

function say(text) {
  if (!note) {
    note = document.createElement("div");
    note.className = "page-bar"; // see ui/style.css
    note.dataset.kind = "note";
    note.setAttribute("role", "status");
    document.body.append(note);
  }
  note.textContent = text;
  note.hidden = false;
  clearTimeout(hush);
  hush = setTimeout(() => (note.hidden = true), SAID_FOR_MS);
}

window.addEventListener("keydown", onKey, true);
window.addEventListener("pointerdown", onPointer, true);

const pages = new Set(); // mounted ones; between two of them the keys of the last hold

export default function ({ data, parentElement }) {
  watchServer();
  pages.add(parentElement);
  keys = new Set(data.keys);
  return () => {
    pages.delete(parentElement);
    setTimeout(() => {
      if (!pages.size) keys = new Set();
    }, PATIENCE_MS);
  };
}
