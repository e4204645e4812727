/* What a reader lays on the film: length, angle, rectangle, and the zones of a fundus. No DOM here.
 *
 * A measure is {kind, points}, points in film coordinates. Nothing is called a millimetre that the file does not vouch
 * for: "mm (calibrated)" where it gives a calibrated spacing, "mm at detector" where it only knows the detector's (the
 * film is then larger than the child by an unknown few per cent), "px" otherwise. */

export const POINTS = { length: 2, angle: 3, rectangle: 2, zones: 2 };

/* ICROP3: zone I is the circle round the disc with twice the distance from disc to fovea. Zone II reaches the nasal ora
 * serrata, which two clicks do not show: until the reader drags its edge there, it is drawn at this multiple of the
 * same distance and called an estimate (the phantoms are drawn with it; unverified for eyes). */
const ZONE_I_RATIO = 2;
export const ZONE_II_ESTIMATE = 3.4;

export const distance = (p, q) => Math.hypot(p.x - q.x, p.y - q.y);

/** Unit of a film's lengths, and what one pixel measures in it. */
function scaleOf({ spacing, spacing_source: source }) {
  if (!spacing || !source) return { unit: "px", x: 1, y: 1, digits: 0 };
  const unit = source === "calibrated" ? "mm (calibrated)" : "mm at detector";
  return { unit, x: spacing[1], y: spacing[0], digits: 1 };
}

export function lengthWords(p, q, film) {
  const { unit, x, y, digits } = scaleOf(film);
  return `${Math.hypot((p.x - q.x) * x, (p.y - q.y) * y).toFixed(digits)} ${unit}`;
}

/** At `vertex`, between the ways to `p` and `q`, 0 to 180. */
export function angleDegrees(p, vertex, q) {
  const turn = Math.atan2(p.y - vertex.y, p.x - vertex.x) - Math.atan2(q.y - vertex.y, q.x - vertex.x);
  const degrees = Math.abs(turn * 180) / Math.PI;
  return degrees > 180 ? 360 - degrees : degrees;
}

/** A rectangle's whole film pixels, {x0, y0, x1, y1} with x1 and y1 outside; at least one pixel. */
export function boxOf([p, q], { rows, cols }) {
  const x0 = Math.min(Math.floor(Math.min(p.x, q.x)), cols - 1);
  const y0 = Math.min(Math.floor(Math.min(p.y, q.y)), rows - 1);
  const x1 = Math.max(Math.ceil(Math.max(p.x, q.x)), x0 + 1);
  const y1 = Math.max(Math.ceil(Math.max(p.y, q.y)), y0 + 1);
  return { x0, y0, x1, y1 };
}

/** Mean and standard deviation of the values in a box, in the file's unit; null for colour. */
export function valuesIn({ x0, y0, x1, y1 }, film, pixels) {
  if (film.colour) return null;
  let sum = 0;
  let squares = 0;
  for (let y = y0; y < y1; y++) {
    for (let at = y * film.cols + x0, end = y * film.cols + x1; at < end; at++) {
      sum += pixels[at];
      squares += pixels[at] * pixels[at];
    }
  }
  const count = (x1 - x0) * (y1 - y0);
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  return { mean: mean * film.slope + film.intercept, deviation: deviation * film.slope };
}

function rectangleWords(measure, film, pixels) {
  const { x0, y0, x1, y1 } = boxOf(measure.points, film);
  const { unit, x, y, digits } = scaleOf(film);
  const size = `${((x1 - x0) * x).toFixed(digits)} x ${((y1 - y0) * y).toFixed(digits)} ${unit}`;
  const values = pixels && valuesIn({ x0, y0, x1, y1 }, film, pixels);
  return values ? `${size}, mean ${values.mean.toFixed(0)} ± ${values.deviation.toFixed(0)}` : size;
}

/* ---------------------------------------------------------------- the zones of a fundus */

/** Circles round the disc, in film pixels. `edge`: where the reader saw the nasal ora serrata. */
export function zoneRadii({ points: [disc, fovea], edge }) {
  const one = ZONE_I_RATIO * distance(disc, fovea);
  const two = edge ? distance(disc, edge) : ZONE_II_ESTIMATE * distance(disc, fovea);
  return { one, two: Math.max(two, one) };
}

/** Where the handle of zone II is: on the nasal side, away from the fovea. */
export function zoneEdge(measure) {
  const [disc, fovea] = measure.points;
  if (measure.edge) return measure.edge;
  return { x: disc.x + (disc.x - fovea.x) * ZONE_II_ESTIMATE, y: disc.y + (disc.y - fovea.y) * ZONE_II_ESTIMATE };
}

/** Whose eye it is by where the fovea lies: the disc is nasal, on the right of a right eye's photograph. Null where the
 * two lie one above the other. */
export function eyeOf([disc, fovea]) {
  if (Math.abs(disc.x - fovea.x) < Math.abs(disc.y - fovea.y)) return null;
  return disc.x > fovea.x ? "R" : "L";
}

function zonesWords(measure, film) {
  const eye = eyeOf(measure.points);
  const named = { R: "right", L: "left" };
  if (eye && film.side && eye !== film.side) {
    return `Disc and fovea lie as in a ${named[eye]} eye, but this film is marked ${named[film.side]}`;
  }
  return measure.edge ? "Zone II ends at the edge set by hand" : "Zone II is estimated: drag its edge to the nasal ora serrata";
}

export function contradictsSide(measure, film) {
  const eye = measure.kind === "zones" ? eyeOf(measure.points) : null;
  return Boolean(eye && film.side && eye !== film.side);
}

/** The result in words, as it stands beside the measure. Without `pixels` (while it is being dragged) no statistics. */
export function measureWords(measure, film, pixels) {
  const [p, q, r] = measure.points;
  if (measure.kind === "length") return lengthWords(p, q, film);
  if (measure.kind === "angle") return `${angleDegrees(p, q, r).toFixed(1)}°`;
  if (measure.kind === "zones") return zonesWords(measure, film);
  return rectangleWords(measure, film, pixels);
}

/* ---------------------------------------------------------------- to and from Python */

/** What Python keeps with the review: rectangles in whole film pixels, and the landmarks of a fundus. */
export function toKeep(measures, film) {
  const round = ({ x, y }) => [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
  const zones = measures.find(({ kind }) => kind === "zones");
  return {
    image: film.image,
    regions: measures.filter(({ kind }) => kind === "rectangle").map(({ points }) => boxOf(points, film)),
    landmarks: zones ? landmarksOf(zones, round) : null,
  };
}

function landmarksOf({ points: [disc, fovea], edge }, round) {
  const landmarks = { disc: round(disc), fovea: round(fovea) };
  return edge ? { ...landmarks, ora: round(edge) } : landmarks;
}

export function fromKept({ regions, landmarks }) {
  const point = ([x, y]) => ({ x, y });
  const measures = (regions || []).map(({ x0, y0, x1, y1 }) => ({
    kind: "rectangle",
    points: [{ x: x0, y: y0 }, { x: x1, y: y1 }],
  }));
  if (landmarks) {
    const { disc, fovea, ora } = landmarks;
    measures.push({ kind: "zones", points: [point(disc), point(fovea)], edge: ora && point(ora) });
  }
  return measures;
}

export function inFilm({ x, y }, { rows, cols }) {
  return { x: Math.min(cols, Math.max(0, x)), y: Math.min(rows, Math.max(0, y)) };
}
