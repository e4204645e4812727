/**
 * A React hook: hand it an image, and it has the model's read, or why there is none.
 *
 *     const { state, analyzeBoneAge } = useMedGemmaRadiology(api);
 *     <input type="file" onChange={(event) => analyzeBoneAge(event.target.files![0]!, "F")} />
 *     {state.status === "done" && <Read read={state.read} />}
 *
 * Nothing is stored on the server. A new image takes the place of one that is still being read, and so does leaving the
 * page. `state.read.is_phantom` and `abstained` have to be shown: a read is not for diagnostic use.
 */
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { type AnalysisOut, type Options, type PediScreen, PediScreenError } from "./pediscreen.js";

export type ReadingState =
  | { status: "idle" }
  | { status: "reading" }
  | { status: "done"; read: AnalysisOut }
  /** `canRetry`: the model or the server is away at present */
  | { status: "failed"; code: string; message: string; canRetry: boolean };

export interface MedGemmaRadiology {
  state: ReadingState;
  /** Without a sex, here or in the file, the model abstains. */
  analyzeBoneAge(image: Blob, sex?: "M" | "F"): Promise<void>;
  analyzeRop(image: Blob): Promise<void>;
  analyzeFracture(image: Blob, ageMonths?: number): Promise<void>;
  /** Forget the read, or stop waiting for it. */
  reset(): void;
}

const AWAY = [429, 502, 503, 504];

export function useMedGemmaRadiology(api: PediScreen): MedGemmaRadiology {
  const [state, setState] = useState<ReadingState>({ status: "idle" });
  const current = useRef<AbortController | null>(null);

  const stop = useCallback(() => {
    current.current?.abort();
    current.current = null;
  }, []);
  useEffect(() => stop, [stop]);

  const analyze = useCallback(
    async (ask: (options: Options) => Promise<AnalysisOut>) => {
      stop();
      const mine = new AbortController();
      current.current = mine;
      setState({ status: "reading" });
      let ended: ReadingState;
      try {
        ended = { status: "done", read: await ask({ signal: mine.signal }) };
      } catch (error) {
        ended = failed(error);
      }
      if (current.current === mine) setState(ended); // else another image was handed in, or the page is gone
    },
    [stop],
  );

  const reset = useCallback(() => {
    stop();
    setState({ status: "idle" });
  }, [stop]);

  return useMemo(
    () => ({
      state,
      analyzeBoneAge: (image, sex) => analyze((options) => api.analyzeBoneAge({ image, sex: sex ?? null }, options)),
      analyzeRop: (image) => analyze((options) => api.analyzeRop({ image }, options)),
      analyzeFracture: (image, ageMonths) =>
        analyze((options) => api.analyzeFracture({ image, age_months: ageMonths ?? null }, options)),
      reset,
    }),
    [api, analyze, reset, state],
  );
}

function failed(error: unknown): ReadingState {
  if (error instanceof PediScreenError) {
    return { status: "failed", code: error.code, message: error.message, canRetry: AWAY.includes(error.status) };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { status: "failed", code: "no_connection", message: `The server cannot be reached: ${message}`, canRetry: true };
}
