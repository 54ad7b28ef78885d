// Verifies with the package of Standard Webhooks: reads a JSON document {key, headers, body}, prints `valid` or `refused`.
"use strict";
const fs = require("node:fs");
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const { key, headers, body } = JSON.parse(fs.readFileSync(0, "utf8"));
try {
  new Webhook(key).verify(body, headers);
  console.log("valid");
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.log("refused");
}
