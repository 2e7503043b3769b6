/** Versions of the model in this browser: the one in use, verified and kept, and the one before. */
import type { Bytes } from "./bytes";
import { DIGEST, MANIFEST, json, type Source } from "./bundle";
import { list, map, number, object, string } from "./check";
import { type Cloud, inFolder } from "./client";
import { MAX_MANIFEST_BYTES } from "./limits";
import { Model } from "./model";
import type { DeviceOptions } from "./options";
import type { State } from "./state";

const id = string(64, DIGEST);
const known = object({
  current: id,
  previous: list(id, 0, 1),
  refused: map(object({ reason: string(), at: number() })),
  key: id,
});
export type Known = ReturnType<typeof known>;
const named = object({ model_id: id }, {}, true);

/** Where the files of a version are kept. */
export const folder = (modelId: string): string => `file/${modelId}/`;

export class Versions {
  /** The version in use. */
  model!: Model;
  /** What is kept of them. */
  known: Known | null = null;
  readonly models = new Map<string, Model>();

  constructor(
    private readonly options: DeviceOptions,
    private readonly state: State,
    private readonly cloud: Cloud | null,
    private readonly device: string,
  ) {}

  private get trusted(): readonly string[] | null {
    return this.options.trusted ?? (this.known ? [this.known.key] : null);
  }

  /** The version that was in use, or else the first one: of the page, or of the cloud. Whether it was kept here. */
  async begin(): Promise<boolean> {
    const kept = await this.reload();
    if (kept) {
      this.model = kept;
      return true;
    }
    this.model = await this.open(null, this.beside ?? this.cloud!.version("latest", this.device));
    this.known = { current: this.model.id, previous: [], refused: {}, key: this.known?.key ?? this.model.bundle.publicKey };
    return false;
  }

  /** The version that is kept as the one in use, if it is good; its key is trusted anyway. */
  async reload(): Promise<Model | null> {
    try {
      this.known = known(await this.state.get("versions"), "");
      return await this.load(this.known.current);
    } catch {
      return null;
    }
  }

  async load(modelId: string): Promise<Model> {
    const held = this.models.get(modelId);
    if (held) return held;
    const model = await this.open(modelId, (name) => this.state.get(folder(modelId) + name));
    model.bundle.files = {};
    return model;
  }

  async open(modelId: string | null, source: Source): Promise<Model> {
    const model = await Model.load(source, this.trusted, this.options, modelId);
    this.models.set(model.id, model);
    return model;
  }

  /** The files that the page brings along. */
  private get beside(): Source | null {
    return this.options.bundle === null ? null : inFolder(this.options.bundle);
  }

  /** The version that this device shall run, and where its files are. */
  async latest(): Promise<[string, Source]> {
    const { beside, cloud, device } = this;
    if (!cloud) return [json((await beside!(MANIFEST, MAX_MANIFEST_BYTES)) as Bytes, named, MANIFEST).model_id, beside!];
    const { latest } = await cloud.models(device);
    return [latest, cloud.version(latest, device)];
  }

  /** Forget what was made of the items that were seen. */
  forget(): void {
    for (const model of this.models.values()) model.forget();
  }
}
