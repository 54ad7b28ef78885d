// Every way to get a job's answer, in Node 18 or later.
//
// usage: client.js hold|poll|long-poll|events|websocket|webhook TYPE BODY [CALLBACK-URL]
//
// All but `websocket` need no packages. TIDEGATE_URL and TIDEGATE_API_KEY say where and as whom.
"use strict";

const base = process.env.TIDEGATE_URL ?? "http://127.0.0.1:8080";
const key = process.env.TIDEGATE_API_KEY ? { "x-api-key": process.env.TIDEGATE_API_KEY } : {};
const ends = new Set(["completed", "failed", "dead-lettered", "cancelled", "expired"]);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function ask(url, headers = {}, options = {}) {
  return fetch(new URL(url, base), { ...options, headers: { ...key, ...headers } });
}

// The JSON of an answer, which must have this status. Others are problem documents that say why.
async function document(answer, expected) {
  const text = await answer.text();
  if (answer.status !== expected) throw new Error(`${answer.status}: ${text}`);
  return JSON.parse(text);
}

function submit(type, body, headers = { prefer: "respond-async" }) {
  return ask(`/v1/jobs/${type}`, { "content-type": "application/json", ...headers }, { method: "POST", body });
}

// Prints how a job ended. A result that is large or no JSON does not stand in the status.
async function end(job) {
  if (job.status !== "completed") throw new Error(`${job.status}: ${JSON.stringify(job.error ?? null)}`);
  const result = "result" in job ? JSON.stringify(job.result) : await (await ask(job.resultUrl)).text();
  console.log(`completed: ${result}`);
}

// Prints what happened to a job that goes on.
function tell(kind, { progress }) {
  console.log(progress ? `${kind} ${Math.round(progress.percent)} % ${progress.message ?? ""}` : kind);
}

const pause = (answer) => sleep(Number(answer.headers.get("retry-after") ?? 1));

async function hold(type, body) {
  const answer = await submit(type, body, { prefer: "wait=25" });
  if (answer.status === 202 && answer.headers.has("location")) {
    tell("accepted", await document(answer, 202)); // it takes longer than that, and goes on
    return followByPolling(answer.headers.get("location"));
  }
  console.log(`completed: ${JSON.stringify(await document(answer, 200))}`);
}

async function poll(type, body) {
  const { statusUrl } = await document(await submit(type, body), 202);
  return followByPolling(statusUrl);
}

async function followByPolling(url) {
  let tag = "";
  for (;;) {
    const answer = await ask(url, tag ? { "if-none-match": tag } : {});
    if (answer.status !== 304 && answer.status !== 503) {
      const job = await document(answer, 200);
      if (ends.has(job.status)) return end(job);
      tag = answer.headers.get("etag");
      tell(job.status, job);
    }
    await pause(answer); // as long as the gateway says
  }
}

async function longPoll(type, body) {
  const { statusUrl } = await document(await submit(type, body), 202);
  let tag = '"none"'; // the first answer comes at once
  for (;;) {
    const answer = await ask(`${statusUrl}?wait=30`, { "if-none-match": tag }); // held until something changes
    if (answer.status === 503) {
      await pause(answer);
    } else if (answer.status !== 304) {
      const job = await document(answer, 200);
      if (ends.has(job.status)) return end(job);
      tag = answer.headers.get("etag");
      tell(job.status, job);
    }
  }
}

// The events of a stream: id, event, data. An empty line ends each; a line that begins with a colon is a heartbeat.
async function* serverSent(answer, alive) {
  const decoder = new TextDecoder();
  let [text, event] = ["", {}];
  for await (const piece of answer.body) {
    alive();
    text += decoder.decode(piece, { stream: true });
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.map((line) => line.replace(/\r$/, ""))) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "data") event.data = `${event.data ?? ""}${value}\n`;
      else if (name) event[name] = value;
      else if (line === "") {
        if (event.data) yield event;
        event = {};
      }
    }
  }
}

// A stream that is refused for another reason than the moment stays refused.
async function opened(answer) {
  if (answer.status !== 200) await document(answer, 200);
}

async function events(type, body) {
  const { jobId } = await document(await submit(type, body), 202);
  let last = null;
  for (let failures = 0; failures < 10; failures += 1) {
    // Heartbeats come every 15 s: a stream that is silent for longer is dead.
    const silence = new AbortController();
    const watchdog = setTimeout(() => silence.abort(new Error("silence")), 45_000);
    try {
      const headers = last === null ? {} : { "last-event-id": last };
      const answer = await ask(`/v1/jobs/${jobId}/events`, headers, { signal: silence.signal });
      if (answer.status !== 503) await opened(answer);
      for await (const event of answer.status === 200 ? serverSent(answer, () => watchdog.refresh()) : []) {
        const job = JSON.parse(event.data);
        [last, failures] = [event.id, 0];
        if (ends.has(job.status)) return end(job);
        tell(event.event, job);
      }
    } catch (error) {
      if (!(error instanceof TypeError) && error.message !== "silence") throw error;
      console.error(`the stream broke: ${error.message}`); // by the network: then on from where it was
    } finally {
      clearTimeout(watchdog);
    }
    await sleep(1);
  }
  throw new Error("no stream can be had");
}

async function websocket(type, body) {
  const { WebSocket } = require("ws");
  const { jobId } = await document(await submit(type, body), 202);
  const url = new URL(`/v1/jobs/${jobId}/events`, base.replace(/^http/, "ws"));
  for (let failures = 0; failures < 10; failures += 1) {
    const ended = await new Promise((resolve) => {
      const socket = new WebSocket(url, { headers: key });
      let ended = null;
      socket.on("message", (text) => {
        const job = JSON.parse(text);
        failures = 0;
        url.searchParams.set("after", job.id); // where to go on if the socket breaks
        if (ends.has(job.status)) ended = job;
        else tell(job.event, job);
      });
      socket.on("error", (error) => console.error(`the socket broke: ${error.message}`));
      socket.on("close", () => resolve(ended));
    });
    if (ended) return end(ended);
    await sleep(1);
  }
  throw new Error("no socket can be had");
}

// Nothing is waited for: the end goes to a URL, such as that of examples/webhooks/node/receiver.js.
async function webhook(type, body, callback) {
  const headers = { prefer: "respond-async", "tidegate-callback-url": callback };
  const { jobId } = await document(await submit(type, body, headers), 202);
  console.log(`accepted: job ${jobId}, its end goes to ${callback}`);
}

const ways = { hold, poll, "long-poll": longPoll, events, websocket, webhook };
const [, , way, ...rest] = process.argv;
if (!Object.hasOwn(ways, way ?? "") || rest.length !== ways[way].length) {
  console.error("usage: client.js hold|poll|long-poll|events|websocket|webhook TYPE BODY [CALLBACK-URL]");
  process.exit(2);
}
ways[way](...rest).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
