"""Compares what the queries of docs/segments.md say of two days with what get_usage says: see `run`."""

import ast
import collections
import contextlib
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

import boto3
import botocore.config
import duckdb
import pyarrow
import pyarrow.parquet as parquet

# The documented queries are of this month, and mean this location.
BEGIN = "2026-11-21T09:30:00Z"
DAYS = ["2026-11-21", "2026-11-22"]
LOCATION = "NL"
# What earlier versions did not write.
ACCOUNT = ["account_id", "client_id"]
LATER = ["requests_get", "requests_put", "requests_list", "requests_delete", "requests_other", "own_bytes_sent", "own_requests"]


class Runner:
    """A local runner that keeps nothing, and whose clock stands still until it is moved."""

    def __init__(self, binary, env_file):
        command = [binary, "--ephemeral", "--json", "--listen", "127.0.0.1:0", "--clock", BEGIN, "--env-file", env_file]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{binary} did not start: status {self.process.wait()}")
        self.ready = json.loads(line)
        self.tokens = {}
        self.env = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        self.env = {name: value.strip("'") for name, value in self.env.items()}

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def send(self, path, body, content_type):
        request = urllib.request.Request(self.ready["api"] + path, body.encode(), {"content-type": content_type})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def post(self, path, **fields):
        return json.loads(self.send(path, urllib.parse.urlencode(fields), "application/x-www-form-urlencoded"))

    def log_in(self):
        for name in ["client", "client2"]:
            answer = self.post("/auth.php", action="login", key=self.ready["api_keys"][name], ttl=86400)
            self.tokens[name] = answer["result"]["token"]

    def call(self, who, action, **fields):
        return self.post("/s3.php", token=self.tokens[who], action=action, **fields)

    def pass_hours(self, hours):
        last = self.send("/_local/clock", json.dumps({"advance": f"PT{hours}H"}), "application/json").splitlines()[-1]
        moved = json.loads(last)
        assert not moved["failed"], moved
        # A token may not live as long as the clock was moved.
        self.log_in()

    def order(self, who, location, bucket_name):
        answer = self.call(who, "create_order", plan_id=2, location=location, bucket_name=bucket_name)
        return Account(self, who, location, bucket_name, answer["s3uid"])


def s3(endpoint, region, access_key, secret_key):
    config = botocore.config.Config(s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config, **keys)


class Account:
    def __init__(self, runner, who, location, bucket_name, s3uid):
        self.runner, self.who, self.location, self.bucket_name, self.s3uid = runner, who, location, bucket_name, s3uid
        keys = [runner.call(who, "show_key", s3uid=s3uid, s3_key=name)[name] for name in ["access_key", "secret_key"]]
        self.s3 = s3(runner.ready["locations"][location], "us-east-1", *keys)

    def put(self, key, size, bucket_name=None):
        self.s3.put_object(Bucket=bucket_name or self.bucket_name, Key=key, Body=b"x" * size)

    def get(self, key):
        self.s3.get_object(Bucket=self.bucket_name, Key=key)["Body"].read()

    def usage(self, by):
        fields = {"s3uid": self.s3uid, "by": by, "period_from": DAYS[0], "period_to": DAYS[-1]}
        return self.runner.call(self.who, "get_usage", **fields)["usage"]


