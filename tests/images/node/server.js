// A server of two processes that uses what Node servers use: files, child processes, threads, names, compression, cryptography.
"use strict";
const cluster = require("node:cluster"), http = require("node:http"), fs = require("node:fs/promises");
const { execFile } = require("node:child_process"), { Worker } = require("node:worker_threads"), zlib = require("node:zlib");
const { promisify } = require("node:util"), crypto = require("node:crypto"), dns = require("node:dns/promises"), os = require("node:os");

async function everything() {
  const done = [];
  const step = async (name, what) => { try { await what(); done.push(`${name} ok`); } catch (error) { done.push(`${name} ${error}`); } };
  const dir = await fs.mkdtemp("/tmp/n");
  await step("files", async () => {
    await fs.writeFile(`${dir}/a`, "text"); await fs.copyFile(`${dir}/a`, `${dir}/b`); await fs.rename(`${dir}/b`, `${dir}/c`);
    await fs.appendFile(`${dir}/a`, "more"); await fs.chmod(`${dir}/a`, 0o600); await fs.utimes(`${dir}/a`, 1, 1);
    const file = await fs.open(`${dir}/d`, "w"); await file.writev([Buffer.from("x"), Buffer.from("y")], 0); await file.datasync(); await file.close();
    await fs.symlink("a", `${dir}/l`); await fs.readdir(dir); await fs.stat(`${dir}/l`); await fs.rm(dir, { recursive: true });
  });
  await step("processes", () => promisify(execFile)("/bin/sh", ["-c", "echo a | cat"]));
  await step("threads", () => new Promise((yes, no) => new Worker("1+1", { eval: true }).on("exit", yes).on("error", no)));
  await step("watch", async () => { const w = require("node:fs").watch("/tmp"); w.close(); });
  await step("compression", () => promisify(zlib.gzip)(Buffer.alloc(1 << 20)));
  await step("cryptography", () => promisify(crypto.scrypt)("a", "b", 64));
  await step("names", () => dns.lookup("localhost", { all: true }));
  await step("system", async () => { os.cpus(); os.loadavg(); os.networkInterfaces(); os.userInfo(); process.resourceUsage(); process.title = "n"; });
  return done.join("\n");
}

if (cluster.isPrimary) {
  for (let n = 0; n < 2; n++) cluster.fork();
  process.on("SIGTERM", () => { cluster.disconnect(() => process.exit(0)); });
} else {
  http.createServer(async (request, response) => response.end(request.url === "/everything" ? await everything() : "ready")).listen(8080, "::");
}
