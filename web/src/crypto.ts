/** Digests, codes and signatures, by WebCrypto; a page has it over HTTPS and on this machine. */
import { type Bytes, hex, unhex, utf8 } from "./bytes";
import { encode } from "./msgpack";
import { DuetError } from "./errors";
import type { ParametersAnswer } from "./messages";

const subtle = (): SubtleCrypto => {
  const found = globalThis.crypto?.subtle;
  if (!found) throw new DuetError("insecure-page", "this page has no WebCrypto", "serve it over HTTPS, or from localhost");
  return found;
};

export const sha256 = async (content: Bytes): Promise<string> => hex(new Uint8Array(await subtle().digest("SHA-256", content)));

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

/** Whether a signature is by the holder of an Ed25519 key: both in hexadecimal. */
export async function verifySignature(publicKey: string, message: Bytes, signature: string): Promise<boolean> {
  try {
    const key = await subtle().importKey("raw", unhex(publicKey), "Ed25519", false, ["verify"]);
    return await subtle().verify("Ed25519", key, unhex(signature), message);
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "NotSupportedError")
      throw new DuetError("old-browser", "this browser knows no Ed25519", "use one of 2025 or later");
    if (cause instanceof DuetError) throw cause;
    return false;
  }
}