def two_days(runner):
    """Traffic and stored bytes that differ by hour, day, bucket, account, client and location."""
    runner.log_in()
    busy = runner.order("client", LOCATION, "busy")
    calm = runner.order("client", LOCATION, "calm")
    elsewhere = runner.order("client", "DE", "elsewhere")
    other = runner.order("client2", LOCATION, "other")
    busy.s3.create_bucket(Bucket="busy-second")
    busy.put("a", 70_000)
    busy.put("b", 20_000, "busy-second")
    other.put("a", 5_000)
    elsewhere.put("a", 900_000)
    elsewhere.get("a")
    runner.pass_hours(1)
    for _ in range(3):
        busy.get("a")
    other.get("a")
    # What Wharfage calls itself is nobody's traffic, whatever the cluster counted.
    runner.call("client", "get_files", s3uid=busy.s3uid, bucket_name="busy")
    runner.call("client", "get_files", s3uid=calm.s3uid, bucket_name="calm")
    runner.pass_hours(4)
    # The peak, in an hour of the day in which there is less tomorrow.
    busy.put("c", 99_007)
    runner.pass_hours(2)
    busy.s3.delete_object(Bucket="busy", Key="c")
    busy.get("a")
    runner.pass_hours(22)
    busy.get("a")
    busy.put("d", 1_000, "busy-second")
    calm.put("a", 300)
    calm.get("a")
    runner.pass_hours(2)
    other.put("b", 12_000)
    # Into the day after, so that the last hour of the second is collected.
    runner.pass_hours(10)
    return [busy, calm, elsewhere, other]


def expected(accounts):
    """What queries are to answer, by their columns: as get_usage tells it."""
    here = [account for account in accounts if account.location == LOCATION]
    days = {
        (day["from"][:10], account.s3uid, day["bytes_sent"], day["requests"])
        for account in here
        for day in account.usage("days")
    }
    peaks = {(account.s3uid, max(hour["peak_stored_bytes"] for hour in account.usage("hours"))) for account in here}
    clients = collections.Counter()
    for account in accounts:
        clients[account.runner.ready["client_ids"][account.who]] += sum(day["bytes_sent"] for day in account.usage("days"))
    # Else nothing would be compared.
    assert len(days) == 2 * len(here) and sum(sent > 0 for *_, sent, _ in days) >= 4, days
    assert max(peak for _, peak in peaks) == 70_000 + 20_000 + 99_007, peaks
    assert len(clients) == 2 and min(clients.values()) > 0, clients
    return {
        ("date", "s3uid", "bytes_sent", "requests"): days,
        ("s3uid", "peak_stored_bytes"): peaks,
        ("client_id", "bytes_sent"): set(clients.items()),
    }


def as_formerly(table, version):
    """The rows as an earlier version would have written them."""
    names = ["hour" if name == "starts_at" else name for name in table.column_names]
    table = table.rename_columns(names).drop_columns(ACCOUNT)
    return table.drop_columns(LATER) if version == "oldest" else table


def version_of(folder, number, table):
    """Which version is to have written a file; no query can tell what an oldest file would not say."""
    has_own_calls = table["own_requests"].null_count < len(table)
    if folder == "mixed" and number % 3 == 0 and not has_own_calls:
        return "oldest"
    return "former" if folder == "old" or (folder == "mixed" and number % 3 == 1) else "new"


def write_folders(segments, root):
    """The files as they came, all as before, and some of each."""
    for folder in ["new", "old", "mixed"]:
        versions = collections.Counter()
        for number, (key, data) in enumerate(sorted(segments.items())):
            file = root / folder / key
            file.parent.mkdir(parents=True)
            table = parquet.read_table(pyarrow.BufferReader(data))
            version = version_of(folder, number, table)
            versions[version] += 1
            if version == "new":
                file.write_bytes(data)
            else:
                parquet.write_table(as_formerly(table, version), file, compression="zstd")
        print(f"  {folder}: " + ", ".join(f"{count} {version}" for version, count in sorted(versions.items())))
        assert folder != "mixed" or len(versions) == 3, versions


