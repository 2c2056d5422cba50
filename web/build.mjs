// Makes the editor's bundle: `node build.mjs FILE`. Reproducible: versions are those of package-lock.json, and the
// notices of all that is in it stand at its beginning, sorted.

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [target] = process.argv.slice(2);
if (!target) {
  console.error("usage: node build.mjs FILE");
  process.exit(2);
}

const built = await build({
  absWorkingDir: here,
  entryPoints: ["src/editor.js"],
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  metafile: true,
  write: false,
});

// Packages of which something is in the bundle.
const packages = new Set();
for (const [input, { bytesInOutput }] of Object.entries(Object.values(built.metafile.outputs)[0].inputs)) {
  const parts = relative(here, join(here, input)).split(sep);
  const at = parts.lastIndexOf("node_modules");
  if (at < 0 || bytesInOutput === 0) continue;
  const length = parts[at + 1].startsWith("@") ? 2 : 1;
  packages.add(parts.slice(0, at + 1 + length).join("/"));
}

// The same licence text is there once, with all who say it.
const notices = new Map();
for (const path of [...packages].sort()) {
  const { name, version, license } = JSON.parse(await readFile(join(here, path, "package.json"), "utf8"));
  const text = (await readFile(join(here, path, "LICENSE"), "utf8")).trim();
  if (license !== "MIT") throw new Error(`${name} has the licence ${license}: see whether it may be in the bundle`);
  if (text.includes("*/")) throw new Error(`the licence of ${name} would end the comment`);
  notices.set(text, [...(notices.get(text) ?? []), `${name} ${version}`]);
}
const notice = [...notices].map(([text, names]) => `${names.join(", ")}\n\n${text}`).join("\n\n---\n\n");
await writeFile(target, `/*! Made by web/build.mjs of these:\n\n${notice}\n*/\n${built.outputFiles[0].text}`);
