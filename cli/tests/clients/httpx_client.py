"""Posts a job with httpx-sse and prints each event as one line of JSON: URL BODY."""

import json
import sys

import httpx
from httpx_sse import connect_sse

url, body = sys.argv[1:]
headers = {"content-type": "application/json"}
with httpx.Client(trust_env=False, timeout=60) as client:
    with connect_sse(client, "POST", url, content=body, headers=headers) as source:
        for number, event in enumerate(source.iter_sse(), start=1):
            assert event.id == str(number), (event.id, number)
            assert event.event == "message", event.event
            print(json.dumps(json.loads(event.data)))
