"""What schemathesis is told of the system that it calls, which nobody can make up; what a failure is not; and a note of what was answered."""

import atexit
import collections
import copy
import json
import os
import re

import schemathesis
from jsonschema_rs import Draft202012Validator
from schemathesis.specs.openapi.checks import AcceptedNegativeData, RejectedPositiveData

FUZZ = json.loads(os.environ["FUZZ"])
COMPONENTS = "#/components/schemas/"
# Rules that no schema says, and the texts of their refusals.
RULES = re.compile(
    "|".join(
        [
            "(must be|does not name) an ISO 4217 currency",
            "in whole minor units of the currency",
            "with at most 9 places",
            # Of one line: controls, and bytes, which schemas do not count.
            "must not hold control characters",
            "must be at most 1024 bytes long",
            # What this installation has, and what it gave.
            "parameter locations?: must be (of )?(DE|NL)",
            "is not one that \\w+ gave",
            # Of several parameters together, or with what there is.
            "missing parameter bucket_name",
            "must end within the first 10000 files",
            "goes with no other name|goes with .* only beside",
            "must be a day after today",
            "must not be after period_to|days before period_to",
            "is the same in all versions of a plan",
            "stop_at_bandwidth_limit: must be 0 for a plan",
        ]
    )
)
MONEY = re.compile("amount: |/patternProperties/\\^\\w+_")
seen = collections.defaultdict(collections.Counter)
validators = {}


def without_null(call):
    """As a form has it: what has no value is not there. Objects in forms are written otherwise than schemathesis does."""
    form = copy.deepcopy(call)
    form["properties"].pop("price", None)
    for schema in form["properties"].values():
        if isinstance(schema.get("type"), list):
            schema["type"] = [kind for kind in schema["type"] if kind != "null"]
        for keyword in ["enum", "anyOf"]:
            if keyword in schema:
                schema[keyword] = [choice for choice in schema[keyword] if choice not in (None, {"type": "null"})]
    return form


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    calls = [name for name in schemas if name.endswith("Call")]
    for name in calls:
        # Held against what was sent: see `reads_as_right`.
        root = {"$ref": COMPONENTS + name, "components": copy.deepcopy(raw_schema["components"])}
        validators[name] = Draft202012Validator(root)
    for name in calls:
        # Open only for generators of clients that know no patterns of names.
        schemas[name]["additionalProperties"] = False
        own = FUZZ["known"].get(name.removesuffix("Call"), {})
        for parameter in own.keys() - schemas[name]["properties"].keys():
            # One of a pattern of names, without which there is no right call.
            schemas[name]["properties"][parameter] = {}
            schemas[name]["required"].append(parameter)
        known = FUZZ["known"]["*"] | own
        for parameter in known.keys() & schemas[name]["properties"].keys():
            schema = schemas[name]["properties"][parameter]
            schema.pop("examples", None)
            schema["enum"] = known[parameter] + ([None] if "null" in schema.get("type", []) else [])
        schemas[name.removesuffix("Call") + "Form"] = without_null(schemas[name])
    for name, path in raw_schema["paths"].items():
        for operation in path.values():
            # The header is the parameter of the same name: with two values of it a call is refused.
            operation["parameters"] = [parameter for parameter in operation.get("parameters", []) if "$ref" not in parameter]
            for parameter in operation["parameters"]:
                if name == "/eq_callback.php" and parameter["name"] in FUZZ["known"].get("EqCallbackCheck", {}):
                    parameter["schema"]["enum"] = FUZZ["known"]["EqCallbackCheck"][parameter["name"]]
            for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
                if kind != "application/json":
                    text = json.dumps(body["schema"])
                    body["schema"] = json.loads(re.sub(f"({COMPONENTS}\\w+)Call", r"\1Form", text))


def reads_as_right(case):
    """Whether a body breaks no rule once it is read as a form is: a number where a text stands, and the other way round, no value as absent."""
    if not isinstance(case.body, dict):
        return False
    path = case.operation.path
    if path.startswith("/s3/"):
        name = path.removeprefix("/s3/")
    else:
        name = {"/s3.php": "", "/auth.php": "auth_", "/eq_callback.php": "eq_callback_"}[path] + str(case.body.get("action"))
    name = "".join(word.capitalize() for word in name.split("_")) + "Call"
    if name not in validators:
        return False

    def readings(value):
        if isinstance(value, str):
            return [value] + ([int(value)] if re.fullmatch("[0-9]{1,18}", value) else [])
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return [value, str(value)]
        return [value]

    body = {name: value for name, value in case.body.items() if value not in (None, "")}
    wrong = {tuple(error.instance_path)[:1] for error in validators[name].iter_errors(body)}
    for parameter in list(body):
        if (parameter,) in wrong:
            body[parameter] = readings(body[parameter])[-1]
    return validators[name].is_valid(body)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, AcceptedNegativeData):
        # What an amount or a price is for is looked up before it is read. Whatever else is wrong is refused before that.
        is_before_money = response.status_code == 404 and MONEY.search(failure.message)
        return not (reads_as_right(case) or is_before_money)
    if isinstance(failure, RejectedPositiveData):
        message = response.json()["message"]
        # To a schema 1.0 is a whole number, but not to the API, which reads texts as well.
        has_point = isinstance(case.body, dict) and any(isinstance(value, float) for value in case.body.values())
        return not (RULES.search(message) or has_point and "must be a whole number" in message)
    return True


@schemathesis.hook
def after_call(context, case, response):
    operation = case.operation.label.removeprefix("POST ")
    status = str(response.status_code)
    seen[operation][status if case.method == "POST" else f"{case.method} {status}"] += 1


@atexit.register
def write():
    with open(FUZZ["seen"], "w") as file:
        json.dump(seen, file, indent=1)
