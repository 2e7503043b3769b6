/** How package and pages are made small: several passes, and short names for what only this code calls by them. */
import { type MinifyOptions, minify_sync } from "terser";
import type { Plugin } from "vite";

/** Properties that cross no wire and no message, lie in no storage, and are in no public type. */
const OWN = [
  ...["dims", "nodes", "constants", "inputs", "outputs", "op", "domain", "attributes", "rows", "needs", "left", "varint"],
  ...["model", "canary", "publicKey", "catalogue", "indices", "zeros", "score", "profiled", "standard", "aged"],
  ...["keeps", "heard", "tell", "drop", "clearEvents", "known", "flush", "look", "adopt", "leave"],
  ...["touch", "hear", "erase", "tally", "changed", "capacity", "failing", "succeeded", "failed"],
];

const options: MinifyOptions = {
  module: true,
  ecma: 2020,
  compress: { passes: 3, pure_getters: true, keep_fargs: false, unsafe_arrows: true, unsafe_methods: true },
  mangle: { properties: { regex: new RegExp(`^(${OWN.join("|")})$`) } },
  nameCache: {},
};

/** Instead of the minifier of Vite, which knows no names that files share: properties alone, variables are each file's own. */
export const small = (): Plugin => ({
  name: "small",
  renderChunk(code) {
    delete (options.nameCache as { vars?: object }).vars;
    return minify_sync(code, options).code!;
  },
});
