import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { decodeBias } from "../src/bias";
import { hex, unhex, view } from "../src/bytes";
import { decodeTheta } from "../src/codec";
import { answerMessage, parametersAnswer, verifyAnswer } from "../src/answers";
import { spread } from "../src/drift";
import { itemId } from "../src/items";
import { message, modelsAnswer } from "../src/messages";
import { decode } from "../src/msgpack";
import { encode } from "../src/packing";
import { PATIENCE } from "../src/options";
import { patienceOf } from "../src/patience";
import { atAge } from "../src/store";
import { trust } from "../src/trust";
import { answerOf, bytesOf, floats, jsonOf, unbase64 } from "./golden";

const wire = jsonOf("wire.json");

test("questions are written byte for byte", () => {
  for (const { fields, msgpack } of wire.requests) {
    expect(Buffer.from(encode(fields)).toString("base64")).toBe(msgpack);
    expect(decode(unbase64(msgpack))).toEqual(fields);
  }
});

test("answers are read, and their codes verified", async () => {
  expect(wire.answers.length).toBeGreaterThan(10);
  for (const { device, token, answer, msgpack } of wire.answers) {
    const found = message(unbase64(msgpack), parametersAnswer, decode);
    if (answer) expect(found).toEqual(answerOf(answer));
    expect(await verifyAnswer(token, device, found)).toBe(true);
    expect(await verifyAnswer(token, device, { ...found, sequence: found.sequence ? found.sequence - 1 : 1 })).toBe(false);
    expect(await verifyAnswer(token, `${device}x`, found)).toBe(false);
    expect(await verifyAnswer("another", device, found)).toBe(false);
    expect(await verifyAnswer(token, device, { ...found, mac: found.mac.slice(1) })).toBe(false);
  }
});

test("the key of the codes is that of Python", async () => {
  for (const { token, key } of wire.keys) {
    const answer = { ...answerOf(wire.answers[0].answer) };
    const mac = createHmac("sha256", unhex(key)).update(answerMessage("d", answer)).digest();
    expect(await verifyAnswer(token, "d", { ...answer, mac: new Uint8Array(mac) })).toBe(true);
  }
});

test("what is in service is read", () => {
  expect(message(unbase64(wire.models.msgpack), modelsAnswer, decode)).toEqual({ latest: wire.models.fields.latest });
});

test("msgpack that is cut, longer, repeated or too deep is refused", () => {
  const whole = unbase64(wire.answers[0].msgpack);
  for (let length = 0; length < whole.length; length++) expect(() => decode(whole.subarray(0, length))).toThrow();
  for (const bad of ["c000", "82a16101a16102", "c1", "dfffffffff", "c6ffffffff00", `${"91".repeat(9)}c0`, "a2c328", "81c0c0"])
    expect(() => decode(unhex(bad)), bad).toThrow();
});

test("weights decode in each encoding, to the last bit", () => {
  const layout = wire.weights.shapes.map((shape: number[]) => ({ shape }));
  for (const { dtype, scale, theta, decoded } of wire.weights.cases)
    expect(decodeTheta(layout, unhex(scale), unhex(theta), dtype)).toEqual(floats(decoded));
  for (const { dtype, scale, theta } of wire.weights.refused)
    expect(() => decodeTheta(layout, unhex(scale), unhex(theta), dtype), theta).toThrow(/theta/);
});

test("item biases decode, to the last bit, and what encode would not write is refused", () => {
  const { vocabulary, most } = wire.bias;
  for (const { bias, opinions } of wire.bias.cases) {
    const found = decodeBias(unhex(bias), vocabulary, most);
    expect(found.map(({ items }) => [...items])).toEqual(opinions.map(({ items }: { items: number[] }) => items));
    found.forEach(({ values }, at) => expect(values).toEqual(floats(opinions[at].values)));
  }
  for (const bad of wire.bias.refused) expect(() => decodeBias(unhex(bad), vocabulary, most), bad).toThrow();
});

test("trust falls as it does in Python", () => {
  const curve = trust(wire.trust.trust, "");
  for (const { age, weights, opinions } of wire.trust.at) {
    expect(atAge(curve.ages, curve.weights, age)).toBeCloseTo(weights, 12);
    curve.opinions.forEach((one, at) => expect(atAge(curve.ages, one, age)).toBeCloseTo(opinions[at], 12));
  }
  for (const bad of [
    { ages: [1], weights: [1], opinions: [] },
    { ages: [0, 0], weights: [1, 1], opinions: [] },
    { ages: [0, 1], weights: [1], opinions: [] },
    { ages: [0, 1], weights: [1, 1.5], opinions: [] },
    { ages: [0], weights: [101], opinions: [] },
    { ages: [0], weights: [1], opinions: [], more: 1 },
  ])
    expect(() => trust(bad, "")).toThrow();
});

test("ids mean what they mean in Python", () => {
  for (const { value, id } of wire.ids.values) {
    if (id === undefined) expect(() => itemId(value), JSON.stringify(value)).toThrow(/id/);
    else expect(itemId(value)).toBe(id);
  }
  for (const bad of wire.ids.refused_texts_utf16 as string[])
    expect(() => itemId(bad.match(/..../g)!.map((unit) => String.fromCharCode(parseInt(unit, 16))).join(""))).toThrow(/surrogate/);
});

test("waits grow as they do in Python", () => {
  const patience = patienceOf(PATIENCE, () => 0.5);
  for (const { after, now, wait, insisted, circuit, then } of wire.waits) {
    if (after === "well") patience.succeeded();
    else patience.failed(now, after);
    expect(patience.wait(now)).toBeCloseTo(wait, 9);
    expect(patience.wait(now, true)).toBeCloseTo(insisted, 9);
    expect(patience.circuit(now)).toBe(circuit);
    expect(patience.circuit(now + 10_000)).toBe(then);
  }
});

test("anchors lie where they lie in Python", () => {
  for (const { vocabulary, count, items } of wire.spread) expect(spread(vocabulary, count)).toEqual(items);
});

test("the log that Python writes can be read by anyone", () => {
  const told = jsonOf("events.json");
  const content = bytesOf("events.bin");
  const found: [number, string][] = [];
  let last = 0;
  // CRC-32, bytes of the id, running number, id: a whole record may begin at any byte.
  for (let at = 0; at + 14 <= content.length; ) {
    const head = view(content.subarray(at));
    const [length, number] = [head.getUint16(4, true), Number(head.getBigUint64(6, true))];
    const end = at + 14 + length;
    if (end <= content.length && number > last && crc32(content.subarray(at + 4, end)) === head.getUint32(0, true)) {
      found.push([number, new TextDecoder().decode(content.subarray(at + 14, end))]);
      last = number;
      at = end;
    } else at++;
  }
  expect(found).toEqual(told.records);
});

function crc32(content: Uint8Array): number {
  let crc = -1;
  for (const byte of content) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

test("hexadecimal there and back", () => expect(hex(unhex("00ff10"))).toBe("00ff10"));
