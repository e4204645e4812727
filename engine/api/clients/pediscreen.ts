// Written by python -m engine.api.clients.generate from the API's description: change that, not this file.

/**
 * The PediScreen API from a browser or from Node 18 on: no packages needed.
 *
 *     const api = new PediScreen({ baseUrl: "https://pediscreen.hospital/api", token });
 *     const page = await api.queue({ status: ["awaiting_review"] });
 *
 * What is refused rejects with a PediScreenError. Not for diagnostic use.
 */
export interface ConnectionSettings {
  /** Where the API is, such as https://pediscreen.hospital/api */
  baseUrl: string;
  /** ps_...; left out where a signed-in browser asks its own server */
  token?: string;
}

export interface Options {
  signal?: AbortSignal;
}

export interface WriteOptions extends Options {
  /** The same key with the same request, within 24 hours: the same answer, and nothing is done twice */
  idempotencyKey?: string;
}

export class PediScreenError extends Error {
  override readonly name = "PediScreenError";

  constructor(
    readonly status: number,
    /** stable, such as "conflict" */
    readonly code: string,
    message: string,
    /** what the server's log has it under */
    readonly requestId: string | null,
    /** after which to try again, where waiting helps */
    readonly retryAfterSeconds: number | null,
    /** the whole answer, where it was JSON */
    readonly answer: unknown,
  ) {
    super(message);
  }
}

interface Sent extends WriteOptions {
  query?: object;
  body?: object;
  form?: object;
}

class Connection {
  private readonly baseUrl: string;
  private readonly token: string | undefined;

  constructor(settings: ConnectionSettings) {
    this.baseUrl = settings.baseUrl.replace(/\/+$/, "");
    this.token = settings.token;
  }

  protected async json<T>(method: string, path: string, sent: Sent): Promise<T> {
    return (await (await this.answered(method, path, sent)).json()) as T;
  }

  protected async bytes(method: string, path: string, sent: Sent): Promise<ArrayBuffer> {
    return (await this.answered(method, path, sent)).arrayBuffer();
  }

  private async answered(method: string, path: string, { query, body, form, signal, idempotencyKey }: Sent) {
    const headers = new Headers({ Accept: "*/*" });
    if (this.token !== undefined) headers.set("Authorization", `Bearer ${this.token}`);
    if (idempotencyKey !== undefined) headers.set("Idempotency-Key", idempotencyKey);
    if (body !== undefined) headers.set("Content-Type", "application/json");
    const response = await fetch(this.baseUrl + path + searchOf(query), {
      method,
      headers,
      body: form !== undefined ? formOf(form) : body !== undefined ? JSON.stringify(body) : null,
      signal: signal ?? null,
    });
    if (!response.ok) throw await errorOf(response);
    return response;
  }
}

/** Several values of one name are repeated; what is undefined or null is left out. */
function entriesOf(fields: object): [string, unknown][] {
  return Object.entries(fields).flatMap(([name, value]): [string, unknown][] =>
    Array.isArray(value) ? value.map((one) => [name, one]) : value == null ? [] : [[name, value]],
  );
}

function searchOf(query: object | undefined): string {
  const search = new URLSearchParams(entriesOf(query ?? {}).map(([name, value]) => [name, String(value)])).toString();
  return search === "" ? "" : `?${search}`;
}

function formOf(fields: object): FormData {
  const form = new FormData();
  for (const [name, value] of entriesOf(fields)) {
    if (value instanceof Blob) form.append(name, value, "name" in value ? String(value.name) : "film");
    else form.append(name, String(value));
  }
  return form;
}

async function errorOf(response: Response): Promise<PediScreenError> {
  const answer: unknown = await response.json().catch(() => null);
  const said = (answer as { error?: { code?: string; message?: string } } | null)?.error;
  const wait = response.headers.get("Retry-After");
  return new PediScreenError(
    response.status,
    said?.code ?? "no_answer_of_pediscreen",
    said?.message ?? `The server answered with status ${response.status}.`,
    response.headers.get("X-Request-Id"),
    wait === null ? null : Number(wait),
    answer,
  );
}

/** A read of an image that was not stored. */
export interface AnalysisOut {
  task: Task;
  /** null where the model abstained */
  answer: BoneAgeAnswer | RopAnswer | FractureAnswer | null;
  /** of every allowed answer: by months (bone age), by class (fracture), or for ROP by zone, stage and plus disease; empty where the model abstained */
  probabilities: RopProbabilities | Record<string, number>;
  /** bone age alone */
  median_months: number | null;
  /** 80 %, bone age alone */
  interval_months: [number, number] | null;
  abstained: boolean;
  /** why the model abstained */
  reason: string | null;
  model_version: string;
  milliseconds: number;
  /** made by the phantom model: not for diagnostic use */
  is_phantom: boolean;
  /** what it was read with */
  sex: "M" | "F" | null;
  /** what it was read with */
  age_months: number | null;
  /** the image says that it is synthetic */
  image_is_phantom: boolean;
  warnings: string[];
}

