// Serves watch.html and hands everything else on to a gateway: one origin for both, as a reverse proxy in front of the
// gateways makes it. To try the page out; in production, let the proxy that is there already serve the file.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const gateway = new URL(process.env.TIDEGATE_URL ?? "http://127.0.0.1:8080");
// A browser's EventSource cannot send a key of its own: who serves the page adds it, for the users that it knows.
const key = process.env.TIDEGATE_API_KEY ? { "x-api-key": process.env.TIDEGATE_API_KEY } : {};

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://page");
  if (pathname === "/" || pathname === "/watch.html") {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-cache" });
    fs.createReadStream(path.join(__dirname, "watch.html")).pipe(response);
    return;
  }
  const options = { method: request.method, path: request.url, headers: { ...request.headers, ...key } };
  const onward = http.request(gateway, options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response); // piece by piece, as streams need it
  });
  onward.on("error", (error) => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502, { "content-type": "text/plain" }).end(`the gateway cannot be reached: ${error.message}\n`);
  });
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});

server.listen(Number(process.env.PORT ?? 8120), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close();
    server.closeAllConnections();
  });
}
