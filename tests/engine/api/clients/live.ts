/** The client against a running API: node live.js BASE_URL TOKEN FILM. Prints what it found as one JSON document. */
import { readFile } from "node:fs/promises";
import { argv } from "node:process";

import { PediScreen, PediScreenError } from "./pediscreen.js";

const [, , baseUrl, token, film] = argv as [string, string, string, string, string];
const api = new PediScreen({ baseUrl: `${baseUrl}/`, token });
const image = new Blob([await readFile(film)]);
const idempotencyKey = "node-1";

const uploaded = await api.upload({ files: [image] }, { idempotencyKey });
const again = await api.upload({ files: [image] }, { idempotencyKey });
const studyId = uploaded.files[0]!.study_id!;
const queue = await api.queue({ status: ["awaiting_read", "awaiting_review"], task: ["bone_age"], page_size: 10 });
const study = await api.study(studyId);
const pixels = new Uint16Array(await api.pixels(studyId, { image: study.images[0]!.image_id }));
const read = await api.analyzeBoneAge({ image });
const review = await api.recordReview(studyId, {
  verdict: "corrected",
  answer: { task: "bone_age", bone_age_months: 114 },
  details: { method: "atlas", regions: [{ x0: 1, y0: 2, x1: 30, y1: 40 }] },
});
const reviewed = await api.study(studyId);
const models = await api.models();
const health = await new PediScreen({ baseUrl }).health();

async function refusal(ask: Promise<unknown>): Promise<object> {
  try {
    await ask;
  } catch (error) {
    if (error instanceof PediScreenError) {
      const { name, status, code, message, requestId } = error;
      return { name, status, code, message, hasId: requestId !== null };
    }
    return { name: (error as Error).name };
  }
  throw new Error("it was not refused");
}

const refused = [
  await refusal(api.study(4711)),
  await refusal(new PediScreen({ baseUrl }).queue()),
  await refusal(api.upload({ files: [new Blob(["no image"])] })),
  await refusal(api.queue({}, { signal: AbortSignal.abort() })),
];

// What the types do not let through: tsc fails where one of these is accepted.
export async function wrong(): Promise<void> {
  // @ts-expect-error a verdict that there is not
  await api.recordReview(1, { verdict: "maybe" });
  // @ts-expect-error an answer of two tasks
  await api.recordReview(1, { verdict: "corrected", answer: { task: "fracture", bone_age_months: 3 } });
  // @ts-expect-error the image is missing
  await api.analyzeRop({});
  // @ts-expect-error no status of a study
  await api.queue({ status: ["done"] });
  // @ts-expect-error no such field
  (await api.study(1)).patient_name;
  // @ts-expect-error reads take no key
  await api.queue({}, { idempotencyKey: "x" });
}

console.log(
  JSON.stringify({
    outcomes: [uploaded.files[0]!.outcome, again.files[0]!.outcome],
    queued: queue.rows.map((row) => row.study_id),
    sex: study.sex,
    size: [study.images[0]!.rows, study.images[0]!.cols],
    pixelCount: pixels.length,
    pixelSum: pixels.reduce((sum, one) => sum + one, 0),
    read: { answer: read.answer, sex: read.sex, model: read.model_version, phantom: read.image_is_phantom },
    review,
    decided: reviewed.images[0]!.reviews.map(({ verdict, answer, details }) => ({ verdict, answer, details })),
    status: reviewed.status,
    models: models.map((model) => model.name),
    health: health.status,
    refused,
  }),
);
