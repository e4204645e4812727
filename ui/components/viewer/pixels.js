/* What the viewer is made of below its surface: films fetched once, grey levels, resampling. No DOM here.
 *
 * Put in front of viewer.js by __init__.py: together they are one module, since a component is a single source. */

const MAX_STORED = 65535;
const KEPT_FILMS = 4;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/* ---------------------------------------------------------------- films, fetched once */

const films = new Map(); // url -> Promise<ArrayBuffer>, most recent last; holds the prefetched next case

function film(url) {
  let pending = films.get(url);
  films.delete(url);
  if (!pending) {
    pending = download(url);
    pending.catch(() => films.delete(url));
  }
  films.set(url, pending);
  while (films.size > KEPT_FILMS) films.delete(films.keys().next().value);
  return pending;
}

async function download(url) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
  } catch {
    throw new Error("the server does not answer. Check that it is running, then press R to try again.");
  }
  if (response.ok) return response.arrayBuffer();
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message || `the server answered ${response.status}`);
}

/* ---------------------------------------------------------------- grey levels */

/** Grey level 0-255 of every stored value, as engine/imaging/display.py defines it. */
export function greyTable(voi, inverted, background) {
  const table = voiTable(voi);
  if (inverted) for (let value = 0; value <= MAX_STORED; value++) table[value] = 255 - table[value];
  if (background !== null) table[background] = 0; // black, however the film is windowed or inverted
  return table;
}

function voiTable(voi) {
  const table = new Uint8Array(MAX_STORED + 1);
  const grey = (share) => Math.floor(255 * clamp(share, 0, 1) + 0.5);
  const { kind, center, width } = voi;
  if (kind === "lut") {
    for (let value = 0; value <= MAX_STORED; value++) {
      table[value] = voi.lut[clamp(value - voi.lut_first, 0, voi.lut.length - 1)];
    }
  } else if (kind === "sigmoid") {
    for (let value = 0; value <= MAX_STORED; value++) table[value] = grey(1 / (1 + Math.exp((-4 * (value - center)) / width)));
  } else {
    const exact = kind === "linear_exact";
    const middle = exact ? center : center - 0.5;
    const range = exact ? width : width - 1;
    for (let value = 0; value <= MAX_STORED; value++) {
      table[value] = range > 0 ? grey((value - middle) / range + 0.5) : value > middle ? 255 : 0;
    }
  }
  return table;
}

/** A LUT opened for dragging: the linear window that spans it. */
function asWindow(voi) {
  if (voi.kind !== "lut") return voi;
  const width = Math.max(1, voi.lut.length - 1);
  return { kind: "linear", center: voi.lut_first + width / 2, width };
}

function bytesOfBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/* ---------------------------------------------------------------- resampling */

/** For each of `count` canvas pixels: which film pixels it is made of, and their weights.
 * Bilinear when the film is magnified, the exact area (box) when it is reduced. first < 0 lies outside the film. */
export function taps(count, origin, zoom, size) {
  const perPixel = zoom >= 1 ? 2 : Math.ceil(1 / zoom) + 1;
  const first = new Int32Array(count).fill(-1);
  const weights = new Float32Array(count * perPixel);
  for (let i = 0; i < count; i++) {
    const middle = (i + 0.5 - origin) / zoom;
    if (middle < 0 || middle >= size) continue;
    if (zoom >= 1) {
      const at = clamp(middle - 0.5, 0, size - 1);
      first[i] = Math.min(Math.floor(at), Math.max(0, size - 2));
      const share = at - first[i];
      weights[i * 2] = 1 - share;
      weights[i * 2 + 1] = size > 1 ? share : 0;
      continue;
    }
    const low = Math.max(0, middle - 0.5 / zoom);
    const high = Math.min(size, middle + 0.5 / zoom);
    first[i] = Math.floor(low);
    for (let k = 0; k < perPixel; k++) {
      const covered = Math.min(high, first[i] + k + 1) - Math.max(low, first[i] + k);
      weights[i * perPixel + k] = Math.max(0, covered) / (high - low);
    }
  }
  return { first, weights, perPixel };
}

/** One channel of the film on the canvas's grid: columns first, then rows. Outside the film is left untouched. */
function resample({ pixels: source, cols }, channels, channel, across, down, { width, height }, out) {
  const line = new Float32Array(width);
  const lines = new Map(); // film row -> that row at canvas width; a few rows live at a time
  const rowAtCanvasWidth = (row) => {
    let made = lines.get(row);
    if (made) return made;
    made = new Float32Array(width);
    const base = row * cols;
    for (let x = 0; x < width; x++) {
      const start = across.first[x];
      if (start < 0) continue;
      let sum = 0;
      for (let k = 0, w = x * across.perPixel; k < across.perPixel; k++, w++) {
        const weight = across.weights[w];
        if (weight) sum += weight * source[(base + start + k) * channels + channel];
      }
      made[x] = sum;
    }
    lines.set(row, made);
    return made;
  };
  for (let y = 0; y < height; y++) {
    const start = down.first[y];
    if (start < 0) continue;
    line.fill(0);
    for (let k = 0; k < down.perPixel; k++) {
      const weight = down.weights[y * down.perPixel + k];
      if (!weight) continue;
      const made = rowAtCanvasWidth(start + k);
      for (let x = 0; x < width; x++) line[x] += weight * made[x];
    }
    for (const row of lines.keys()) if (row < start) lines.delete(row);
    for (let x = 0, o = y * width; x < width; x++, o++) out[o * channels + channel] = line[x] + 0.5;
  }
}

/** Pixels at half size, each the mean of four: far zoomed out, an area is then summed from fewer pixels. */
function halved({ pixels, rows, cols }, channels) {
  const half = { rows: rows >> 1, cols: cols >> 1 };
  half.pixels = new pixels.constructor(half.rows * half.cols * channels);
  const right = channels;
  const below = cols * channels;
  for (let row = 0, o = 0; row < half.rows; row++) {
    for (let i = 2 * row * below, end = i + 2 * half.cols * channels; i < end; i += 2 * channels) {
      for (let at = i; at < i + channels; at++, o++) {
        half.pixels[o] = (pixels[at] + pixels[at + right] + pixels[at + below] + pixels[at + below + right] + 2) >> 2;
      }
    }
  }
  return half;
}

/** What lies outside the image (stored as 0) is no grey level: it must not blend into its neighbours. `shown` says
 * how much of each canvas pixel is image, 0-255; what was mixed with zeros is divided by that share. */
function keepBackgroundApart(view, shown) {
  for (let i = 0; i < view.length; i++) {
    if (shown[i] === 255) continue;
    view[i] = shown[i] < 128 ? 0 : Math.max(1, Math.min(MAX_STORED, (view[i] * 255) / shown[i]));
  }
}
