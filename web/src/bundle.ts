/** One published version: verified before anything of it is believed. */
import { type Bytes, text, utf8 } from "./bytes";
import { type Check, list, map, number, object, oneOf, string, whole } from "./check";
import { ThetaCodec } from "./codec";
import { sha256, verifySignature } from "./crypto";
import { DuetError, invalidBundle } from "./errors";
import * as limits from "./limits";
import type { MetPolicy, Parts } from "./messages";
import { trust } from "./trust";

const FORMAT_VERSION = 2;
export const MANIFEST = "manifest.json";
export const SIGNATURE = "signature.json";
/** What a device has of a bundle, beside manifest and signature. */
export const DEVICE_FILES = ["device.onnx", "items.json", "canary.json"] as const;
const FILES = [...DEVICE_FILES, "generator.onnx"];
export type Files = Record<string, Bytes>;

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

/** The key that signed a manifest: the signature is verified, and the key one of those trusted, where any are named. */
export async function verifyManifest(content: Bytes, signed: Bytes, trusted: readonly string[] | null): Promise<string> {
  if (content.length > limits.MAX_MANIFEST_BYTES || signed.length > limits.MAX_SIGNATURE_BYTES)
    throw invalidBundle("the manifest or its signature is too large");
  const found = json(signed, signature, SIGNATURE);
  if (trusted && !trusted.includes(found.public_key))
    throw invalidBundle(`the bundle is signed by the key ${found.public_key.slice(0, 16)}…, which is not trusted here`);
  if (!(await verifySignature(found.public_key, content, found.signature)))
    throw invalidBundle("the signature is not over this manifest");
  return found.public_key;
}

/** A manifest that is consistent in itself; its signature is verified before. */
export async function decodeManifest(content: Bytes): Promise<Manifest> {
  const version = json(content, object({ format_version: number() }, {}, true), MANIFEST).format_version;
  if (version !== FORMAT_VERSION) throw invalidBundle(`the bundle has format ${version}; this version reads ${FORMAT_VERSION}`);
  const found = json(content, manifest, MANIFEST);
  const names = Object.keys(found.files).sort();
  if (names.join() !== [...FILES].sort().join()) throw invalidBundle(`the manifest does not name exactly ${FILES.join(", ")}`);
  const lines = names.map((name) => `${name} ${found.files[name]!.bytes} ${found.files[name]!.sha256}\n`);
  if ((await sha256(utf8(lines.join("")))) !== found.model_id)
    throw invalidBundle("the manifest has a model_id that is not that of its files");
  // Multiplied before anything is allocated for it.
  if (found.layout.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0) > limits.MAX_PARAMETERS)
    throw invalidBundle("theta is too large");
  if ((found.parts === "weights") !== !found.opinions.length || found.trust.opinions.length !== found.opinions.length)
    throw invalidBundle("parts, opinions and trust do not fit each other");
  return found;
}

/** Refuses content that is not what the manifest says. */
export async function checkFile(manifest: Manifest, name: string, content: Bytes | undefined): Promise<void> {
  const expected = manifest.files[name]!;
  if (!content || content.length !== expected.bytes || (await sha256(content)) !== expected.sha256)
    throw invalidBundle(`${name} is not what the manifest says: it is missing, or was changed or cut`);
}

/** A bundle's contents, all of them verified. */
export class Bundle {
  readonly codec: ThetaCodec;

  private constructor(
    readonly manifest: Manifest,
    readonly publicKey: string,
    readonly graph: Bytes,
    readonly ids: string[],
    readonly titles: string[],
    readonly canary: Canary,
  ) {
    this.codec = new ThetaCodec(manifest.layout.map((entry) => entry.shape));
  }

  static async open(files: Files, trusted: readonly string[] | null): Promise<Bundle> {
    const [content, signed] = [files[MANIFEST], files[SIGNATURE]];
    if (!content || !signed) throw invalidBundle("the bundle has no manifest, or no signature");
    const key = await verifyManifest(content, signed, trusted);
    const manifest = await decodeManifest(content);
    await Promise.all(DEVICE_FILES.map((name) => checkFile(manifest, name, files[name])));
    const { ids, titles } = json(files["items.json"]!, items, "items.json");
    if (ids.length !== manifest.vocabulary || (titles.length && titles.length !== ids.length))
      throw invalidBundle("items.json does not fit the vocabulary");
    const proof = json(files["canary.json"]!, canary, "canary.json");
    const bundle = new Bundle(manifest, key, files["device.onnx"]!, ids, titles, proof);
    bundle.checkCanary();
    return bundle;
  }

  private checkCanary(): void {
    const { canary, manifest } = this;
    const count = canary.candidates.length;
    const fits =
      canary.history.length <= manifest.history &&
      canary.theta.length === this.codec.size &&
      canary.scores.length === count &&
      canary.fallback_scores.length === count &&
      [...canary.history, ...canary.candidates].every((item) => item < manifest.vocabulary) &&
      canary.opinions.length === manifest.opinions.length;
    if (!fits) throw invalidBundle("canary.json does not fit the manifest");
  }
}

export const isBundleError = (cause: unknown): cause is DuetError =>
  cause instanceof DuetError && cause.code === "invalid-bundle";
