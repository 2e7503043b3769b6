/** Digests and signatures, by WebCrypto; a page has it over HTTPS and on this machine. */
import { type Bytes, hex, unhex } from "./bytes";
import { DuetError } from "./errors";

export const subtle = (): SubtleCrypto => {
  const found = globalThis.crypto?.subtle;
  if (!found) throw new DuetError("insecure-page", "this page has no WebCrypto", "serve it over HTTPS, or from localhost");
  return found;
};

export const sha256 = async (content: Bytes): Promise<string> => hex(new Uint8Array(await subtle().digest("SHA-256", content)));

/** Whether a signature is by the holder of an Ed25519 key: both in hexadecimal. */
export async function verifySignature(publicKey: string, message: Bytes, signature: string): Promise<boolean> {
  const tool = subtle();
  try {
    return await tool.verify("Ed25519", await tool.importKey("raw", unhex(publicKey), "Ed25519", false, ["verify"]), unhex(signature), message);
  } catch (cause) {
    if ((cause as Error).name === "NotSupportedError")
      throw new DuetError("old-browser", "this browser knows no Ed25519", "use one of 2025 or later");
    return false;
  }
}
