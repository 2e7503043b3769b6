/** The dashboard: for tokens of scope admin alone, with figures that are those of the service. */
import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalDevice } from "../../src/device";
import { BUNDLES, Cloud } from "./cloud";

const SHOTS = process.env.DUET_SHOTS;
const folder = mkdtempSync(join(tmpdir(), "duet-tokens-"));
const store = join(folder, "tokens.sqlite");
const token = (...words: string[]): string =>
  execFileSync(process.env.DUET_PYTHON ?? "python3", ["-m", "duetgen", "tokens", "add", ...words, "--store", store], { encoding: "utf8" }).trim();

let cloud: Cloud;
let admin: string;
let mine: string;
test.beforeAll(async () => {
  admin = token("--scope", "admin");
  mine = token("browser-1");
  cloud = new Cloud(["--demo", "--tokens", store]);
  cpSync(join(BUNDLES, "first"), join(cloud.registry, "broken"), { recursive: true });
  writeFileSync(join(cloud.registry, "broken", "items.json"), "{}");
  await cloud.start();
});
test.afterAll(async () => {
  await cloud.remove();
  rmSync(folder, { recursive: true });
});

test("it shows nothing without the token of an admin, and then what the service counts", async ({ page, browser }) => {
  await page.goto(`${cloud.url}/dashboard/`);
  await expect(page.locator("#sign-in")).toBeVisible();
  await expect(page.locator("#page")).toBeHidden();
  await page.locator("#token").fill(mine);
  await page.locator("#sign-in button").click();
  await expect(page.locator("#about")).toContainText("may not see");
  const device = await LocalDevice.open({ cloud: cloud.url, token: mine, deviceId: "browser-1", state: null, background: false });
  const [first] = await device.items();
  await device.observe(first!.id);
  for (let at = 0; at < 4; at++) expect(await device.refresh()).toBe(true);
  await device.close();
  await page.locator("#token").fill(admin);
  await page.locator("#sign-in button").click();
  await expect(page.locator("#page")).toBeVisible();
  const version = page.locator("#versions tr").first();
  await expect(version).toContainText(cloud.modelId("first").slice(0, 12));
  await expect(version).toContainText("4");
  await expect(version).toContainText("100.0 %");
  await expect(version).toContainText("latest");
  await expect(page.locator("#stages tr")).toHaveCount(5);
  await expect(page.locator("#stages tr").last()).toContainText("ms");
  await expect(page.locator("#bundles tr").first()).toContainText("invalid-bundle");
  await expect(page.locator("#errors")).toContainText("forbidden");
  await expect(page.locator("#ages")).toContainText("up to 1 min");
  for (const [size, colorScheme, width] of [["phone", "dark", 390], ["desktop", "light", 1280]] as const) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    const { violations } = await new AxeBuilder({ page }).analyze();
    expect(violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target)])).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `dashboard-${size}-${colorScheme}.png`), fullPage: true });
  }
  await page.reload();
  await expect(page.locator("#page")).toBeVisible();
  const other = await browser.newPage();
  await other.goto(`${cloud.url}/dashboard/`);
  await expect(other.locator("#sign-in")).toBeVisible();
  await other.close();
});

test("the demo asks for a token where the cloud does", async ({ page }) => {
  await page.goto(`${cloud.url}/demo/`);
  await expect(page.locator("#sign-in")).toBeVisible();
  await page.locator("#device-id").fill("browser-1");
  await page.locator("#token").fill(mine);
  await page.locator("#sign-in button").click();
  await expect(page.locator("#own li")).toHaveCount(10);
  await page.locator("#picks button").first().click();
  await expect(page.locator("#asked th").first()).toHaveText("newest");
});
