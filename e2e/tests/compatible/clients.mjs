// Published clients, unmodified, on a running service: node clients.mjs http://127.0.0.1:PORT
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import piston from "piston-client";

const { PistonClient, NodePistonClient } = createRequire(import.meta.url)("piston-api-client");
const server = process.argv[2];

// One that sends JSON as text/plain, files without names, and arguments of its own.
const first = piston({ server });
const runtimes = await first.runtimes();
assert.equal(runtimes[0].language, "python");
const ran = await first.execute("python", "import sys; print(sys.argv[1:])");
assert.equal(ran.run.stdout, "['1', '2', '3']\n", JSON.stringify(ran));
assert.equal(ran.version, runtimes[0].version);
const unknown = await first.execute({ language: "python", version: "2.x", files: [{ content: "" }] });
assert.equal(unknown.message, "python-2.x runtime is unknown");

for (const Client of [PistonClient, NodePistonClient]) {
  const client = new Client({ server, cacheTime: 1 });
  assert.equal((await client.runtimes()).data[0].language, "python");
  const result = await client.execute({
    language: "py",
    version: "*",
    files: [{ content: "import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr)\nsys.exit(2)" }],
  });
  assert.ok(result.success, JSON.stringify(result));
  const { run } = result.data;
  assert.deepEqual([run.stdout, run.stderr, run.output, run.code, run.signal], ["a\n", "b\n", "a\nb\n", 2, null]);
}
console.log("all answered as they expect");
