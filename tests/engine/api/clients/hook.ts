/** The hook in React, against a running API: node hook.js BASE_URL TOKEN FILM. Prints the states it went through. */
import { readFile } from "node:fs/promises";
import { argv } from "node:process";

import { createElement } from "react";
import { act, create } from "react-test-renderer";

import { PediScreen } from "./pediscreen.js";
import { type MedGemmaRadiology, useMedGemmaRadiology } from "./useMedGemmaRadiology.js";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

const [, , baseUrl, token, film] = argv as [string, string, string, string, string];
const image = new Blob([await readFile(film)]);

async function run(api: PediScreen, use: (hook: () => MedGemmaRadiology) => Promise<void>): Promise<unknown[]> {
  const seen: unknown[] = [];
  let latest: MedGemmaRadiology;
  function Page(): null {
    latest = useMedGemmaRadiology(api);
    const { state } = latest;
    const said = state.status === "done" ? state.read.answer : state.status === "failed" ? state.code : null;
    seen.push({ status: state.status, said, canRetry: state.status === "failed" ? state.canRetry : null });
    return null;
  }
  let page: ReturnType<typeof create>;
  await act(async () => {
    page = create(createElement(Page));
  });
  let asked: Promise<void>;
  await act(async () => {
    asked = use(() => latest); // what it shows meanwhile is drawn at the end of this act
  });
  await act(async () => asked);
  await act(async () => page.unmount());
  return seen;
}

const api = new PediScreen({ baseUrl, token });
const read = await run(api, (hook) => hook().analyzeBoneAge(image));
const refused = await run(api, (hook) => hook().analyzeRop(new Blob(["no image"])));
const replaced = await run(api, async (hook) => {
  const first = hook().analyzeBoneAge(image);
  const second = hook().analyzeFracture(image, 96);
  await Promise.all([first, second]);
});
const forgotten = await run(api, async (hook) => {
  const asked = hook().analyzeBoneAge(image);
  hook().reset();
  await asked;
});
const away = await run(new PediScreen({ baseUrl: "http://127.0.0.1:1", token }), (hook) => hook().analyzeRop(image));

console.log(JSON.stringify({ read, refused, replaced, forgotten, away }));
