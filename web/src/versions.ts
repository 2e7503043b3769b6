/** Versions of the model in this browser: the one in use, verified and kept, and the one before; newer ones are found. */
import type { Bytes } from "./bytes";
import { MANIFEST, json, type Source } from "./bundle";
import { list, map, number, object, string } from "./check";
import { type Cloud, inFolder } from "./client";
import { DuetError } from "./errors";
import { MAX_MANIFEST_BYTES } from "./limits";
import { DIGEST, named } from "./messages";
import { loadModel, type Model } from "./model";
import type { DeviceOptions } from "./options";
import type { State } from "./state";

const REFUSED_SECONDS = 24 * 3600;
const ROLLED_BACK = "rolled back";
const MOST_REFUSED = 32;
/** The first version is written when the page has had its first ranking. */
const WRITE_MS = 500;

const kept = object({
  current: DIGEST,
  previous: list(DIGEST, 0, 1),
  refused: map(object({ reason: string(), at: number() })),
  key: DIGEST,
});
type Known = ReturnType<typeof kept>;

/** Where the files of a version are kept. */
const folder = (modelId: string): string => `file/${modelId}/`;

export interface Versions {
  /** The version in use. */
  model: Model;
  /** What is kept of them. */
  known(): Known;
  /** Write what waits to be written. */
  flush(): Promise<void>;
  /** The version that is kept as the one in use, if it is good; its key is trusted anyway. */
  reload(): Promise<Model | null>;
  /** A newer version, verified; null if there is none. What is wrong with it is remembered. */
  look(): Promise<Model | null>;
  /** Keep a version that is in use from now on. */
  adopt(model: Model): Promise<void>;
  /** The version before. */
  before(): Promise<Model>;
  /** Keep the version before as the one in use; the one left is not taken again until the cloud names another. */
  leave(model: Model): Promise<void>;
  /** Forget what was made of the items that were seen. */
  forget(): void;
}

/** With the version that was in use, or else the first one: of the page, or of the cloud. */
export async function openVersions(options: DeviceOptions, state: State, cloud: Cloud | null, device: string, clock: () => number): Promise<Versions> {
  const models = new Map<string, Model>();
  /** The files that the page brings along. */
  const beside = options.bundle === null ? null : inFolder(options.bundle);
  let known: Known | null = null;
  let later: ReturnType<typeof setTimeout> | undefined;

  const open = async (modelId: string | null, source: Source): Promise<Model> => {
    const model = await loadModel(source, options.trusted ?? (known && [known.key]), options, modelId);
    models.set(model.id, model);
    return model;
  };
  const load = async (modelId: string): Promise<Model> => {
    const held = models.get(modelId);
    if (held) return held;
    const model = await open(modelId, (name) => state.get(folder(modelId) + name));
    model.files = {};
    return model;
  };
  const reload = async (): Promise<Model | null> => {
    try {
      known = kept(await state.get("versions"), "");
      return await load(known.current);
    } catch {
      return null;
    }
  };

  /** Write what is known, with the files of the version in use; no other is kept but the one before. */
  const keep = async (): Promise<void> => {
    clearTimeout(later);
    later = undefined;
    const { current, previous } = known!;
    const model = models.get(current)!;
    const files = Object.entries(model.files).map(([name, content]) => [folder(current) + name, content]);
    model.files = {};
    await state.put({ ...Object.fromEntries(files), versions: known });
    const stay = [current, ...previous];
    for (const key of await state.keys()) {
      const of = /^(file|theta)\/(.{64})/.exec(key);
      if (of && !stay.includes(of[2]!)) await state.remove(key);
    }
    for (const [modelId, model] of models)
      if (!stay.includes(modelId)) {
        models.delete(modelId);
        model.engine.close();
      }
  };
  const refuse = (modelId: string, reason: string): Promise<void> => {
    const entries = [...Object.entries(known!.refused), [modelId, { reason, at: clock() }] as const];
    known!.refused = Object.fromEntries(entries.slice(-MOST_REFUSED));
    return keep();
  };
  const flush = async (): Promise<void> => {
    if (later) await keep();
  };

  let model = await reload();
  if (!model) {
    model = await open(null, beside ?? cloud!.version("latest", device));
    known = { current: model.id, previous: [], refused: {}, key: (known as Known | null)?.key ?? model.publicKey };
    later = setTimeout(keep, WRITE_MS);
  }
  const versions: Versions = {
    model,
    known: () => known!,
    flush,
    reload,
    async look() {
      // It may become the one to go back to.
      await flush();
      const modelId = cloud
        ? (await cloud.models(device)).latest
        : json((await beside!(MANIFEST, MAX_MANIFEST_BYTES)) as Bytes, named, MANIFEST).model_id;
      const refusal = known!.refused[modelId];
      const passed = refusal ? clock() - refusal.at : Infinity;
      const barred = refusal && (refusal.reason === ROLLED_BACK || (passed >= 0 && passed < REFUSED_SECONDS));
      if (modelId === versions.model.id || barred) return null;
      try {
        return await open(modelId, cloud ? cloud.version(modelId, device) : beside!);
      } catch (cause) {
        if (cause instanceof DuetError && cause.code === "invalid-bundle") await refuse(modelId, cause.message);
        throw cause;
      }
    },
    adopt({ id }) {
      // Another tab may have adopted it meanwhile.
      if (id !== known!.current) known = { ...known!, current: id, previous: [known!.current] };
      return keep();
    },
    async before() {
      const [previous] = known!.previous;
      if (!previous) throw new DuetError("nothing-to-roll-back", "this device has had one version only");
      return load(previous);
    },
    leave({ id }) {
      const { current } = known!;
      known = { ...known!, current: id, previous: [] };
      return refuse(current, ROLLED_BACK);
    },
    forget() {
      for (const model of models.values()) model.forget();
    },
  };
  return versions;
}
