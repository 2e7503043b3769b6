/** One published version: verified before anything of it is believed. */
import { type Bytes, sizeOf, sum, text, utf8 } from "./bytes";
import { type Check, list, map, number, object, oneOf, or, string, whole } from "./check";
import type { Limit } from "./client";
import { sha256, verifySignature } from "./crypto";
import * as limits from "./limits";
import { DIGEST, met, parts } from "./messages";
import { invalidBundle } from "./refusals";
import { trust } from "./trust";

const FORMAT_VERSION = 2;
export const MANIFEST = "manifest.json";
const SIGNATURE = "signature.json";

/** What a device has of a bundle, beside manifest and signature. */
export const DEVICE_FILES = ["device.onnx", "items.json", "canary.json"] as const;
const FILES = [...DEVICE_FILES, "generator.onnx"].sort();
export type Files = Record<string, Bytes>;
/** Where files come from: each by its name, of so many bytes at most. */
export type Source = (name: string, limit: Limit) => Promise<unknown>;

const above0: Check<number> = number(Number.MIN_VALUE);
const manifest = object({
  format_version: oneOf(FORMAT_VERSION),
  model_id: DIGEST,
  name: string(256),
  backbone: string(64),
  window: whole(1, limits.MAX_WINDOW),
  history: whole(1, limits.MAX_HISTORY),
  vocabulary: whole(3, limits.MAX_ITEMS + 2),
  layout: list(object({ name: string(), shape: list(whole(1, limits.MAX_PARAMETERS), 1, 8), bound: above0 }), 1, 4096),
  opset: whole(1, 1000),
  embeddings: oneOf("float32", "int8"),
  metrics: map(number()),
  met: or(met, "hide"),
  parts: or(parts, "weights"),
  opinions: or(list(object({ name: string(64), items: whole(1, limits.MAX_OPINION_ITEMS), bound: above0 }), 0, limits.MAX_OPINIONS), []),
  trust: or(trust, { ages: [0], weights: [1], opinions: [] }),
  created: string(64),
  provenance: map(string()),
  files: map(object({ sha256: DIGEST, bytes: whole(0, limits.MAX_FILE_BYTES) })),
});
export type Manifest = ReturnType<typeof manifest>;

const signature = object({ public_key: DIGEST, signature: string(128, /^[0-9a-f]{128}$/) });
const items = object({ ids: list(string()), titles: list(string()) });
const canary = object({
  history: list(whole(1, limits.MAX_ITEMS), 1, limits.MAX_HISTORY),
  candidates: list(whole(1, limits.MAX_ITEMS), 1),
  theta: list(number()),
  scores: list(number()),
  fallback_scores: list(number()),
  opinions: or(list(object({ items: list(whole(0, limits.MAX_ITEMS)), values: list(number()) })), []),
});
type Canary = ReturnType<typeof canary>;

/** JSON of a kind. */
export function json<T>(content: Bytes, kind: Check<T>, name: string): T {
  try {
    return kind(JSON.parse(text(content)), "it");
  } catch (cause) {
    throw invalidBundle(`${name} is malformed: ${(cause as Error).message}`);
  }
}

/** A manifest that is consistent in itself; its signature is verified before. */
async function decodeManifest(content: Bytes): Promise<Manifest> {
  const found = json(content, manifest, MANIFEST);
  const { files, layout, opinions, parts } = found;
  const names = Object.keys(files).sort();
  const lines = names.map((name) => `${name} ${files[name]!.bytes} ${files[name]!.sha256}\n`);
  if (names.join() !== FILES.join() || (await sha256(utf8(lines.join("")))) !== found.model_id)
    throw invalidBundle("the manifest's model_id is not that of its files");
  // Multiplied before anything is allocated for it.
  if (sizeOf(layout) > limits.MAX_PARAMETERS || sum(DEVICE_FILES.map((name) => files[name]!.bytes)) > limits.MAX_VERSION_BYTES)
    throw invalidBundle("theta or the version is too large");
  if ((parts === "weights") !== !opinions.length || found.trust.opinions.length !== opinions.length)
    throw invalidBundle("parts, opinions and trust do not fit each other");
  return found;
}

/** A bundle's contents, all of them verified. */
export interface Bundle {
  manifest: Manifest;
  publicKey: string;
  /** As they were read, until they are kept. */
  files: Files;
  ids: string[];
  titles: string[];
  canary: Canary;
}

/** The version of an id, or whatever is there, signed by a key that is trusted: any, where none are named. */
export async function openBundle(source: Source, trusted: readonly string[] | null, modelId: string | null): Promise<Bundle> {
  const files: Files = {};
  const read = async (name: string, limit: Limit): Promise<Bytes> => {
    const content = await source(name, limit);
    if (!(content instanceof Uint8Array) || content.length > (await limit)) throw invalidBundle(`${name} is missing, or too large`);
    return (files[name] = content as Bytes);
  };
  const verify = async (): Promise<[Manifest, string]> => {
    const asked = [read(MANIFEST, limits.MAX_MANIFEST_BYTES), read(SIGNATURE, limits.MAX_SIGNATURE_BYTES)] as const;
    const [content, signed] = await Promise.all(asked);
    const { public_key: key, signature: by } = json(signed, signature, SIGNATURE);
    if (trusted && !trusted.includes(key)) throw invalidBundle(`the key ${key.slice(0, 16)}… is not trusted here`);
    if (!(await verifySignature(key, content, by))) throw invalidBundle("the signature is not over this manifest");
    const found = await decodeManifest(content);
    if (modelId && found.model_id !== modelId) throw invalidBundle("another version was sent");
    return [found, key];
  };
  const verified = verify();
  // All are asked for at once, but none is read before the manifest says how long it is.
  const file = async (name: (typeof DEVICE_FILES)[number]): Promise<Bytes> => {
    const size = verified.then(([{ files }]) => files[name]!.bytes);
    size.catch(() => undefined);
    const content = await read(name, size);
    const [expected] = await verified;
    if (content.length !== (await size) || (await sha256(content)) !== expected.files[name]!.sha256)
      throw invalidBundle(`${name} was changed or cut`);
    return content;
  };
  const parsed = async <T>(name: "canary.json" | "items.json", kind: Check<T>): Promise<T> => json(await file(name), kind, name);
  // The large file last: the others are read while it comes.
  const [[manifest, publicKey], proof, { ids, titles }] = await Promise.all([
    verified,
    parsed("canary.json", canary),
    parsed("items.json", items),
    file("device.onnx"),
  ]);
  const { history, candidates, theta, scores, fallback_scores, opinions } = proof;
  const { length } = candidates;
  const fits =
    ids.length === manifest.vocabulary &&
    (!titles.length || titles.length === ids.length) &&
    history.length <= manifest.history &&
    theta.length === sizeOf(manifest.layout) &&
    scores.length === length &&
    fallback_scores.length === length &&
    [...history, ...candidates].every((item) => item < ids.length) &&
    opinions.length === manifest.opinions.length;
  if (!fits) throw invalidBundle("items.json or canary.json does not fit the manifest");
  return { manifest, publicKey, files, ids, titles, canary: proof };
}
