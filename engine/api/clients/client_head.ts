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