/** An answer given before the read was shown. */
export interface BlindAnswerIn {
  /** may be left out where the study has one image */
  image_id?: number | null;
  answer: BoneAgeAnswer | RopAnswer | FractureAnswer;
  comment?: string | null;
  details?: Details;
  /** from image shown to this answer */
  seconds?: number | null;
}

export interface AnalyzeBoneAgeForm {
  /** DICOM, PNG or JPEG */
  image: Blob;
  /** needed where the file does not say it; the model abstains without */
  sex?: "M" | "F" | null;
}

export interface AnalyzeFractureForm {
  /** DICOM, PNG or JPEG */
  image: Blob;
  /** where the file does not say it */
  age_months?: number | null;
}

export interface AnalyzeRopForm {
  /** DICOM, PNG or JPEG */
  image: Blob;
}

export interface UploadForm {
  /** DICOM, PNG or JPEG; at most 50 */
  files: Blob[];
  patient_id?: string | null;
  sex?: "M" | "F" | null;
  birth_date?: string | null;
  acquired_on?: string | null;
  laterality?: "L" | "R" | null;
  site?: string | null;
  task?: Task | null;
}

export type Bone = "radius" | "ulna" | "both";

export interface BoneAgeAnswer {
  task: "bone_age";
  /** on the Greulich-Pyle scale */
  bone_age_months: number;
}

export interface Details {
  method?: Method;
  aggressive?: boolean;
  notch?: boolean;
  posterior_zone_ii?: boolean;
  substage?: Substage;
  regression?: Regression;
  reactivation?: Reactivation;
  treatment?: Treatment;
  fracture_class?: FractureClass;
  bone?: Bone;
  region?: Region;
  displaced?: boolean;
  open_fracture?: boolean;
  neurovascular_deficit?: boolean;
  compartment_syndrome?: boolean;
  galeazzi_or_monteggia?: boolean;
  corner_fracture?: boolean;
  history_inconsistent?: boolean;
  quality?: "good" | "limited";
  no_burned_in_text?: boolean;
  regions?: MarkedRegion[];
  landmarks?: Landmarks;
}

export interface ErrorAnswer {
  error: ErrorDetail;
}

export interface ErrorDetail {
  /** stable, short, machine readable */
  code: string;
  /** what was wrong, the value seen, and what to do */
  message: string;
}

export type Fracture = "distal_radius" | "buckle" | "normal";

export interface FractureAnswer {
  task: "fracture";
  fracture: Fracture;
}

export type FractureClass = "none" | "buckle" | "greenstick" | "complete" | "sh1" | "sh2" | "sh3" | "sh4" | "sh5";

export interface Health {
  status: "ok";
  version: string;
}

export interface ImageOut {
  image_id: number;
  laterality: "L" | "R" | null;
  rows: number;
  cols: number;
  is_colour: boolean;
  modality: string | null;
  pixels_url: string;
  missing_facts: string[];
  read_state: ReadState;
  read_blocked_reason: string | null;
  read: ReadOut | null;
  /** the read is shown after a blind answer */
  read_hidden: boolean;
  /** what this reader answered before they saw the read */
  blind_answer: BoneAgeAnswer | RopAnswer | FractureAnswer | null;
  blind_comment: string | null;
  /** what they added to it, and marked on the film */
  blind_details: Details | Record<string, JsonValue>;
  /** why neither the decisions are shown nor one can be recorded */
  withheld: string | null;
  /** the latest first */
  reviews: ReviewOut[];
  /** send it back with a review */
  seen_review_id: number | null;
}

export type JsonValue = unknown;

/** Of a fundus. `ora`: where the reader saw the nasal ora serrata, perhaps beyond the photograph. */
export interface Landmarks {
  /** x, y in film pixels */
  disc: number[];
  /** x, y in film pixels */
  fovea: number[];
  /** x, y in film pixels */
  ora?: number[];
}

/** Mildest first. */
export type Level = "none" | "soon" | "urgent" | "immediate";

