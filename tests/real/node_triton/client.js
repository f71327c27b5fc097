// What `triton instance console` does, on the packages that `triton` is made of.  Run by test_triton_clients.py:
// `node client.js ORIGIN PATH USER[/SUBUSER] KEYFILE [presigned]`.  On a terminal it is raw, and Ctrl-] leaves.
// Says at the end how it was: `closed CODE REASON` or `refused STATUS BODY`.
"use strict";

const fs = require("fs");
const http = require("http");
const auth = require("smartdc-auth");
const { Watershed } = require("watershed");

const [origin, path, name, keyFile, how] = process.argv.slice(2);
const [user, subuser] = name.split("/");
const { host, hostname, port } = new URL(origin);
const watershed = new Watershed();
const key = watershed.generateKey();
const sign = auth.privateKeySigner({ key: fs.readFileSync(keyFile), user, subuser });
const upgrade = {
  connection: "upgrade",
  upgrade: "websocket",
  "sec-websocket-key": key,
  "sec-websocket-version": 13,
  "accept-version": "~9||~8",
};

function end(text) {
  if (process.stdin.isTTY) process.stdin.setRawMode(false);
  console.log(`\n${text}`);
  process.exit();
}

function ask(target, headers) {
  const request = http.request({ hostname, port, path: target, headers: { host, ...upgrade, ...headers } });
  request.on("error", (error) => end(`failed ${error.message}`));
  request.on("response", (response) => {
    let body = "";
    response.on("data", (piece) => (body += piece));
    response.on("end", () => end(`refused ${response.statusCode} ${body}`));
  });
  request.on("upgrade", (response, socket, head) => attach(watershed.connect(response, socket, head, key)));
  request.end();
}

function attach(shed) {
  if (process.stdin.isTTY) process.stdin.setRawMode(true);
  shed.on("binary", (data) => process.stdout.write(data));
  shed.on("text", (text) => process.stdout.write(`<text>${text}`));
  shed.on("end", (code, reason) => end(`closed ${code} ${reason}`));
  shed.on("error", (error) => end(`failed ${error.message}`));
  shed.on("connectionReset", () => end("reset"));
  process.stdin.on("data", (keys) => {
    const at = process.stdin.isTTY ? keys.indexOf(0x1d) : -1;
    if (at < 0) return shed.send(keys);
    if (at > 0) shed.send(keys.subarray(0, at));
    shed.end("left");
  });
  console.log("attached");
}

if (how === "presigned") {
  sign.getKey((_, found) => {
    const keyId = found.fingerprint("md5").toString("hex");
    auth.signUrl({ host, keyId, user, subuser, path, sign, method: "GET", query: {} }, (error, url) =>
      error ? end(`failed ${error.message}`) : ask(url, {}),
    );
  });
} else {
  const signer = auth.requestSigner({ sign, user, subuser });
  signer.writeTarget("get", path);
  const date = signer.writeDateHeader();
  signer.sign((error, authorization) => (error ? end(`failed ${error.message}`) : ask(path, { date, authorization })));
}
