// wav2small.js for node, whose fetch takes no files: load() and bytesOf() read them.
import { readFile } from "node:fs/promises";
import { bytesOf as fetched, load as loaded } from "./wav2small.js";

export * from "./wav2small.js";

export async function bytesOf(source) {
  const isFile = source instanceof URL ? source.protocol === "file:" : typeof source === "string" && !/^https?:/.test(source);
  return isFile ? readFile(source) : fetched(source);
}

export async function load(source = new URL("wav2small.wasm", import.meta.url)) {
  return loaded(await bytesOf(source));
}
