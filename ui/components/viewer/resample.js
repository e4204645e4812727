/* From the film's pixels to the canvas's: exact averages when the film is reduced, smooth when it is magnified.
 * No DOM here.
 *
 * A plane is {pixels, rows, cols, channels, offset, stepX, stepY}: rows and cols as they are shown (turned, mirrored),
 * the steps say where the neighbour to the right and the one below lie in `pixels`. */

import { clamp, MAX_STORED } from "./grey.js";

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

/** The part of the canvas that holds the film: [from, to) in one direction; empty when it holds none. */
export function covered({ first }) {
  let from = first.findIndex((at) => at >= 0);
  if (from < 0) return [0, 0];
  let to = first.length;
  while (first[to - 1] < 0) to--;
  return [from, to];
}

/** `plane` on a grid of width x height, all channels: columns first, then rows. Outside the film it stays 0. */
export function resample(plane, across, down, width, height) {
  const { pixels, channels } = plane;
  const out = new pixels.constructor(width * height * channels);
  for (let channel = 0; channel < channels; channel++) resampleChannel(plane, channel, across, down, width, height, out);
  return out;
}

function resampleChannel({ pixels, channels, offset, stepX, stepY }, channel, across, down, width, height, out) {
  const line = new Float32Array(width);
  const lines = new Map(); // film row -> that row at canvas width; a few rows live at a time
  const [left, right] = covered(across);
  const { perPixel } = across;
  const rowAtCanvasWidth = (row) => {
    let made = lines.get(row);
    if (made) return made;
    made = new Float32Array(width);
    const base = offset + row * stepY;
    for (let x = left; x < right; x++) {
      let at = (base + across.first[x] * stepX) * channels + channel;
      let sum = 0;
      for (let w = x * perPixel, end = w + perPixel; w < end; w++, at += stepX * channels) {
        const weight = across.weights[w];
        if (weight) sum += weight * pixels[at];
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
      for (let x = left; x < right; x++) line[x] += weight * made[x];
    }
    for (const row of lines.keys()) if (row < start) lines.delete(row);
    for (let x = left, o = y * width + left; x < right; x++, o++) out[o * channels + channel] = line[x] + 0.5;
  }
}

/** Pixels at half size, each the mean of four: far zoomed out, an area is then summed from fewer pixels. */
export function halved({ pixels, rows, cols }, channels) {
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
export function keepBackgroundApart(view, shown) {
  for (let i = 0; i < view.length; i++) {
    if (shown[i] === 255) continue;
    view[i] = shown[i] < 128 ? 0 : Math.max(1, Math.min(MAX_STORED, (view[i] * 255) / shown[i]));
  }
}
