/** What a device asks of the cloud, over fetch: bounded in time and size. */
import type { ParametersAnswer } from "./answers";
import type { Source } from "./bundle";
import type { Bytes } from "./bytes";
import { refusalOf } from "./cloud-refusal";
import { DuetError } from "./errors";
import { MAX_ERROR_BYTES, MAX_LIST_BYTES } from "./limits";
import { message, type ModelsAnswer, modelsAnswer, type ParametersRequest } from "./messages";
import type { Value } from "./msgpack";
import { badAnswer } from "./refusals";

/** Bytes and milliseconds of one question: on the way, and of that in the cloud, as it says. */
export interface Exchange {
  sent: number;
  received: number;
  milliseconds: number;
  cloud: number | null;
}

const FILE_SECONDS = 600;

/** The most bytes that are taken: known at once, or when something that comes at the same time is verified. */
export type Limit = number | Promise<number>;

/** The cloud as a device sees it; anything with these methods may stand in its place, in a `LocalDevice`. */
export interface Cloud {
  parameters(request: ParametersRequest, limit: number): Promise<ParametersAnswer>;
  models(device: string): Promise<ModelsAnswer>;
  /** The files of a version, by its id or as `latest`, for one who asks in this order: manifest, signature, canary, items, model. */
  version(modelId: string, device: string): Source;
  close(): void;
  setOffline?(offline: boolean): void;
  traffic?: { sent: number; received: number; last: Exchange | null };
}

/** An answer as it comes. */
interface Reply {
  readonly response: Response;
  /** The next bytes of its body: so many, or all that come. */
  take(most: number): Promise<Bytes>;
  /** What is not taken shall not come. */
  stop(): void;
}

/** `fetch` for what may be kept for ever, or must not be kept; time counts to the end of the body. */
async function ask(url: string, seconds: number, init: RequestInit, closing: AbortSignal[] = []): Promise<Reply> {
  const stopped = new AbortController();
  const late = AbortSignal.timeout(seconds * 1000);
  const signal = AbortSignal.any([late, stopped.signal, ...closing]);
  const told = (): never => {
    const why = late.aborted ? `no whole answer within ${seconds} s` : "no connection to the cloud, or it broke off";
    throw new DuetError("cloud-unreachable", why, "the device goes on with what it has, and asks again later");
  };
  const response = await fetch(url, { credentials: "omit", redirect: "error", referrerPolicy: "no-referrer", ...init, signal }).catch(told);
  const body = response.body?.getReader();
  let rest: Bytes | undefined = new Uint8Array(0);
  const take = async (most: number): Promise<Bytes> => {
    const found = new Uint8Array(most);
    let at = 0;
    while (at < most && rest) {
      const part = rest.subarray(0, most - at);
      found.set(part, at);
      at += part.length;
      rest = rest.subarray(part.length);
      if (!rest.length && at < most) rest = (await body?.read().catch(told))?.value;
    }
    return at < most ? found.slice(0, at) : found;
  };
  return { response, take, stop: () => stopped.abort() };
}

const broken = (): DuetError => badAnswer("is too long, or cut");

/** A whole body, never more than the limit. */
async function whole({ take, stop }: Reply, limit: number): Promise<Bytes> {
  const found = await take(limit + 1);
  if (found.length <= limit) return found;
  stop();
  throw broken();
}

/** A file of a folder, each asked for by itself. */
export const inFolder =
  (folder: string): Source =>
  async (name, limit) => {
    const reply = await ask(`${folder}/${name}`, FILE_SECONDS, { cache: "no-cache" });
    try {
      if (!reply.response.ok) throw new DuetError("cloud-refused", `${name} of the bundle cannot be had: ${reply.response.status}`);
      return await whole(reply, await limit);
    } catch (cause) {
      reply.stop();
      throw cause;
    }
  };

const BLOCK = 512;

/** The files of a tar file as it comes, for someone who asks for them in its order. */
function inTar(ask: () => Promise<Reply>): Source {
  let reply: Reply | undefined;
  let turn: Promise<unknown> = Promise.resolve();
  const take = async (length: number): Promise<Bytes> => {
    const found = await reply!.take(length);
    if (found.length < length) throw broken();
    return found;
  };
  const file = async (name: string, limit: Limit): Promise<Bytes> => {
    try {
      reply ??= await ask();
      const head = String.fromCharCode(...(await take(BLOCK)));
      const size = parseInt(head.slice(124, 136), 8);
      if (!head.startsWith(`${name}\0`) || !(size >= 0 && size <= (await limit))) throw broken();
      const content = await take(size);
      await take(-size & (BLOCK - 1));
      return content;
    } catch (cause) {
      reply?.stop();
      throw cause;
    }
  };
  return (name, limit) => (turn = turn.then(() => file(name, limit)));
}

export function httpCloud(url: string, token: string, timeout = 10): Cloud {
  const traffic = { sent: 0, received: 0, last: null as Exchange | null };
  const closing = new AbortController();
  /** Ask nothing, as if there were no network. */
  let offline = false;

  const question = async (path: string, seconds: number, body?: Bytes, decode?: (content: Uint8Array) => Value): Promise<Reply> => {
    if (offline) throw new DuetError("cloud-unreachable", "the device is switched offline");
    const type = body ? "application/msgpack" : "application/json";
    const headers: Record<string, string> = { Accept: type };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = type;
    traffic.sent += body?.length ?? 0;
    const init: RequestInit = { headers, method: body ? "POST" : "GET", cache: "no-store", body: body ?? null };
    const reply = await ask(url + path, seconds, init, [closing.signal]);
    if (reply.response.status === 200) return reply;
    throw refusalOf(reply.response, counted(await whole(reply, MAX_ERROR_BYTES)), token, decode);
  };
  const counted = (content: Bytes): Bytes => {
    traffic.received += content.length;
    return content;
  };
  const models = (modelId: string, device: string): string => `/v1/models${modelId}?device=${encodeURIComponent(device)}`;

  return {
    traffic,
    async parameters(request, limit) {
      const { decode, encode, parametersAnswer } = await import("./asking");
      const body = encode({ ...request });
      const begun = performance.now();
      const reply = await question("/v1/parameters", timeout, body, decode);
      const content = counted(await whole(reply, limit));
      const milliseconds = performance.now() - begun;
      const own = /dur=([\d.]+)/.exec(reply.response.headers.get("server-timing") ?? "")?.[1];
      traffic.last = { sent: body.length, received: content.length, milliseconds, cloud: own ? Number(own) : null };
      return message(content, parametersAnswer, decode);
    },
    models: async (device) => message(counted(await whole(await question(models("", device), timeout), MAX_LIST_BYTES)), modelsAnswer),
    version(modelId, device) {
      const files = inTar(() => question(models(`/${modelId}`, device), FILE_SECONDS));
      return async (name, limit) => counted((await files(name, limit)) as Bytes);
    },
    close: () => closing.abort(),
    setOffline(value) {
      offline = value;
    },
  };
}
