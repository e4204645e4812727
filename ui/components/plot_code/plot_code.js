/* Streamlit imports the same address when it draws its first chart, and then finds the module loaded. */

const QUIET_MS = 1500; // what the page itself shows comes first

let isAsked = false; // once a window

function load(path) {
  if (isAsked) return;
  isAsked = true;
  import(new URL(path, window.location.origin).href).catch(() => {
    isAsked = false; // Streamlit tries itself, and says what is wrong
  });
}

export default function ({ data }) {
  if (data.soon) load(data.path);
  else if (!isAsked) setTimeout(() => requestIdleCallback(() => load(data.path)), QUIET_MS);
}
