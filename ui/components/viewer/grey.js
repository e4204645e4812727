/* Grey levels: from stored values to what is on screen, and the windows a film offers. No DOM here. */

export const MAX_STORED = 65535;

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Grey level 0-255 of every stored value, as engine/imaging/display.py defines it. */
export function greyTable(voi, inverted, background) {
  const table = voiTable(voi);
  if (inverted) for (let value = 0; value <= MAX_STORED; value++) table[value] = 255 - table[value];
  if (background !== null) table[background] = 0; // black, however the film is windowed or inverted
  return table;
}

/** The same as opaque pixels of a canvas. */
export function greyPixels(voi, inverted, background) {
  const table = greyTable(voi, inverted, background);
  const pixels = new Uint32Array(table.length);
  for (let value = 0; value < table.length; value++) pixels[value] = 0xff000000 | (table[value] * 0x010101);
  return pixels;
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
export function asWindow(voi) {
  if (voi.kind !== "lut") return voi;
  const width = Math.max(1, voi.lut.length - 1);
  return { kind: "linear", center: voi.lut_first + width / 2, width };
}

/** What comes from Python: a LUT's grey levels are base64. */
export function openVoi(voi) {
  if (voi.kind !== "lut") return voi;
  return { ...voi, lut: Uint8Array.from(atob(voi.lut), (character) => character.charCodeAt(0)) };
}

/* ---------------------------------------------------------------- windows made from the film itself */

const BINS = 256;

/** Bone, soft tissue and full range, from the film's own values: radiographs have no scale of tissue as CT has.
 *
 * Three classes (air, soft tissue, bone) are told apart by Otsu's method (IEEE Trans SMC 1979;9:62-66) with two
 * thresholds. The bone window begins in the middle of soft tissue and ends at the brightest bone; the soft-tissue
 * window runs from air to half way between soft tissue and bone, so that bone is plain white. `inverted` films have bone at low values. */
export function computedWindows(pixels, inverted, background) {
  const step = Math.max(1, Math.floor(pixels.length / 400_000)) | 1; // odd: no whole column is left out
  let low = MAX_STORED;
  let high = 0;
  for (let i = 0; i < pixels.length; i++) {
    const value = pixels[i];
    if (value === background) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) [low, high] = [0, MAX_STORED]; // nothing but background
  const windowOf = (name, from, to) => ({ name, kind: "linear_exact", center: (from + to) / 2, width: Math.max(1, to - from) });
  const full = windowOf("Full range", low, high);
  if (high - low < BINS) return [windowOf("Bone", low, high), windowOf("Soft tissue", low, high), full];

  const scale = BINS / (high - low + 1);
  const counts = new Float64Array(BINS);
  for (let i = 0; i < pixels.length; i += step) {
    if (pixels[i] === background) continue;
    const bin = Math.floor((pixels[i] - low) * scale);
    counts[inverted ? BINS - 1 - bin : bin]++;
  }
  const value = (bin) => low + (inverted ? BINS - bin : bin) / scale;
  const [first, second] = otsuThresholds(counts);
  const air = meanBin(counts, 0, first);
  const soft = meanBin(counts, first, second);
  const bone = meanBin(counts, second, BINS);
  const brightest = percentileBin(counts, 0.998);
  const between = (name, from, to) => windowOf(name, ...[value(from), value(Math.max(to, from + 1))].sort((a, b) => a - b));
  return [between("Bone", soft, brightest), between("Soft tissue", air, (soft + bone) / 2), full];
}

/** The two bins that part `counts` into three classes with the greatest variance between them. */
function otsuThresholds(counts) {
  const weight = new Float64Array(BINS + 1);
  const moment = new Float64Array(BINS + 1);
  for (let bin = 0; bin < BINS; bin++) {
    weight[bin + 1] = weight[bin] + counts[bin];
    moment[bin + 1] = moment[bin] + counts[bin] * (bin + 0.5);
  }
  const spread = (from, to) => {
    const share = weight[to] - weight[from];
    return share ? (moment[to] - moment[from]) ** 2 / share : 0;
  };
  let best = -1;
  let found = [BINS >> 2, BINS >> 1];
  for (let first = 1; first < BINS - 1; first++) {
    for (let second = first + 1; second < BINS; second++) {
      const between = spread(0, first) + spread(first, second) + spread(second, BINS);
      if (between > best) [best, found] = [between, [first, second]];
    }
  }
  return found;
}

function meanBin(counts, from, to) {
  let weight = 0;
  let moment = 0;
  for (let bin = from; bin < to; bin++) {
    weight += counts[bin];
    moment += counts[bin] * (bin + 0.5);
  }
  return weight ? moment / weight : (from + to) / 2;
}

function percentileBin(counts, share) {
  const wanted = share * counts.reduce((sum, count) => sum + count, 0);
  let sum = 0;
  for (let bin = 0; bin < BINS; bin++) if ((sum += counts[bin]) >= wanted) return bin + 1;
  return BINS;
}
