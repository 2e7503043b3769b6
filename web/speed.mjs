/** What `benchmarks/browser_speed.py` runs: BUNDLE DIST WANTED; prints its figures as JSON. */
import { chromium } from "@playwright/test";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const [bundle, dist, wanted] = process.argv.slice(2);
const { refreshes, ...series } = JSON.parse(wanted);
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const folders = { bundle, dist, ort };
/** A page whose worker answers a message, and does nothing else: what the browser itself takes. */
const empty = {
  page: '<!doctype html><title>empty</title><script type="module" src="/empty/page.js"></script>',
  "page.js": `const worker = new Worker("/empty/worker.js", { type: "module" });
    worker.onmessage = () => performance.mark("first-ranking");
    worker.postMessage(null);`,
  "worker.js": "onmessage = () => postMessage(null);",
};
const types = { js: "text/javascript", mjs: "text/javascript", wasm: "application/wasm" };
const server = createServer((question, answer) => {
  const [, folder, name] = question.url.split("/");
  // An isolated page has a clock that is fine enough for a single call.
  answer.setHeader("cross-origin-opener-policy", "same-origin");
  answer.setHeader("cross-origin-embedder-policy", "require-corp");
  if (empty[name]) return answer.writeHead(200, { "content-type": types[name.split(".")[1]] ?? "text/html" }).end(empty[name]);
  if (!folders[folder]) return answer.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>speed</title>");
  try {
    const content = readFileSync(join(folders[folder], name));
    answer.writeHead(200, { "content-type": types[name.split(".").at(-1)] ?? "application/octet-stream" }).end(content);
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const site = `http://127.0.0.1:${server.address().port}`;

const flags = ["--open", "--demo", "--json", "--port", "0", "--rate", "0", "--cors", site];
const cloud = spawn(process.env.DUET_PYTHON, ["-m", "duetgen", "serve", bundle, ...flags], { stdio: ["ignore", "pipe", "ignore"] });
const url = JSON.parse(await new Promise((resolve) => cloud.stdout.once("data", (line) => resolve(String(line))))).url;

const browser = await chromium.launch({
  executablePath: process.env.DUET_CHROMIUM,
  args: ["--no-sandbox", "--enable-precise-memory-info"],
});
const found = { plain: {}, ort: {}, first: [], empty: [], heap: [] };
try {
  for (const engine of ["plain", "ort"]) {
    const page = await browser.newPage();
    await page.goto(site);
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable");
    await page.evaluate(async (engine) => {
      const { LocalDevice } = await import(new URL("/dist/local.js", location.href).href);
      globalThis.device = await LocalDevice.open({ bundle: "/bundle", state: null, background: false, engine, ort: "/ort/ort.wasm.min.mjs" });
      globalThis.ids = (await device.items()).map(({ id }) => id);
    }, engine);
    for (const count of series.candidates) {
      const calls = (turns, seconds) =>
        page.evaluate(
          async ([count, turns, seconds]) => {
            const wanted = ids.slice(0, count);
            const taken = [];
            const end = performance.now() + 1000 * seconds;
            while (taken.length < turns && (performance.now() < end || taken.length < 2)) {
              const begun = performance.now();
              await device.observe(ids[taken.length % ids.length]);
              await device.rank(wanted, { met: "show" });
              taken.push(performance.now() - begun);
            }
            return taken;
          },
          [count, turns, seconds],
        );
      const processor = async () => {
        const { metrics } = await session.send("Performance.getMetrics");
        return 1000 * metrics.find(({ name }) => name === "ThreadTime").value;
      };
      await calls(series.warm, series.seconds / 2);
      const before = await processor();
      const taken = (await calls(series.turns - series.warm, series.seconds / 2)).sort((one, other) => one - other);
      const spent = (await processor()) - before;
      found[engine][count] = { least: taken[0], median: taken[Math.floor(taken.length / 2)], processor: spent / taken.length };
    }
    await page.close();
  }
  for (let turn = 0; turn < series.loads; turn++)
    for (const [name, address] of Object.entries({ first: `${url}/demo/`, empty: `${site}/empty/page` })) {
      const context = await browser.newContext();
      const page = await context.newPage();
      // What the browser does for a new window is no part of a page's load.
      await page.waitForTimeout(1500);
      await page.goto(address, { waitUntil: "commit" });
      await page.waitForFunction(() => performance.getEntriesByName("first-ranking").length);
      found[name].push(await page.evaluate(() => performance.getEntriesByName("first-ranking")[0].startTime));
      await context.close();
    }
  if (refreshes) {
    const page = await browser.newPage();
    await page.goto(site);
    const session = await page.context().newCDPSession(page);
    await page.evaluate(async (cloud) => {
      const { LocalDevice } = await import(new URL("/dist/local.js", location.href).href);
      globalThis.device = await LocalDevice.open({ cloud, state: null, background: false });
      globalThis.ids = (await device.items()).map(({ id }) => id);
    }, url);
    const parts = 5;
    for (let part = 0; part <= parts; part++) {
      await session.send("HeapProfiler.collectGarbage");
      found.heap.push(await page.evaluate(() => performance.memory.usedJSHeapSize));
      if (part === parts) break;
      await page.evaluate(async (count) => {
        for (let at = 0; at < count; at++) {
          await device.observe(ids[at % ids.length]);
          if (!(await device.refresh())) throw new Error((await device.status()).lastError);
          await device.recommend(10);
        }
      }, refreshes / parts);
    }
  }
} finally {
  await browser.close();
  cloud.kill("SIGINT");
  server.close();
}
console.log(JSON.stringify(found));
