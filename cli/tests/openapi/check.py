"""Holds an OpenAPI document against the specification, and recorded exchanges against the document.

Arguments: the document, and a file with a JSON list of exchanges: method, template, status, contentType, body, and request where one was sent.
Ends with 1, and says what is wrong, where something is.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

document = json.load(open(sys.argv[1]))
exchanges = json.load(open(sys.argv[2]))
problems = []
answered = set()


def check(schema, value, where):
    whole = {"components": document["components"], **schema}
    for error in Draft202012Validator(whole).iter_errors(value):
        problems.append(f"{where}: {error.json_path}: {error.message}")


def check_answer(schema, event, where):
    """A schema passes fields that it does not name; what a job says when it is done has none of these."""
    answer = schema.get("then", {}).get("properties", {}).get("data", {}).get("$ref")
    if event["type"] != "completed" or answer is None:
        return
    answered.add(answer.rsplit("/", 1)[1])
    named = document["components"]["schemas"][answer.rsplit("/", 1)[1]].get("properties")
    for field in event["data"] if named is not None else ():
        if field not in named:
            problems.append(f"{where}: `{field}` is not listed")


def check_exchange(exchange):
    where = f"{exchange['method']} {exchange['template']} {exchange['status']}"
    operation = document["paths"].get(exchange["template"], {}).get(exchange["method"].lower())
    if operation is None:
        problems.append(f"{where}: is not in the document")
        return
    if "request" in exchange:
        check(operation["requestBody"]["content"]["application/json"]["schema"], exchange["request"], where + " request")
    answers = operation["responses"]
    status = str(exchange["status"])
    if status not in answers and exchange["status"] < 400:
        problems.append(f"{where}: has no such answer")
        return
    answer = answers.get(status, answers["default"])
    kind = exchange["contentType"].split(";")[0]
    if "content" not in answer:
        if exchange["body"]:
            problems.append(f"{where}: has a body")
        return
    if kind not in answer["content"]:
        problems.append(f"{where}: is `{kind}`, which is not listed")
        return
    schema = answer["content"][kind]["schema"]
    if kind == "application/json":
        check(schema, json.loads(exchange["body"]), where)
    elif kind == "text/event-stream":
        events = [line[len("data: "):] for line in exchange["body"].splitlines() if line.startswith("data: ")]
        if not events:
            problems.append(f"{where}: has no events")
        for event in map(json.loads, events):
            check(schema, event, where + " event")
            check_answer(schema, event, where + " answer")


validate(document)
for exchange in exchanges:
    check_exchange(exchange)
seen = {(exchange["method"].lower(), exchange["template"]) for exchange in exchanges}
for path, operations in document["paths"].items():
    for method in operations:
        if (method, path) not in seen:
            problems.append(f"{method} {path}: was not tried")
for answer in ("ClonedRepository", "CreatedBranch", "AppliedChanges", "Committed", "JobAnswer"):
    if answer not in answered:
        problems.append(f"{answer}: no job answered so")
for problem in problems:
    print(problem)
sys.exit(1 if problems else 0)
