/** The golden files, which Python reads as well. */
import { readdirSync, readFileSync } from "node:fs";
import type { Bytes } from "../src/bytes";
import type { Files, Source } from "../src/bundle";
import type { ParametersAnswer } from "../src/answers";

const ROOT = new URL("../../tests/golden/", import.meta.url);

export const bytesOf = (name: string): Bytes => new Uint8Array(readFileSync(new URL(name, ROOT)));
export const jsonOf = <T = any>(name: string): T => JSON.parse(readFileSync(new URL(name, ROOT), "utf8"));
export const unbase64 = (content: string): Bytes => new Uint8Array(Buffer.from(content, "base64"));
export const floats = (digits: string): Float32Array => new Float32Array(new Uint8Array(Buffer.from(digits, "hex")).buffer);
export const BUNDLES = readdirSync(new URL("bundles/", ROOT)).sort();

export const sourceOf =
  (name: string): Source =>
  async (file) =>
    bytesOf(`bundles/${name}/${file}`);

export function bundleFiles(name: string): Files {
  const folder = new URL(`bundles/${name}/`, ROOT);
  return Object.fromEntries(readdirSync(folder).map((file) => [file, bytesOf(`bundles/${name}/${file}`)]));
}

/** An answer as JSON has it. */
export function answerOf(plain: Record<string, unknown>): ParametersAnswer {
  const binary = ["scale", "theta", "bias", "mac"];
  return Object.fromEntries(
    Object.entries(plain).map(([name, value]) => [name, binary.includes(name) ? unbase64(value as string) : value]),
  ) as ParametersAnswer;
}
