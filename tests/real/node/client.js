// The client of Node's world: `ws`.  Run by test_clients.py as a child: `node client.js URL [LINES]`, the token and the
// tenant in the environment.  Says at the end how it was: `closed CODE REASON` or `refused STATUS MESSAGE`.
"use strict";

const readline = require("readline");
const WebSocket = require("ws");

const [url, lines] = process.argv.slice(2);
const headers = {};
if (process.env.TOKEN) headers.Authorization = `Bearer ${process.env.TOKEN}`;
if (process.env.TENANT) headers["Cray-Tenant-Name"] = process.env.TENANT;
if (lines) headers["Cray-Console-Lines"] = lines;

const ws = new WebSocket(url, { headers });

function end(text) {
  console.log(text);
  process.exit();
}

ws.on("message", (data, isBinary) => process.stdout.write(isBinary ? "<binary>" : data));
ws.on("close", (code, reason) => end(`\nclosed ${code} ${reason}`));
ws.on("error", (error) => end(`failed ${error.message}`));
ws.on("unexpected-response", (_, response) => {
  let body = "";
  response.on("data", (piece) => (body += piece));
  response.on("end", () => end(`refused ${response.statusCode} ${JSON.parse(body).message}`));
});
readline.createInterface({ input: process.stdin }).on("line", (line) => ws.send(line));
