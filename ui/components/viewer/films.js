/* Films, fetched once. No DOM here. */

const KEPT_FILMS = 6;
const KEPT_BYTES = 200e6; // beyond it the oldest go first: a film of 10,000 x 10,000 pixels has as much by itself

const films = new Map(); // url -> {bytes: Promise<ArrayBuffer>, size}, most recent last; holds the prefetched next case

/** Why a film is not there. `again`: whether trying again may help by itself. */
class FilmMissing extends Error {
  constructor(message, again) {
    super(message);
    this.again = again;
  }
}

/** The bytes at `url`, from memory when they were fetched before. Rejects with FilmMissing. */
export function fetchFilm(url) {
  const kept = films.get(url) || download(url);
  films.delete(url);
  films.set(url, kept);
  let size = 0;
  for (const [one, { size: its }] of [...films].reverse()) {
    size += its;
    if (one !== url && (size > KEPT_BYTES || films.size > KEPT_FILMS)) films.delete(one);
  }
  return kept.bytes;
}

function download(url) {
  const entry = { size: 0 };
  entry.bytes = request(url);
  entry.bytes.then(
    (bytes) => (entry.size = bytes.byteLength),
    () => films.get(url) === entry && films.delete(url),
  );
  return entry;
}

async function request(url) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
    if (response.ok) return await response.arrayBuffer();
  } catch (error) {
    if (error instanceof RangeError) throw new FilmMissing("This film is too large for the memory of this browser.", false);
    throw new FilmMissing("The server does not answer.", true);
  }
  const body = await response.json().catch(() => null);
  const said = body?.error?.message || `the server answered ${response.status}`;
  if (response.status === 401) throw new FilmMissing("You are no longer signed in. Reload the page to sign in again.", false);
  if (response.status === 403) throw new FilmMissing(`This film is not for you to see: ${said}.`, false);
  if (response.status === 404 || response.status === 410) {
    const todo = "Have the data folder restored from a backup, or reject the case as not readable.";
    throw new FilmMissing(`The pixels of this film are gone: ${said}. ${todo}`, false);
  }
  throw new FilmMissing(`The server could not send the film: ${said}.`, response.status >= 500 || response.status === 429);
}
