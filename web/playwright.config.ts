import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests/browser",
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 30_000 },
  outputDir: process.env.DUET_RESULTS ?? "test-results",
  reporter: [["list"]],
  use: {
    launchOptions: { executablePath: process.env.DUET_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
    viewport: { width: 1280, height: 900 },
  },
});
