// An http worker for Tidegate in Node, without packages: counts lines, words and characters of a text.
"use strict";
const http = require("node:http");

// Status and document of the answer: 2xx completes the job, 4xx ends it as failed.
function textStats(body) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return [422, { code: "not-text", message: "the body is not UTF-8" }];
  }
  const lines = text.split("\n").length - 1;
  const words = (text.match(/\S+/g) ?? []).length;
  // A string counts UTF-16 units; its iterator goes by characters.
  let characters = 0;
  for (const _ of text) characters += 1;
  return [200, { lines, words, characters }];
}

const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const [status, document] = textStats(Buffer.concat(pieces));
    const answer = Buffer.from(JSON.stringify(document));
    response.writeHead(status, { "content-type": "application/json", "content-length": answer.length });
    response.end(answer);
    const { "tidegate-job-id": job, "tidegate-attempt": attempt } = request.headers;
    console.log(`job ${job} attempt ${attempt}: ${status}`);
  });
});

// Longer than Tidegate's worker keeps a connection that is not used (30 s), so that no job meets one that just closes.
server.keepAliveTimeout = 40_000;

server.listen(Number(process.env.PORT ?? 8102), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

// Takes nothing new and lets what runs end: a connection cut now would end its job as failed.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close();
    server.closeIdleConnections();
  });
}
