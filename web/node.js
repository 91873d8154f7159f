// wav2small.js for node: load() and bytesOf() also accept files, which node's fetch does not support.
import { readFile } from "node:fs/promises";
import { bytesOf as fetched, load as loaded } from "./wav2small.js";

export * from "./wav2small.js";

export async function bytesOf(source) {
  const url = typeof source === "string" && /^(file|https?):/.test(source) ? new URL(source) : source;
  const isFile = url instanceof URL ? url.protocol === "file:" : typeof url === "string";
  return isFile ? readFile(url) : fetched(url);
}

export async function load(source = new URL("wav2small.wasm", import.meta.url)) {
  return loaded(await bytesOf(source));
}
