/** The cloud's answers with theta, and the codes by which a device knows its own. */
import { type Bytes, utf8 } from "./bytes";
import { bytes, type Check, object, string, whole } from "./check";
import { subtle } from "./crypto";
import { encoding } from "./messages";
import { encode } from "./packing";

const time = whole(0, Number.MAX_SAFE_INTEGER);

const answer = object(
  {
    model_id: string(64),
    sequence: time,
    issued: time,
    expires: time,
    dtype: encoding,
    scale: bytes,
    theta: bytes,
    bias: bytes,
    mac: bytes,
  },
  true,
);
/** A device's theta, as the cloud sends it. */
export type ParametersAnswer = ReturnType<typeof answer>;
export const parametersAnswer: Check<ParametersAnswer> = answer;

const HMAC = { name: "HMAC", hash: "SHA-256" };

const hmacKey = (content: Bytes): Promise<CryptoKey> =>
  // No key of no bytes is imported; one byte of 0 is the same key.
  subtle().importKey("raw", content.length ? content : new Uint8Array(1), HMAC, false, ["sign", "verify"]);

/** The key of the answers to the bearer of a token; it does not leave WebCrypto. */
async function answerKey(token: string): Promise<CryptoKey> {
  const content = await subtle().sign("HMAC", await hmacKey(utf8(token)), utf8("duetgen/answer-key/1"));
  return hmacKey(new Uint8Array(content));
}

/** What an answer's code is over. */
export function answerMessage(device: string, a: ParametersAnswer): Bytes {
  const rest = [a.sequence, a.issued, a.expires, a.dtype, a.scale, a.theta, a.bias];
  return encode(["duetgen/parameters/2", device, a.model_id, ...rest]);
}

/** Whether an answer's code is that for the bearer of a token, in constant time. */
export const verifyAnswer = async (token: string, device: string, answer: ParametersAnswer): Promise<boolean> =>
  subtle().verify("HMAC", await answerKey(token), answer.mac as Bytes, answerMessage(device, answer));
