/** The pages of the cloud, into the Python package: no request leads elsewhere, and names do not change. */
import { defineConfig } from "vite";
import { terserOptions } from "./terser";

export default defineConfig({
  root: "pages",
  base: "./",
  publicDir: false,
  build: {
    outDir: process.env.DUET_PAGES ?? "../../src/duetgen/cloud/static",
    emptyOutDir: true,
    target: "es2023",
    minify: "terser",
    terserOptions,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: {
      input: { demo: "pages/demo/index.html", dashboard: "pages/dashboard/index.html", sw: "pages/demo/sw.ts" },
      output: {
        entryFileNames: ({ name }) => (name === "sw" ? "demo/sw.js" : "assets/[name].js"),
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
  worker: {
    format: "es",
    rollupOptions: { output: { entryFileNames: "demo/worker.js", chunkFileNames: "demo/[name]-worker.js" } },
  },
});
