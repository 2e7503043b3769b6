/** One published version: verified before anything of it is believed. */
import { type Bytes, product, text, utf8 } from "./bytes";
import { type Check, list, map, number, object, oneOf, string, whole } from "./check";
import type { Limit } from "./client";
import { sha256, verifySignature } from "./crypto";
import * as limits from "./limits";
import type { MetPolicy, Parts } from "./messages";
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

export const DIGEST = /^[0-9a-f]{64}$/;
const above0: Check<number> = number(Number.MIN_VALUE);
const manifest = object(
  {
    format_version: oneOf(FORMAT_VERSION),
    model_id: string(64, DIGEST),
    name: string(256),
    backbone: string(64),
    window: whole(1, limits.MAX_WINDOW),
    history: whole(1, limits.MAX_HISTORY),
    vocabulary: whole(3, limits.MAX_ITEMS + 2),
    layout: list(
      object({ name: string(), shape: list(whole(1, limits.MAX_PARAMETERS), 1, 8), bound: above0 }),
      1,
      4096,
    ),
    opset: whole(1, 1000),
    embeddings: oneOf("float32", "int8"),
    metrics: map(number()),
    met: oneOf<MetPolicy>("hide", "show"),
    parts: oneOf<Parts>("both", "weights", "bias"),
    opinions: list(
      object({ name: string(64), items: whole(1, limits.MAX_OPINION_ITEMS), bound: above0 }),
      0,
      limits.MAX_OPINIONS,
    ),
    trust,
    created: string(64),
    provenance: map(string()),
    files: map(object({ sha256: string(64, DIGEST), bytes: whole(0, limits.MAX_FILE_BYTES) })),
  },
  { met: "hide", parts: "weights", opinions: [], trust: { ages: [0], weights: [1], opinions: [] } },
);
export type Manifest = ReturnType<typeof manifest>;

const signature = object({ public_key: string(64, DIGEST), signature: string(128, /^[0-9a-f]{128}$/) });
const items = object({ ids: list(string()), titles: list(string()) });
const opinion = object({ items: list(whole(0, limits.MAX_ITEMS)), values: list(number()) });
const canary = object(
  {
    history: list(whole(1, limits.MAX_ITEMS), 1, limits.MAX_HISTORY),
    candidates: list(whole(1, limits.MAX_ITEMS), 1),
    theta: list(number()),
    scores: list(number()),
    fallback_scores: list(number()),
    opinions: list(opinion),
  },
  { opinions: [] },
);
type Canary = ReturnType<typeof canary>;

/** JSON of a kind. */
export function json<T>(content: Bytes, kind: Check<T>, name: string): T {
  try {
    return kind(JSON.parse(text(content)), "");
  } catch (cause) {
    throw invalidBundle(`${name} is malformed: ${(cause as Error).message}`);
  }
}

const sizeOf = (layout: Manifest["layout"]): number => layout.reduce((sum, { shape }) => sum + product(shape), 0);

/** A manifest that is consistent in itself; its signature is verified before. */
async function decodeManifest(content: Bytes): Promise<Manifest> {
  const found = json(content, manifest, MANIFEST);
  const { files, layout, opinions, parts } = found;
  const names = Object.keys(files).sort();
  if (names.join() !== FILES.join()) throw invalidBundle(`the manifest does not name exactly ${FILES}`);
  const lines = names.map((name) => `${name} ${files[name]!.bytes} ${files[name]!.sha256}\n`);
  if ((await sha256(utf8(lines.join("")))) !== found.model_id) throw invalidBundle("the manifest's model_id is not that of its files");
  // Multiplied before anything is allocated for it.
  if (sizeOf(layout) > limits.MAX_PARAMETERS) throw invalidBundle("theta is too large");
  if ((parts === "weights") !== !opinions.length || found.trust.opinions.length !== opinions.length)
    throw invalidBundle("parts, opinions and trust do not fit each other");
  if (DEVICE_FILES.reduce((sum, name) => sum + files[name]!.bytes, 0) > limits.MAX_VERSION_BYTES) throw invalidBundle("the version is too large");
  return found;
}

/** A bundle's contents, all of them verified. */
export class Bundle {
  /** Numbers in the weights of theta. */
  readonly size: number;

  private constructor(
    readonly manifest: Manifest,
    readonly publicKey: string,
    /** As they were read, until they are kept. */
    public files: Files,
    readonly ids: string[],
    readonly titles: string[],
    readonly canary: Canary,
  ) {
    this.size = sizeOf(manifest.layout);
    const { length } = canary.candidates;
    const fits =
      ids.length === manifest.vocabulary &&
      (!titles.length || titles.length === ids.length) &&
      canary.history.length <= manifest.history &&
      canary.theta.length === this.size &&
      canary.scores.length === length &&
      canary.fallback_scores.length === length &&
      [...canary.history, ...canary.candidates].every((item) => item < ids.length) &&
      canary.opinions.length === manifest.opinions.length;
    if (!fits) throw invalidBundle("items.json or canary.json does not fit the manifest");
  }

  /** The version of an id, or whatever is there, signed by a key that is trusted: any, where none are named. */
  static async open(source: Source, trusted: readonly string[] | null, modelId: string | null): Promise<Bundle> {
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
      if (modelId && found.model_id !== modelId) throw invalidBundle(`another version than ${modelId.slice(0, 16)} was sent`);
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
        throw invalidBundle(`${name} is not what the manifest says: it was changed or cut`);
      return content;
    };
    // The large file last: the others are read while it comes.
    const [[found, key], proof, known] = await Promise.all([
      verified,
      file("canary.json").then((content) => json(content, canary, "canary.json")),
      file("items.json").then((content) => json(content, items, "items.json")),
      file("device.onnx"),
    ]);
    return new Bundle(found, key, files, known.ids, known.titles, proof);
  }
}
