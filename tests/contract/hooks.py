"""What schemathesis is told of the system that it calls: names of what there is, a token that is good, and what was answered."""

import atexit
import collections
import json
import os
import urllib.request

import schemathesis

FUZZ = json.loads(os.environ["FUZZ"])
API = os.environ["API"]
# Stands for a token that is good, in what is made up.
GOOD = "0123456789abcdef" * 2
seen = collections.defaultdict(collections.Counter)
token = None


def log_in():
    body = json.dumps({"action": "login", "key": FUZZ["key"], "ttl": 86400}).encode()
    request = urllib.request.Request(f"{API}/auth.php", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]["token"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Of names that nobody can make up, those that there are."""
    own, spare, _, other = FUZZ["accounts"]
    names = {
        "token": [GOOD],
        "s3uid": [own["s3uid"], other["s3uid"], "0" * 32],
        "account_id": [own["account_id"], other["account_id"], 99],
        "id": [1, 2, 99],
        "client_id": [1, 2, 99],
        "plan_id": [1, 2, 99],
        "invoice_id": [1, 4, 99],
        "location": ["NL", "DE"],
        "api_key_id": [FUZZ["revoked"], "0" * 64],
    }
    for name, schema in raw_schema["components"]["schemas"].items():
        if not name.endswith("Call"):
            continue
        action = name.removesuffix("Call")
        values = dict(names)
        if action in ["DeleteAccount", "DeletePaymentAccount", "SuspendAccount", "RotateKey"]:
            values |= {"s3uid": [spare["s3uid"], "0" * 32], "account_id": [spare["account_id"], 99]}
        if action in ["GetFiles", "DeleteFile", "DeleteBucket", "GetUsers"]:
            values["bucket_name"] = ["fuzzed-0", "fuzzed-1", "no-such-bucket"]
        if action == "DeleteFile":
            values["filename"] = ["docs/LICENSE", "no such file", "\x01"]
        if action == "AuthLogin":
            values["key"] = [FUZZ["key"], FUZZ["other_key"], "nobody's"]
        if action == "EqCallbackCheck":
            values["key"] = [FUZZ["callback"], "nobody's"]
        for parameter in values.keys() & schema["properties"].keys():
            of = schema["properties"][parameter]
            of.pop("examples", None)
            null = [None] if "null" in of["type"] else []
            of["enum"] = values[parameter] + null


@schemathesis.hook
def before_call(context, case, kwargs):
    global token
    if isinstance(case.body, dict) and case.body.get("token") == GOOD:
        token = token or log_in()
        case.body["token"] = token


@schemathesis.hook
def after_call(context, case, response):
    global token
    body = case.body if isinstance(case.body, dict) else {}
    operation = case.operation.label.removeprefix("POST ")
    seen[operation][f"{case.method} {response.status_code}" if case.method != "POST" else str(response.status_code)] += 1
    if response.status_code == 401 and body.get("token") == token:
        token = None  # It ended: by a logout, or by an end of access.


@atexit.register
def write():
    with open(FUZZ["seen"], "w") as file:
        json.dump(seen, file, indent=1)
