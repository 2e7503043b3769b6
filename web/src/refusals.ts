/** What a device refuses, with the hint that belongs to each code. */
import { DuetError } from "./errors";

export const invalidBundle = (why: string): DuetError => new DuetError("invalid-bundle", why, "export the model again, or copy the bundle again");

export const invalidOption = (why: string): DuetError => new DuetError("invalid-device-config", why, "see the options of a device");

export const badAnswer = (why: string): DuetError => new DuetError("bad-answer", `the cloud's answer ${why}`, "is this a duet cloud?");
