"""Calls every operation of docs/openapi.json with made-up parameters, as a client or as staff: see `run`.

    with-runner LOCAL python fuzz.py docs/openapi.json client|staff FOLDER

What is found and what was answered is left in FOLDER.
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

here = pathlib.Path(__file__).resolve().parent
contract, role, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
API = os.environ["API"]


def call(path, **fields):
    request = urllib.request.Request(API + path, json.dumps(fields).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def log_in(key):
    return call("/auth.php", action="login", key=key, ttl=86400)["result"]["token"]


staff, client, client2 = (log_in(os.environ[f"{name}_KEY"]) for name in ["ADMIN", "CLIENT", "CLIENT2"])
call("/s3.php", token=staff, action="add_credit", id=1, amount=10_000, reference="fuzzing")
S3 = os.environ["S3"]


def order(token, bucket_name):
    """An account with a file."""
    account = call("/s3.php", token=token, action="create_order", plan_id=2, bucket_name=bucket_name)
    show = {"action": "show_key", "token": token, "s3uid": account["s3uid"]}
    keys = [call("/s3.php", s3_key=key, **show)[key] for key in ["access_key", "secret_key"]]
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", ":".join(keys), "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    put = ["curl", "-sS", "--fail-with-body", *signing, "-T", here.parent.parent / "LICENSE", f"{S3}/{bucket_name}/docs/LICENSE"]
    subprocess.run(put, check=True)
    return account


def about(account):
    return {"s3uid": [account["s3uid"], "0" * 32], "account_id": [account["id"]]}


# Names that nobody can make up. What changes an account so that others could not be asked about has one of its own.
own, other = order(client, "fuzzed"), order(client2, "fuzzed-other")
deleted = order(client, "fuzzed-deleted")
callback = call("/s3.php", token=client, action="delete_account", s3uid=deleted["s3uid"])["callback"]
api_key_id = call("/s3.php", token=staff, action="create_api_key", id=2)["api_key_id"]
new = {"action": "create_client", "email": "fuzzed@example.com", "currency": "EUR"}
fuzzed = call("/s3.php", token=staff, **new)["client"]["client_id"]
token = {"token": [log_in(os.environ["ADMIN_KEY" if role == "staff" else "CLIENT_KEY"])]}
known = {
    "*": token
    | {
        "s3uid": [own["s3uid"], other["s3uid"], "0" * 32],
        "account_id": [own["id"]],
        "id": [1, 2, 99],
        "client_id": [1, 2, 99],
        "plan_id": [1, 2, 99],
        "invoice_id": [1, 2, 99],
        "location": ["NL", "DE"],
    },
    "AddCredit": {"currency": ["EUR"], "amount": [1, 0.5, 12.34]},
    "CreateAccount": {"bucket_name": [f"account-{number}" for number in range(20)], "id": [1, 2, 99], "plan_id": [1, 2]},
    "CreateOrder": {"bucket_name": [f"order-{number}" for number in range(20)], "plan_id": [1, 2]},
    "CreatePlan": {"locations": ["NL", "NL,DE"], "storage_type": ["Standard"], "stop_at_bandwidth_limit": [0], "monthly_eur": ["3.00"]},
    "AuthLogin": {"key": [os.environ["CLIENT2_KEY"], "nobody's"]},
    "AuthLogout": {"token": [log_in(os.environ["CLIENT2_KEY"])]},
    "EqCallbackCheck": {"key": [callback, "nobody's"]},
    "RevokeApiKey": {"api_key_id": [api_key_id, "0" * 64]},
    # Not of those who call.
    "EndAccess": {"id": [fuzzed, 99]},
    "UpdateClient": {"id": [fuzzed, 99]},
    "GetFiles": {"bucket_name": ["fuzzed", "fuzzed-other", "no-such-bucket"]},
    "GetUsers": {"bucket_name": ["fuzzed", "no-such-bucket"]},
    "DeleteFile": {"bucket_name": ["fuzzed", "no-such-bucket"], "filename": ["docs/LICENSE", "no such file"]},
}
for name in ["DeleteAccount", "DeletePaymentAccount", "RotateKey", "SuspendAccount", "DeleteBucket"]:
    bucket_name = f"fuzzed-{name.lower()}"
    known[name] = about(order(client, bucket_name))
known["DeleteBucket"]["bucket_name"] = [bucket_name, "no-such-bucket"]
known["CancelPaymentAccountDeletion"] = known["DeletePaymentAccount"]
known["ResumeAccount"] = known["SuspendAccount"]

RUNS = {
    # All that the contract allows, about what there is. The path of all actions comes last, so that it leaves something to each.
    "right": ("positive", known, ["--exclude-path", "/s3.php"]),
    "right-together": ("positive", known, ["--include-path", "/s3.php"]),
    # What the contract does not allow.
    "wrong": ("negative", {"*": token, "AuthLogout": known["AuthLogout"]}, []),
}
failed = []
totals = {}
for name, (mode, names, options) in RUNS.items():
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    seen = out / "seen.json"
    fuzz = json.dumps({"known": names, "seen": str(seen)})
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(here), "FUZZ": fuzz}
    command = ["schemathesis", "--config-file", here / "schemathesis.toml", "run", contract, "--url", API]
    command += ["--mode", mode, "--report", "ndjson", "--report-ndjson-path", out / "calls.ndjson", *options, *sys.argv[4:]]
    if subprocess.run(command, env=environment, cwd=folder).returncode != 0:
        failed.append(name)
    for operation, statuses in json.loads(seen.read_text()).items():
        for status, times in statuses.items():
            counts = totals.setdefault(operation, {})
            counts[status] = counts.get(status, 0) + times
(folder / "seen.json").write_text(json.dumps(totals, indent=1, sort_keys=True))

# A call that is never right tells little of what an operation answers.
for path, operations in json.loads(pathlib.Path(contract).read_text())["paths"].items():
    # Where there are both, GET does the same.
    method, operation = next(iter(operations.items()))
    may = role == "staff" or operation["tags"] != ["administration"]
    found = totals.get(path if method == "post" else f"{method.upper()} {path}", {})
    wanted = ("" if method == "post" else f"{method.upper()} ") + ("200" if may else "403")
    if wanted not in found:
        failed.append(f"{method} {path} was never answered {wanted}, but {found}")
sys.exit("\n".join([f"{role}:", *failed]) if failed else 0)