/** In film pixels; x1 and y1 lie outside the region. */
export interface MarkedRegion {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

/** How the bone age was found; always on the Greulich-Pyle scale, the only one that the answer knows. */
export type Method = "by_eye" | "atlas" | "atlas_bone_by_bone";

export interface ModelOut {
  name: string;
  is_phantom: boolean;
  first_used_at: string;
  reads: number;
  /** a live worker has it loaded */
  in_use: boolean;
}

export type Plus = "none" | "preplus" | "plus";

export interface QueuePage {
  rows: QueueRow[];
  /** over all pages */
  total: number;
  page: number;
  page_size: number;
}

export interface QueueRow {
  study_id: number;
  pseudonym: string;
  task: Task | null;
  lateralities: string[];
  sex: "M" | "F" | null;
  age_months: number | null;
  site: string | null;
  acquired_on: string | null;
  received_at: string;
  status: StudyStatus;
  urgency: Level;
  urgency_reason: string | null;
  urgency_unverified: boolean;
  read_words: string;
  review_words: string | null;
  warning_count: number;
  is_phantom: boolean;
}

export type Reactivation = "no" | "suspected" | "yes";

export interface ReadOut {
  task: Task;
  /** null where the model abstained */
  answer: BoneAgeAnswer | RopAnswer | FractureAnswer | null;
  /** of every allowed answer: by months (bone age), by class (fracture), or for ROP by zone, stage and plus disease; empty where the model abstained */
  probabilities: RopProbabilities | Record<string, number>;
  /** bone age alone */
  median_months: number | null;
  /** 80 %, bone age alone */
  interval_months: [number, number] | null;
  abstained: boolean;
  /** why the model abstained */
  reason: string | null;
  model_version: string;
  milliseconds: number;
  /** made by the phantom model: not for diagnostic use */
  is_phantom: boolean;
  /** send it back with a review */
  prediction_id: number;
}

/** `blocked`: the model cannot read this image, or not yet; `Image.read_blocked_reason` says why. */
export type ReadState = "queued" | "done" | "blocked";

/** AO's segments: epiphysis with the growth plate (E), metaphysis (M), diaphysis (D). */
export type Region = "physis" | "metaphysis" | "shaft";

export type Regression = "none" | "incomplete" | "complete";

export type RejectReason = "wrong_side" | "poor_quality" | "wrong_child" | "wrong_view" | "not_readable" | "other";

/** `answer` belongs to `corrected`, `reject_reason` to `rejected`; "other" needs a comment. */
export interface ReviewIn {
  /** may be left out where the study has one image */
  image_id?: number | null;
  verdict: "confirmed" | "corrected" | "rejected";
  answer?: BoneAgeAnswer | RopAnswer | FractureAnswer | null;
  reject_reason?: RejectReason | null;
  comment?: string | null;
  details?: Details;
  /** the read that was looked at */
  prediction_id?: number | null;
  /** the latest review that was looked at */
  seen_review_id?: number | null;
  /** from image shown to decision */
  seconds?: number | null;
}

export interface ReviewOut {
  review_id: number;
  revision: number;
  verdict: Verdict;
  answer: BoneAgeAnswer | RopAnswer | FractureAnswer | null;
  words: string;
  reject_reason: RejectReason | null;
  comment: string | null;
  /** what was added to the answer, marks on the film */
  details: Details | Record<string, JsonValue>;
  reader: string;
  created_at: string;
}

export interface ReviewRecorded {
  review_id: number;
}

/** ICROP3's words; the zone "none" is complete vascularisation, and leaves stage 0 and no plus disease. */
export interface RopAnswer {
  task: "rop";
  zone: Zone;
  stage: Stage;
  plus_disease: Plus;
}

export interface RopProbabilities {
  zone: Record<Zone, number>;
  stage: Record<Stage, number>;
  plus_disease: Record<Plus, number>;
}

export type Sort = "urgency" | "learning" | "acquired" | "received" | "age" | "site" | "status" | "patient";

/** ICROP3 stage; 0 is incomplete vascularisation without ROP (a software convention, unverified). */
export type Stage = "0" | "1" | "2" | "3" | "4" | "5";

export interface StudyOut {
  study_id: number;
  pseudonym: string;
  sex: "M" | "F" | null;
  /** at the examination */
  age_months: number | null;
  acquired_on: string | null;
  received_at: string;
  site: string | null;
  task: Task | null;
  status: StudyStatus;
  urgency: UrgencyOut;
  warnings: string[];
  is_phantom: boolean;
  images: ImageOut[];
}

/**
 * Derived from the study's images: `awaiting_read` while the model is at turn, `awaiting_review` while a
 * reader is (also when the read waits for a fact that only a reader can supply).
 */
export type StudyStatus = "awaiting_read" | "awaiting_review" | "reviewed" | "rejected";

/** The letter of stage 4A, 4B, 5A, 5B or 5C. */
export type Substage = "a" | "b" | "c";

export type Task = "bone_age" | "rop" | "fracture";

export type Treatment = "none" | "laser" | "anti_vegf";

export interface UploadAnswer {
  /** in the order in which they were sent */
  files: UploadedFile[];
}

/** None of the files is on the worklist. */
export interface UploadRefused {
  /** in the order in which they were sent */
  files: UploadedFile[];
  error: ErrorDetail;
}

export interface UploadedFile {
  outcome: "accepted" | "duplicate" | "quarantined";
  file_name: string;
  file_sha256: string;
  study_id: number | null;
  image_id: number | null;
  task: Task | null;
  warnings: string[];
  reason_code: string | null;
  reason: string | null;
}

export interface UrgencyOut {
  level: Level;
  reason: string | null;
  source: string | null;
  /** the rule still awaits a clinician's check against its primary document */
  unverified: boolean;
}

/** `withdrawn` takes back the review it supersedes. */
export type Verdict = "confirmed" | "corrected" | "rejected" | "withdrawn";

/** ICROP3 zone of the most posterior disease; `none` where vascularisation is complete. */
export type Zone = "I" | "II" | "III" | "none";

export interface QueueQuery {
  status?: StudyStatus[] | null;
  task?: Task[] | null;
  site?: string[] | null;
  urgency?: Level[] | null;
  /** in pseudonym, patient ID, accession number, study UID */
  search?: string;
  age_from_months?: number | null;
  age_to_months?: number | null;
  sort?: Sort;
  descending?: boolean;
  page?: number;
  page_size?: number;
}

export interface PixelsQuery {
  /** image id; the study's first image when left out */
  image?: number | null;
}

export class PediScreen extends Connection {
  /**
   * One page of the worklist. Repeat a parameter to allow several values of it. The header Link names the first,
   * previous, next and last page.
   */
  queue(query: QueueQuery = {}, options: Options = {}): Promise<QueuePage> {
    return this.json<QueuePage>("GET", `/radiology/queue`, { query, ...options });
  }

