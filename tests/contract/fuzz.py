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


# Something to ask about: accounts of two clients, with a file, invoices, a clean-up and keys.
staff, client, client2 = (log_in(os.environ[f"{name}_KEY"]) for name in ["ADMIN", "CLIENT", "CLIENT2"])
call("/s3.php", token=staff, action="add_credit", id=1, amount=10_000, reference="fuzzing")
accounts = []
for number, token in enumerate([client, client, client, client2]):
    accounts.append(call("/s3.php", token=token, action="create_order", plan_id=2, bucket_name=f"fuzzed-{number}"))
    name = {"s3uid": accounts[-1]["s3uid"], "token": token}
    keys = [call("/s3.php", action="show_key", s3_key=key, **name)[key] for key in ["access_key", "secret_key"]]
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", ":".join(keys), "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    put = ["curl", "-sS", "--fail-with-body", *signing, "-T", here.parent.parent / "LICENSE"]
    subprocess.run([*put, f"{os.environ['S3']}/fuzzed-{number}/docs/LICENSE"], check=True)
deleted = call("/s3.php", token=client, action="delete_account", s3uid=accounts[2]["s3uid"])
revoked = call("/s3.php", token=staff, action="create_api_key", id=2)

folder.mkdir(parents=True, exist_ok=True)
environment = os.environ | {
    "SCHEMATHESIS_HOOKS": "hooks",
    "PYTHONPATH": str(here),
    "FUZZ": json.dumps(
        {
            "key": os.environ["ADMIN_KEY" if role == "staff" else "CLIENT_KEY"],
            "other_key": os.environ["CLIENT2_KEY"],
            "accounts": [{"s3uid": account["s3uid"], "account_id": account["id"]} for account in accounts],
            "callback": deleted["callback"],
            "revoked": revoked["api_key_id"],
            "seen": str(folder / "seen.json"),
        }
    ),
}
command = ["schemathesis", "--config-file", here / "schemathesis.toml", "run", contract, "--url", API, "--report", "ndjson,junit", "--report-dir", folder]
sys.exit(subprocess.run([*command, *sys.argv[4:]], env=environment, cwd=folder).returncode)
