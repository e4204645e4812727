/* Streamlit imports the same address when it draws its first chart, and then finds the module there. */

const QUIET_MS = 1500; // what the page itself shows comes first

function fetchOnly(url) {
  if (document.querySelector(`link[rel=modulepreload][href="${url}"]`)) return;
  const link = document.createElement("link");
  link.rel = "modulepreload";
  link.href = url;
  document.head.append(link);
}

export default function ({ data }) {
  const url = new URL(data.path, window.location.origin).href;
  if (data.run) {
    import(url).catch(() => {}); // Streamlit tries itself, and says what is wrong
    return;
  }
  const timer = setTimeout(fetchOnly, QUIET_MS, url);
  return () => clearTimeout(timer);
}
