// Unpacks the browser of the package into this folder: the program, the libraries it needs, and fonts.
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import tar from "tar-fs";

const packed = (name) => createReadStream(`node_modules/@sparticuz/chromium/bin/${name}.br`);

await pipeline(packed("chromium"), createBrotliDecompress(), createWriteStream("headless-shell", { mode: 0o755 }));
await pipeline(packed("al2023.tar"), createBrotliDecompress(), tar.extract("libraries"));
await pipeline(packed("fonts.tar"), createBrotliDecompress(), tar.extract("fonts"));
