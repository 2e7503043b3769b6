/** What a device asks of the cloud, over fetch: bounded in time and size. */
import { type ParametersAnswer, parametersAnswer } from "./answers";
import type { Source } from "./bundle";
import type { Bytes } from "./bytes";
import { refusalOf } from "./cloud-refusal";
import { DuetError } from "./errors";
import { MAX_ERROR_BYTES, MAX_LIST_BYTES } from "./limits";
import { message, type ModelsAnswer, modelsAnswer, type ParametersRequest } from "./messages";
import { decode } from "./msgpack";
import { encode } from "./packing";
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
  traffic?: { sent: number; received: number; last: Exchange | null };
}

/** An answer as it comes. */
interface Reply {
  readonly response: Response;
  /** The next bytes of its body; none at its end. */
  next(): Promise<Bytes | undefined>;
  /** What is not taken shall not come. */
  stop(): void;
}

/** `fetch` for what may be kept for ever, or must not be kept; time counts to the end of the body. */
async function ask(url: string, seconds: number, init: RequestInit, closing?: AbortSignal): Promise<Reply> {
  const stopped = new AbortController();
  const limits = [AbortSignal.timeout(seconds * 1000), stopped.signal, ...(closing ? [closing] : [])];
  const told = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (cause) {
      const late = cause instanceof DOMException && cause.name === "TimeoutError";
      const why = late ? `no whole answer within ${seconds} s` : "no connection to the cloud, or it broke off";
      throw new DuetError("cloud-unreachable", why, "the device goes on with what it has, and asks again later");
    }
  };
  const response = await told(
    fetch(url, { credentials: "omit", redirect: "error", referrerPolicy: "no-referrer", ...init, signal: AbortSignal.any(limits) }),
  );
  const reader = response.body?.getReader();
  return { response, next: async () => reader && (await told(reader.read())).value, stop: () => stopped.abort() };
}

/** A whole body, never more than the limit. */
async function whole({ next, stop }: Reply, limit: number): Promise<Bytes> {
  const parts: Bytes[] = [];
  let size = 0;
  for (let part; (part = await next()); parts.push(part)) {
    size += part.length;
    if (size > limit) {
      stop();
      throw badAnswer(`has more than ${limit} bytes`);
    }
  }
  const found = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
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
  let rest: Bytes = new Uint8Array(0);
  let turn: Promise<unknown> = Promise.resolve();
  const broken = (): never => {
    throw badAnswer("is no whole tar file");
  };
  const take = async (length: number): Promise<Bytes> => {
    const found = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      if (!rest.length) rest = (await reply!.next()) ?? broken();
      const part = rest.subarray(0, length - at);
      found.set(part, at);
      at += part.length;
      rest = rest.subarray(part.length);
    }
    return found;
  };
  const file = async (name: string, limit: Limit): Promise<Bytes> => {
    try {
      reply ??= await ask();
      const head = String.fromCharCode(...(await take(BLOCK)));
      const size = parseInt(head.slice(124, 136), 8);
      if (!head.startsWith(`${name}\0`) || !(size >= 0)) broken();
      const most = await limit;
      if (size > most) throw badAnswer(`has more than ${most} bytes`);
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

export class HttpCloud implements Cloud {
  readonly traffic = { sent: 0, received: 0, last: null as Exchange | null };
  /** Ask nothing, as if there were no network. */
  offline = false;
  private readonly closing = new AbortController();

  constructor(
    private readonly url: string,
    private readonly token: string,
    private readonly timeout = 10,
  ) {}

  async parameters(request: ParametersRequest, limit: number): Promise<ParametersAnswer> {
    const body = encode({ ...request });
    const begun = performance.now();
    const [content, { headers }] = await this.exchange("/v1/parameters", limit, body);
    const milliseconds = performance.now() - begun;
    const own = /dur=([\d.]+)/.exec(headers.get("server-timing") ?? "")?.[1];
    this.traffic.last = { sent: body.length, received: content.length, milliseconds, cloud: own ? Number(own) : null };
    return message(content, parametersAnswer, decode);
  }

  async models(device: string): Promise<ModelsAnswer> {
    const [content] = await this.exchange(`/v1/models?device=${encodeURIComponent(device)}`, MAX_LIST_BYTES);
    return message(content, modelsAnswer);
  }

  version(modelId: string, device: string): Source {
    const files = inTar(() => this.ask(`/v1/models/${modelId}?device=${encodeURIComponent(device)}`, FILE_SECONDS));
    return async (name, limit) => {
      const content = (await files(name, limit)) as Bytes;
      this.traffic.received += content.length;
      return content;
    };
  }

  close(): void {
    this.closing.abort();
  }

  /** A question, and the whole answer: in JSON, or in msgpack to a body that is. */
  private async exchange(path: string, limit: number, body?: Bytes): Promise<[Bytes, Response]> {
    const reply = await this.ask(path, this.timeout, body);
    const content = await whole(reply, limit);
    this.traffic.received += content.length;
    return [content, reply.response];
  }

  private async ask(path: string, seconds: number, body?: Bytes): Promise<Reply> {
    if (this.offline) throw new DuetError("cloud-unreachable", "the device is switched offline");
    const type = body ? "application/msgpack" : "application/json";
    const headers: Record<string, string> = { Accept: type };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body) headers["Content-Type"] = type;
    this.traffic.sent += body?.length ?? 0;
    const init: RequestInit = { headers, method: body ? "POST" : "GET", cache: "no-store", body: body ?? null };
    const reply = await ask(this.url + path, seconds, init, this.closing.signal);
    if (reply.response.status === 200) return reply;
    const content = await whole(reply, MAX_ERROR_BYTES);
    this.traffic.received += content.length;
    throw refusalOf(reply.response, content, this.token, body && decode);
  }
}
