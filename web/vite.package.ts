/** The package: `dist/index.js` for the page, `dist/worker.js` for its worker, `dist/local.js` for a device without one. */
import { defineConfig } from "vite";
import { small } from "./terser";

export default defineConfig({
  base: "./",
  publicDir: false,
  plugins: [small()],
  build: {
    outDir: "dist",
    target: "esnext",
    minify: false,
    cssMinify: true,
    modulePreload: false,
    rollupOptions: {
      input: { index: "src/index.ts", local: "src/local.ts" },
      // What both entries need lies in that of the page: one file fewer before its first ranking.
      preserveEntrySignatures: "allow-extension",
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        manualChunks: (id) => (/src.(index|remote|errors|policies)\.ts$/.test(id) ? "index" : null),
      },
    },
  },
  worker: { format: "es", plugins: () => [small()], rollupOptions: { output: { entryFileNames: "worker.js", chunkFileNames: "[name]-worker.js" } } },
});
