/** The cloud's answers with theta, and the codes by which a device knows its own. */
import { type Bytes, utf8 } from "./bytes";
import { bytes, type Check, object, oneOf, string, whole } from "./check";
import type { HttpCloud } from "./client";
import { subtle } from "./crypto";
import { type Encoding, message, type ParametersRequest } from "./messages";
import { decode } from "./msgpack";
import { encode } from "./packing";

const time = whole(0, Number.MAX_SAFE_INTEGER);

const answer = object(
  {
    model_id: string(64),
    sequence: time,
    issued: time,
    expires: time,
    dtype: oneOf<Encoding>("float32", "float16", "int8"),
    scale: bytes,
    theta: bytes,
    bias: bytes,
    mac: bytes,
  },
  {},
  true,
);
/** A device's theta, as the cloud sends it. */
export type ParametersAnswer = ReturnType<typeof answer>;
export const parametersAnswer: Check<ParametersAnswer> = answer;

/** A device's theta, over HTTP. */
export async function parametersBy(cloud: HttpCloud, request: ParametersRequest, limit: number): Promise<ParametersAnswer> {
  const body = encode({ ...request });
  const begun = performance.now();
  const packed = { type: "application/msgpack", content: body, decode };
  const [content, response] = await cloud.exchange("/v1/parameters", limit, packed);
  const milliseconds = performance.now() - begun;
  const own = /dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "")?.[1];
  cloud.traffic.last = { sent: body.length, received: content.length, milliseconds, cloud: own ? Number(own) : null };
  return message(content, parametersAnswer, decode);
}

const HMAC = { name: "HMAC", hash: "SHA-256" };

const hmacKey = (content: Bytes): Promise<CryptoKey> =>
  // No key of no bytes is imported; one byte of 0 is the same key.
  subtle().importKey("raw", content.length ? content : new Uint8Array(1), HMAC, false, ["sign", "verify"]);

/** The key of the answers to the bearer of a token; it does not leave WebCrypto. */
export async function answerKey(token: string): Promise<CryptoKey> {
  const content = await subtle().sign("HMAC", await hmacKey(utf8(token)), utf8("duetgen/answer-key/1"));
  return hmacKey(new Uint8Array(content));
}

/** What an answer's code is over. */
export function answerMessage(device: string, a: ParametersAnswer): Bytes {
  const rest = [a.sequence, a.issued, a.expires, a.dtype, a.scale, a.theta, a.bias];
  return encode(["duetgen/parameters/2", device, a.model_id, ...rest]);
}

/** Whether an answer's code is right, in constant time. */
export const verifyAnswer = (key: CryptoKey, device: string, answer: ParametersAnswer): Promise<boolean> =>
  subtle().verify("HMAC", key, answer.mac as Bytes, answerMessage(device, answer));
