/** How package and pages are made small: several passes, and nothing that would need other code than what is written. */
import type { MinifyOptions } from "terser";

export const terserOptions: MinifyOptions = {
  module: true,
  ecma: 2020,
  compress: { passes: 3, pure_getters: true, keep_fargs: false, unsafe_arrows: true, unsafe_methods: true },
};
