import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** With a folder of the built package in DUET_DIST, the device of the tests is that of its files. */
const { DUET_DIST: dist } = process.env;

export default defineConfig({
  test: {
    include: ["tests/*.test.ts"],
    exclude: ["tests/browser/**"],
    testTimeout: 20_000,
    alias: dist ? [{ find: /^\.\.\/src\/local$/, replacement: join(dist, "local.js") }] : [],
  },
});
