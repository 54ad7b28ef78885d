// Takes Tidegate's webhooks with Node alone: checks signature and time, and drops repeats.
"use strict";
const crypto = require("node:crypto");
const http = require("node:http");

const TOLERANCE = 300; // seconds that the sender's clock may be away from ours: what is older may be a replay
const LARGEST = 1 << 20; // bytes of a body
const REMEMBERED = 10_000; // ids that are known as repeats

// Not a webhook of ours: the status that says so, and why.
class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

// The keys that count, separated by blanks: two while one takes the other's place.
const keys = (process.env.WEBHOOK_KEYS ?? "")
  .split(/\s+/)
  .filter(Boolean)
  .map((key) => Buffer.from(key.replace(/^whsec_/, ""), "base64"));
if (keys.length === 0) {
  console.error("set WEBHOOK_KEYS to one or more keys: whsec_…");
  process.exit(1);
}

// In a time that does not tell how much of a guess was right.
function same(one, other) {
  return one.length === other.length && crypto.timingSafeEqual(one, other);
}

// The id of a message that one of the keys has signed, not long ago.
function check(headers, body, now) {
  const { "webhook-id": id, "webhook-timestamp": sent = "", "webhook-signature": signatures } = headers;
  if (!id || !signatures || !/^\d+$/.test(sent)) {
    throw new Refused(400, "webhook-id, webhook-timestamp or webhook-signature is missing or malformed");
  }
  if (Math.abs(now - Number(sent)) > TOLERANCE) throw new Refused(401, "the timestamp is too far from now");
  const given = signatures
    .split(" ")
    .filter((text) => text.startsWith("v1,"))
    .map((text) => Buffer.from(text.slice(3), "base64"));
  for (const key of keys) {
    // The bytes as they came, not JSON written anew.
    const own = crypto.createHmac("sha256", key).update(`${id}.${sent}.`).update(body).digest();
    if (given.some((other) => same(own, other))) return id;
  }
  throw new Refused(401, "no signature fits");
}

const seen = new Set();

// Does the work of a message, once. Where that matters, keep the ids with what the work changes, in one transaction.
function take(id, event) {
  if (seen.has(id)) {
    console.log(`repeat: ${id}`);
    return;
  }
  const job = event.data;
  console.log(`${event.type}: job ${job.id} of type ${job.type}: ${JSON.stringify(job.result ?? job.error ?? null)}`);
  seen.add(id);
  // A set keeps the order in which things came.
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
}

async function read(request) {
  const pieces = [];
  let length = 0;
  for await (const piece of request) {
    length += piece.length;
    if (length > LARGEST) throw new Refused(413, "a body of at most 1 MiB is taken");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

const server = http.createServer(async (request, response) => {
  // 2xx says that it was taken; anything else brings it again, later.
  let status = 204;
  try {
    const body = await read(request);
    take(check(request.headers, body, Date.now() / 1000), JSON.parse(body));
  } catch (error) {
    status = error.status ?? 500;
    console.log(error instanceof Refused ? `refused: ${error.message}` : `failed: ${error.message}`);
    response.shouldKeepAlive = false; // the body may be unread
  }
  response.writeHead(status).end();
});

server.listen(Number(process.env.PORT ?? 8111), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close();
    server.closeIdleConnections();
  });
}
