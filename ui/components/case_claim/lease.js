/* The reader's hold on the open case, as the browser sees it: every key, click, touch or move of the mouse keeps it. The
 * server is told of activity now and then; without any the hold ends, and the reader sees that ahead of it.
 *
 * data = {study, seconds_left, renew_after_s, warn_s}. Reports `active`, a number that counts up. */

const leases = new WeakMap();
const SIGNS = ["keydown", "pointerdown", "pointermove", "wheel"];

class Lease {
  constructor() {
    this.el = document.createElement("div");
    this.el.className = "page-bar"; // see ui/style.css
    this.el.setAttribute("role", "status");
    this.el.hidden = true;
    document.body.append(this.el);
    this.onSign = () => this.sign();
    for (const sign of SIGNS) window.addEventListener(sign, this.onSign, { capture: true, passive: true });
    this.clock = setInterval(() => this.tick(), 1000);
  }

  destroy() {
    for (const sign of SIGNS) window.removeEventListener(sign, this.onSign, { capture: true });
    clearInterval(this.clock);
    this.el.remove();
  }

  show(data, report) {
    this.report = report;
    if (data.study === this.data?.study && data.at === this.data.at) return; // drawn again, nothing new
    this.data = data;
    this.endsAt = performance.now() + 1000 * data.seconds_left;
    this.told = performance.now();
    this.committed = false;
    this.tick();
  }

  /** The reader did something. */
  sign() {
    const now = performance.now();
    if (!this.data || now - this.told < 1000 * this.data.renew_after_s) return;
    this.told = now;
    this.report("active", Date.now());
  }

  tick() {
    if (!this.data) return;
    const left = Math.ceil((this.endsAt - performance.now()) / 1000);
    this.el.hidden = left > this.data.warn_s;
    if (this.el.hidden) return;
    if (!this.committed) {
      this.committed = true;
      commitField(); // what stands in a field is kept by the server before the case may be another's
    }
    const { minute, second } = { minute: Math.floor(left / 60), second: String(left % 60).padStart(2, "0") };
    this.el.textContent =
      left > 0
        ? `The case goes back to the list in ${minute}:${second}, as nothing was done here for a while. Any key keeps it.`
        : "The case went back to the list, as nothing was done here for a while. What you entered is kept; any key takes the case again if nobody else has it.";
  }
}

function commitField() {
  const field = document.activeElement;
  if (field && ["INPUT", "TEXTAREA"].includes(field.tagName)) field.blur();
}

export default function ({ data, parentElement, setTriggerValue }) {
  let lease = leases.get(parentElement);
  if (!lease) leases.set(parentElement, (lease = new Lease()));
  lease.show(data, setTriggerValue);
  return () => {
    lease.destroy();
    leases.delete(parentElement);
  };
}