  /** One study with its images, their reads and what was decided about them. */
  study(study_id: number, options: Options = {}): Promise<StudyOut> {
    return this.json<StudyOut>("GET", `/radiology/studies/${encodeURIComponent(study_id)}`, { ...options });
  }

  /**
   * The stored values, little endian: uint16 (rows, cols) for grey, uint8 (rows, cols, 3) for colour.
   *
   * They were compressed once, when the film came in, and leave as they lie on disk: compressing 10 MB for every
   * answer would hold up every other user of this process for half a second.
   */
  pixels(study_id: number, query: PixelsQuery = {}, options: Options = {}): Promise<ArrayBuffer> {
    return this.bytes("GET", `/radiology/studies/${encodeURIComponent(study_id)}/pixels`, { query, ...options });
  }

  /**
   * Take in files. The form's fields fill what the files do not say and never override what they say.
   *
   * Each file has its own outcome; a refused one is kept in quarantine. The status is 201 when at least one file is
   * now on the worklist, and 422 when none is.
   */
  upload(form: UploadForm, options: WriteOptions = {}): Promise<UploadAnswer> {
    return this.json<UploadAnswer>("POST", `/radiology/studies`, { form, ...options });
  }

  /** Record a decision. 409 when somebody decided, or the model read again, after `seen_review_id`. */
  recordReview(study_id: number, body: ReviewIn, options: WriteOptions = {}): Promise<ReviewRecorded> {
    return this.json<ReviewRecorded>("POST", `/radiology/studies/${encodeURIComponent(study_id)}/review`, { body, ...options });
  }

  /** Answer before the read is shown; the answer is the study with its read. 409 when it was shown already. */
  giveBlindAnswer(study_id: number, body: BlindAnswerIn, options: WriteOptions = {}): Promise<StudyOut> {
    return this.json<StudyOut>("POST", `/radiology/studies/${encodeURIComponent(study_id)}/blind-answer`, { body, ...options });
  }

  /** The bone age of a left hand, on the Greulich-Pyle scale. Nothing is stored but that it was asked. */
  analyzeBoneAge(form: AnalyzeBoneAgeForm, options: Options = {}): Promise<AnalysisOut> {
    return this.json<AnalysisOut>("POST", `/radiology/analyze-bone-age`, { form, ...options });
  }

  /** Zone, stage and plus disease of one eye's fundus. Nothing is stored but that it was asked. */
  analyzeRop(form: AnalyzeRopForm, options: Options = {}): Promise<AnalysisOut> {
    return this.json<AnalysisOut>("POST", `/radiology/analyze-rop`, { form, ...options });
  }

  /** Distal radius fracture, buckle fracture or neither on a wrist. Nothing is stored but that it was asked. */
  analyzeFracture(form: AnalyzeFractureForm, options: Options = {}): Promise<AnalysisOut> {
    return this.json<AnalysisOut>("POST", `/radiology/analyze-fracture`, { form, ...options });
  }

  /** The models that have read so far, the latest first. */
  models(options: Options = {}): Promise<ModelOut[]> {
    return this.json<ModelOut[]>("GET", `/radiology/models`, { ...options });
  }

  /** Whether the process answers; for a proxy or a monitor, without a token. */
  health(options: Options = {}): Promise<Health> {
    return this.json<Health>("GET", `/health`, { ...options });
  }
}
