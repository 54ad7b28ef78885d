"""Verifies with the package of Standard Webhooks: reads a JSON document {key, headers, body}, prints `valid` or `refused`."""
import json, sys

from standardwebhooks import Webhook, WebhookVerificationError

asked = json.load(sys.stdin)
try:
    Webhook(asked["key"]).verify(asked["body"], asked["headers"])
    print("valid")
except WebhookVerificationError:
    print("refused")
