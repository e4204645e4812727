/* A bar over the page while the server does not answer. Streamlit tries again by itself and then sends what was entered;
 * the fields are locked meanwhile and keep what is in them. The bar hangs on <body>: Streamlit hides the page itself from
 * screen readers while it shows a dialog of its own. */

const AFTER_MS = 1000; // a short break needs no words
const LONG_MS = 60000;
const THANKS_MS = 4000;

let bar = null; // one for the window, whatever page is shown
let lostAt = 0;
let timer = 0;

function say(text, kind) {
  if (!bar) {
    bar = document.createElement("div");
    bar.className = "page-bar";
    bar.setAttribute("role", "alert");
    bar.dataset.reactAriaTopLayer = "true"; // do not hide it behind a dialog
    document.body.append(bar);
  }
  bar.dataset.kind = kind;
  bar.hidden = !text;
  if (bar.textContent !== text) bar.textContent = text;
}

function tell() {
  const since = new Date(lostAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const waited = Date.now() - lostAt;
  const kept = "What you entered is still here. Leave this page open and do not reload it: it goes on by itself.";
  const help = waited > LONG_MS ? " If this lasts, have the workstation started again (pediscreen up)." : "";
  say(`No connection to the workstation since ${since}. ${kept}${help}`, "lost");
  timer = setTimeout(tell, 5000);
}

function look(app) {
  const isConnected = app.dataset.testConnectionState === "CONNECTED";
  if (isConnected === !lostAt) return;
  clearTimeout(timer);
  if (!isConnected) {
    lostAt = Date.now();
    timer = setTimeout(tell, AFTER_MS);
    return;
  }
  const wasTold = bar && !bar.hidden;
  lostAt = 0;
  if (!wasTold) return;
  say("Connected again. Look at what you entered, then go on.", "back");
  timer = setTimeout(() => say("", ""), THANKS_MS);
}

const watched = new WeakMap();

export default function ({ parentElement }) {
  if (watched.has(parentElement)) return;
  const app = document.querySelector("[data-testid=stApp]");
  const observer = new MutationObserver(() => look(app));
  observer.observe(app, { attributes: true, attributeFilter: ["data-test-connection-state"] });
  watched.set(parentElement, observer);
  look(app); // it may have gone before this was there to see it
  return () => {
    observer.disconnect();
    watched.delete(parentElement);
  };
}
