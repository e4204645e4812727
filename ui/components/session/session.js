/* The session of whoever is signed in: tells the server that they are there, and covers the page when nobody was for a
 * while. The server decides (it hears nothing of a locked page); this shows it, and asks for the password again. The page
 * under the cover stays as it is. */

const TELL_EVERY_MS = 30000;
const LOOK_AGAIN_MS = 5000; // while locked: another tab may have unlocked it
const SIGNS_OF_LIFE = ["pointerdown", "pointermove", "keydown", "wheel"];

let data = { name: "", by_password: true };
let cover = null;
let timer = 0;
let toldAt = 0;

async function ask(method) {
  let answer;
  try {
    answer = await fetch("/sign-in/state", { method, headers: { accept: "application/json" } });
  } catch {
    return lookAgainIn(LOOK_AGAIN_MS); // the bar about the connection says the rest
  }
  if (answer.status === 401 || answer.status === 403) return leave();
  const { state, locks_in_s: seconds } = await answer.json();
  if (state === "must_change") return leave();
  if (state === "locked") return lock();
  unlock();
  lookAgainIn(seconds * 1000 + 200);
}

function lookAgainIn(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(() => ask("GET"), milliseconds);
}

function leave() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

function alive(event) {
  if (cover) {
    if (event.type === "keydown" && !cover.contains(event.target)) event.stopImmediatePropagation();
    return;
  }
  if (Date.now() - toldAt < TELL_EVERY_MS) return;
  toldAt = Date.now();
  ask("POST");
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function lock() {
  lookAgainIn(LOOK_AGAIN_MS);
  if (cover) return;
  const said = element("p", { className: "error", role: "alert" });
  const field = element("input", { type: "password", autocomplete: "current-password", required: true, id: "unlock" });
  const form = data.by_password
    ? element(
        "form",
        {},
        element("label", { htmlFor: "unlock", textContent: "Password" }),
        field,
        element("button", { textContent: "Unlock" }),
      )
    : element("a", {
        href: "/sign-in/oidc?next=/sign-in/unlocked",
        target: "_blank",
        className: "button",
        textContent: "Unlock with your hospital account",
      });
  form.addEventListener("submit", (event) => send(event, field, said));
  const out = element("button", { type: "button", className: "plain", textContent: "Sign out" });
  out.addEventListener("click", signOut);
  const title = element("h2", { textContent: "Locked", id: "lock-title" });
  const why = element("p", { textContent: `${data.name} is signed in, and nobody was here for a while. What is open stays open.` });
  cover = element("dialog", { className: "session-lock" }, title, why, said, form, out);
  cover.setAttribute("role", "dialog");
  cover.setAttribute("aria-labelledby", "lock-title");
  cover.addEventListener("cancel", (event) => event.preventDefault());
  cover.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(cover);
  cover.showModal();
  field.focus();
}

async function send(event, field, said) {
  event.preventDefault();
  const body = new URLSearchParams({ password: field.value });
  const headers = { accept: "application/json" };
  const answer = await fetch("/sign-in/unlock", { method: "POST", headers, body }).catch(() => null);
  if (answer?.status === 401) return leave();
  field.value = "";
  if (answer?.ok) return ask("GET");
  said.textContent = answer ? (await answer.json()).message : "The workstation does not answer. Try again.";
  field.focus();
}

function unlock() {
  cover?.close();
  cover?.remove();
  cover = null;
}

async function signOut() {
  await fetch("/sign-out", { method: "POST" }).catch(() => null);
  location.assign("/sign-in?signed_out");
}

function onVisible() {
  if (!document.hidden) ask("GET"); // timers sleep with the machine
}

function onSignOut(event) {
  if (event.target.closest?.(".st-key-sign_out button")) {
    event.preventDefault();
    event.stopImmediatePropagation();
    signOut();
  }
}

let watching = false;

export default function (component) {
  data = component.data;
  if (watching) return;
  watching = true; // for as long as the window is open, whatever page is shown
  for (const sign of SIGNS_OF_LIFE) window.addEventListener(sign, alive, { capture: true, passive: true });
  window.addEventListener("click", onSignOut, true);
  document.addEventListener("visibilitychange", onVisible);
  const app = document.querySelector("[data-testid=stApp]");
  const lost = new MutationObserver(() => app.dataset.testConnectionState === "CONNECTED" || ask("GET"));
  lost.observe(app, { attributes: true, attributeFilter: ["data-test-connection-state"] });
  ask("POST");
}