def queries(document):
    blocks = re.findall(r"^```(sql|python)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    for number, (language, text) in enumerate(blocks, 1):
        if language == "sql":
            yield f"{number} (DuckDB)", text, run_sql
        else:
            library = re.search(r"^import (\w+)", text, re.MULTILINE)[1]
            yield f"{number} ({library})", text, run_python


def run_sql(text):
    relation = duckdb.sql(text.replace("s3://<usage bucket>/", ""))
    return tuple(relation.columns), relation.fetchall()


def run_python(text):
    """Its columns and rows: those of the table that its last line prints."""
    program = ast.parse(text)
    printed = program.body.pop()
    assert isinstance(printed, ast.Expr) and printed.value.func.id == "print", "a program prints its table last"
    scope = {}
    exec(compile(program, "docs/segments.md", "exec"), scope)
    table = eval(compile(ast.Expression(printed.value.args[0]), "docs/segments.md", "eval"), scope)
    names = table.columns if hasattr(table, "rows") else table.column_names
    rows = table.rows() if hasattr(table, "rows") else zip(*table.to_pydict().values())
    return tuple(names), list(rows)


def comparable(row):
    return tuple(str(value) if isinstance(value, datetime.date) else value for value in row)


def compare(name, text, run, answers):
    """What is wrong with a query's answer; nothing where it is get_usage's."""
    try:
        columns, rows = run(text)
    except Exception as error:
        return f"query {name} fails: {error}"
    if columns not in answers:
        return f"query {name}: nothing is known to compare its columns {columns} with"
    rows = [comparable(row) for row in rows]
    wanted = answers[columns]
    if len(rows) == len(wanted) and set(rows) == wanted:
        return None
    return f"query {name} says {sorted(rows)}, get_usage {sorted(wanted)}"


def main(binaries, document):
    binaries = pathlib.Path(binaries).resolve()
    all_queries = list(queries(pathlib.Path(document).read_text()))
    tools = {name.split("(")[1].rstrip(")") for name, *_ in all_queries}
    assert tools == {"DuckDB", "pyarrow", "polars"}, tools
    wrong = []
    with contextlib.ExitStack() as stack:
        root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        env_file = root / "local.env"
        runner = Runner(binaries / "local", env_file)
        stack.callback(runner.stop)
        accounts = two_days(runner)
        answers = expected(accounts)
        env = runner.env
        bucket = env["USAGE_BUCKET"]
        usage = s3(env["AWS_ENDPOINT_URL_S3"], env["AWS_REGION"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
        pages = usage.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        segments = {key: usage.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
        # Two days and a hour or two, but for the morning before the orders.
        assert sum(f"location={LOCATION}/" in key for key in keys) >= 38, keys
        segments = {key: data for key, data in segments.items() if any(f"date={day}/" in key for day in DAYS)}
        write_folders(segments, root)

        for folder in ["new", "mixed", "old"]:
            os.chdir(root / folder)
            for name, text, run in all_queries:
                # DuckDB knows no column that none of the files has.
                if folder == "old" and run is run_sql and "client_id" in text:
                    continue
                problem = compare(name, text, run, answers)
                print(f"  {folder}: query {name}: {'WRONG' if problem else 'as get_usage'}")
                wrong += [f"{folder}: {problem}"] if problem else []

        # The product reads them too: what it makes of them is what it had made of its own.
        now = json.loads(runner.send("/_local/clock", '{"advance":"PT0S"}', "application/json").splitlines()[-1])["now"]
        for folder in ["mixed", "old"]:
            for key in segments:
                usage.put_object(Bucket=bucket, Key=key, Body=(root / folder / key).read_bytes())
            command = [binaries / "operator", "--env-file", env_file, "--clock", now, "rebuild", "--location", LOCATION]
            command += ["--from", DAYS[0], "--to", DAYS[-1], "--dry-run"]
            rebuilt = subprocess.run(command, capture_output=True, text=True)
            print(f"  {folder}: operator rebuild --dry-run: {rebuilt.returncode}")
            if rebuilt.returncode != 0:
                wrong.append(f"{folder}: operator rebuild: {rebuilt.stdout}{rebuilt.stderr}")
        os.chdir("/")
    for problem in wrong:
        print(problem, file=sys.stderr)
    sys.exit(1 if wrong else 0)


main(*sys.argv[1:])
