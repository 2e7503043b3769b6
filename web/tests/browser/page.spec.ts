/** The package in pages of others: as the documentation shows it, with a bundle of the page's own, with ONNX Runtime. */
import { expect, test } from "@playwright/test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createRequire } from "node:module";
import type { Device } from "../../src/index";
import { BUNDLES, Cloud, Way } from "./cloud";

declare global {
  var device: Device;
}
const here = dirname(fileURLToPath(import.meta.url));
const dist = process.env.DUET_DIST ?? join(here, "../../dist");
const ORT = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));

let cloud: Cloud;
let site: Way;
test.beforeAll(async () => {
  site = await new Way(() => "http://127.0.0.1:9").open();
  cloud = await new Cloud(["--open", "--cors", site.url]).start();
  for (const name of readdirSync(dist).filter((one) => one.endsWith(".js")))
    site.own.set(`/duet/${name}`, ["text/javascript", readFileSync(join(dist, name))]);
  for (const name of readdirSync(join(BUNDLES, "first")))
    site.own.set(`/bundle/${name}`, ["application/octet-stream", readFileSync(join(BUNDLES, "first", name))]);
  for (const name of readdirSync(ORT).filter((one) => /^ort(-wasm-simd-threaded)?\.(wasm\.min\.)?(mjs|wasm)$/.test(one)))
    site.own.set(`/ort/${name}`, [name.endsWith("wasm") ? "application/wasm" : "text/javascript", readFileSync(join(ORT, name))]);
});
test.afterAll(async () => {
  site.close();
  await cloud.remove();
});

const page = (options: string): string => `<!doctype html><title>page</title><script type="module">
  import { always, openDevice } from "./duet/index.js";
  globalThis.device = await openDevice(${options});
</script>`;

test("the page of the documentation, on an origin that the cloud allows", async ({ page: tab }) => {
  const example = /```html\n([\s\S]*?)```/.exec(readFileSync(join(here, "../../../docs/web-page.md"), "utf8"))![1]!;
  // Its device is shown to the test; all else is as it stands there.
  const shown = example.replace("https://cloud.example", cloud.url).replace('"…"', '""').replace("const device =", "const device = globalThis.device =");
  site.own.set("/example", ["text/html", shown]);
  const [strangers, scripts]: [string[], string[]] = [[], []];
  tab.on("request", (request) => {
    const { origin, pathname } = new URL(request.url());
    if (![site.url, cloud.url].includes(origin)) strangers.push(request.url());
    if (pathname.startsWith("/duet/")) scripts.push(pathname.slice(6));
  });
  await tab.goto(`${site.url}/example`);
  await expect(tab.locator("#films li")).toHaveCount(10);
  const before = await tab.locator("#films li").allTextContents();
  await tab.locator("#films li").first().click();
  await expect.poll(() => tab.evaluate(async () => (await device.status()).source)).toBe("theta");
  await expect.poll(() => tab.locator("#films li").allTextContents()).not.toEqual(before);
  expect((await tab.evaluate(() => device.status())).last!.cloud).not.toBeNull();
  expect(strangers).toEqual([]);
  // Those that `tests/web/test_web.py` weighs, and no others.
  expect(scripts.sort()).toEqual(["asking-worker.js", "index.js", "worker.js"]);
});

test("without what asks the cloud the device ranks all the same", async ({ page: tab }) => {
  await tab.route("**/asking-worker.js", (route) => route.abort());
  const uncaught: Error[] = [];
  tab.on("pageerror", (error) => uncaught.push(error));
  site.own.set("/cut", ["text/html", page(`{ cloud: "${cloud.url}", state: null }`)]);
  await tab.goto(`${site.url}/cut`);
  await expect.poll(() => tab.evaluate(() => typeof globalThis.device)).toBe("object");
  const [ranking, refused] = await tab.evaluate(async () => {
    const [first] = await device.items();
    await device.observe(first!.id);
    return [await device.recommend(5), await device.refresh().catch((cause) => cause.code)] as const;
  });
  expect([ranking.length, refused]).toEqual([5, "cloud-unreachable"]);
  expect(uncaught).toEqual([]);
  await tab.evaluate(async () => (await device.forget(), device.close()));
});

