/** The pages of the cloud, into the Python package: no request leads elsewhere, and names do not change. `--mode` is the page. */
import { defineConfig, type Plugin } from "vite";
import { small } from "./terser";

/** A page comes with its script and its styles. An `async` script runs before the page is read on: its device begins at once. */
const inOneFile: Plugin = {
  name: "in-one-file",
  enforce: "post",
  generateBundle(_, bundle) {
    const take = (address: string): string => {
      const name = address.replace("../", "");
      const file = bundle[name]!;
      delete bundle[name];
      return String(file.type === "chunk" ? file.code : file.source).trim();
    };
    for (const page of Object.values(bundle))
      if (page.type === "asset" && page.fileName.endsWith(".html"))
        page.source = String(page.source)
          .replace(/<script (async )?type="module" crossorigin src="(.*?)">/, (_, async, address) => `<script${async ? "" : ' type="module"'}>${take(address)}`)
          .replace(/<link rel="stylesheet" crossorigin href="(.*?)">/, (_, address) => `<style>${take(address)}</style>`);
  },
};

export default defineConfig(({ mode }) => ({
  root: "pages",
  base: "./",
  publicDir: false,
  plugins: [small(), inOneFile],
  build: {
    outDir: process.env.DUET_PAGES ?? "../../src/duetgen/cloud/static",
    emptyOutDir: mode === "demo",
    target: "esnext",
    minify: false,
    cssMinify: true,
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      input: `pages/${mode}/index.html`,
      output: { format: "iife", entryFileNames: `${mode}/[name].js`, assetFileNames: `${mode}/[name][extname]` },
    },
  },
  worker: {
    format: "es",
    plugins: () => [small()],
    rollupOptions: { output: { entryFileNames: "demo/[name].js", chunkFileNames: "demo/[name]-worker.js" } },
  },
}));
