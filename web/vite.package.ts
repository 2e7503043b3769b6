/** The package: `dist/index.js` for the page, `dist/worker.js` for its worker, and what both load when they need it. */
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    target: "es2023",
    minify: "esbuild",
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "index" },
    rollupOptions: { output: { chunkFileNames: "[name].js" } },
  },
  worker: { format: "es", rollupOptions: { output: { entryFileNames: "worker.js", chunkFileNames: "[name]-worker.js" } } },
});