test("what goes to the worker: an iterator is a list, and a function is refused by its code", async ({ page: tab }) => {
  site.own.set("/sent", ["text/html", page(`{ bundle: "bundle/", state: null }`)]);
  await tab.goto(`${site.url}/sent`);
  await expect.poll(() => tab.evaluate(() => typeof globalThis.device)).toBe("object");
  const [lists, codes] = await tab.evaluate(async () => {
    const ids = (await device.items()).slice(0, 3).map(({ id }) => id);
    const titles = new Map(ids.map((id) => [id, id]));
    const lists = [await device.rank(ids), await device.rank(titles.keys()), await device.rank(new Set(ids))];
    const code = (work: Promise<unknown>): Promise<string> => work.then(String, ({ code }) => code);
    const own = { due: () => true };
    const codes = [code(device.setPolicy(own)), code(device.rank("i1")), code(device.observe("i1", 1.5))];
    return [lists, await Promise.all(codes)] as const;
  });
  expect(lists[0]).toHaveLength(3);
  expect(lists.slice(1)).toEqual([lists[0], lists[0]]);
  expect(codes).toEqual(["invalid-device-config", "invalid-items", "invalid-items"]);
});

test("a page of an origin that the cloud does not allow gets nothing", async ({ page: tab }) => {
  const refused = page(`{ cloud: "${cloud.url}", state: null }).catch((cause) => cause.code`);
  site.own.set("/refused", ["text/html", refused]);
  await tab.goto(`${site.url.replace("127.0.0.1", "localhost")}/refused`);
  await expect.poll(() => tab.evaluate(() => globalThis.device as unknown)).toBe("cloud-unreachable");
});

test("the cloud is down from the start: the page's own bundle ranks, and the device goes on asking", async ({ page: tab }) => {
  site.own.set("/alone", ["text/html", page(`{ cloud: "http://127.0.0.1:9", bundle: "bundle/", policy: always() }`)]);
  await tab.goto(`${site.url}/alone`);
  await expect.poll(() => tab.evaluate(() => typeof globalThis.device)).toBe("object");
  const [ranking, status] = await tab.evaluate(async () => {
    const [first] = await device.items();
    await device.observe(first!.id);
    return [await device.recommend(5), await device.status()] as const;
  });
  expect([ranking.length, status.source, status.modelId]).toEqual([5, "global", cloud.modelId("first")]);
  await expect.poll(() => tab.evaluate(async () => (await device.status()).failures["cloud-unreachable"])).toBeGreaterThan(1);
});

test("with ONNX Runtime in WebAssembly the scores are the same to 1e-4, and the order too", async ({ page: tab }) => {
  for (const [at, options] of ["", `engine: "ort", ort: "ort/ort.wasm.min.mjs",`].entries())
    site.own.set(`/engine${at}`, ["text/html", page(`{ bundle: "bundle/", ${options} state: null }`)]);
  const rankings: [string, number][][] = [];
  for (const [at, engine] of ["plain", "ort"].entries()) {
    await tab.goto(`${site.url}/engine${at}`);
    await expect.poll(() => tab.evaluate(() => typeof globalThis.device)).toBe("object");
    expect((await tab.evaluate(() => device.status())).engine).toBe(engine);
    rankings.push(
      await tab.evaluate(async () => {
        const [first, , third] = await device.items();
        await device.observe(first!.id, third!.id);
        return device.recommend(50);
      }),
    );
  }
  expect(rankings[1]!.map(([id]) => id)).toEqual(rankings[0]!.map(([id]) => id));
  rankings[1]!.forEach(([, score], at) => expect(Math.abs(score - rankings[0]![at]![1])).toBeLessThan(1e-4));
});
