"""The clients and what is done with each. Run by `run`."""

import filecmp
import hashlib
import io
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

import boto3
import botocore
import minio
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from minio.commonconfig import REPLACE, CopySource, Tags
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.versioningconfig import ENABLED, VersioningConfig

HOME, ENDPOINT, WANTED = pathlib.Path(sys.argv[1]), sys.argv[2].rstrip("/"), sys.argv[3:]
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
REGION = os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
if not ENDPOINT.startswith("https"):
    os.environ.pop("AWS_CA_BUNDLE", None)  # rclone does not start with it.
HOST = urlsplit(ENDPOINT).netloc
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="clients-"))
LARGE = 100 * 1024 * 1024
ODD = ["with space", "ümläut ß", "emoji 🎉", "plus+plus", "percent%41 %", "double//slash", "/leading", "trailing/",
       "up/../down", "./dot", "a&b=c?d#e;f", "quote'\"", "<angle>&amp;", "~(tilde)*!@:,$", "line\nbreak", "tab\there"]
# What also is a file's name.
ODD_FILES = ["with space", "ümläut ß", "emoji 🎉", "plus+plus", "percent%41 %", "a&b=c;d", "quote'", "<angle>&amp;",
             "~(tilde)!@,$", "deep/er/file"]

results = []  # (client, operation, None or what went wrong)


def expect(condition, what="not as expected"):
    if not condition:
        raise AssertionError(what)


def refused(call, code):
    """That `call` is refused with this code or status."""
    try:
        call()
    except Exception as error:
        expect(code in str(error), f"refused, but: {error}")
    else:
        raise AssertionError(f"not refused with {code}")


def sh(*command, env=None, cwd=None):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd,
                          env={**os.environ, **(env or {})}, timeout=600)
    expect(done.returncode == 0, f"{' '.join(map(str, command[:4]))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def run(client, operations):
    for name, operation in operations:
        try:
            operation()
            results.append((client, name, None))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            results.append((client, name, text.removeprefix("AssertionError: ")))
        print(".", end="", flush=True)


def operations(holder):
    """The methods of `holder` in the order they are written, by their names."""
    return [(name.replace("_", " "), getattr(holder, name)) for name in vars(type(holder)) if not name.startswith("_")]


def bucket_name(client):
    return f"clients-{re.sub('[^a-z0-9]', '', client)}-{secrets.token_hex(4)}"


def folder(name, files):
    made = SCRATCH / name
    for file in files:
        path = made / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {file}")
    return made


def same_folders(left, right):
    compared = filecmp.dircmp(left, right)
    differing = compared.left_only + compared.right_only + compared.diff_files
    expect(not differing, f"differs: {differing}")
    for name in compared.common_dirs:
        same_folders(left / name, right / name)


def large_file():
    path = SCRATCH / "large"
    if not path.exists():
        block = secrets.token_bytes(1024 * 1024)
        with open(path, "wb") as file:
            for at in range(LARGE // len(block)):
                file.write(at.to_bytes(4, "big") + block[4:])
    return path


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CORS = {"AllowedOrigins": ["https://*.example.com"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["x-amz-*"],
        "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 600}


class Boto3:
    """Also what speaks HTTP by itself: pages, forms, addresses that somebody else signed."""

    def __init__(self):
        self._name = bucket_name("boto3")
        self._s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))
        self._v4 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version="s3v4"))

    def _put(self, key, body=b"content", **more):
        return self._s3.put_object(Bucket=self._name, Key=key, Body=body, **more)

    def _read(self, key, **more):
        return self._s3.get_object(Bucket=self._name, Key=key, **more)["Body"].read()

    def make_bucket(self):
        self._s3.create_bucket(Bucket=self._name)
        expect(self._name in [bucket["Name"] for bucket in self._s3.list_buckets()["Buckets"]])
        self._s3.head_bucket(Bucket=self._name)
        self._s3.get_bucket_location(Bucket=self._name)

    def put_and_get(self):
        self._put("put", b"hello")
        expect(self._read("put") == b"hello")
        self._put("empty", b"")
        expect(self._read("empty") == b"")
        for algorithm in ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"]:
            try:
                self._put("summed", b"hello", ChecksumAlgorithm=algorithm)
            except botocore.exceptions.MissingDependencyException:
                continue
            head = self._s3.head_object(Bucket=self._name, Key="summed", ChecksumMode="ENABLED")
            expect(f"Checksum{algorithm}" in head, f"no {algorithm}")
        refused(lambda: self._put("wrong", b"hello", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest")

    def upload_in_parts(self):
        self._s3.upload_file(str(large_file()), self._name, "large")
        self._s3.download_file(self._name, "large", str(SCRATCH / "boto3"), Config=TransferConfig(max_concurrency=4))
        expect(digest(SCRATCH / "boto3") == digest(large_file()))
        upload = self._s3.create_multipart_upload(Bucket=self._name, Key="broken off")["UploadId"]
        self._s3.upload_part(Bucket=self._name, Key="broken off", UploadId=upload, PartNumber=1, Body=b"x")
        expect(self._s3.list_multipart_uploads(Bucket=self._name)["Uploads"][0]["UploadId"] == upload)
        expect(len(self._s3.list_parts(Bucket=self._name, Key="broken off", UploadId=upload)["Parts"]) == 1)
        self._s3.abort_multipart_upload(Bucket=self._name, Key="broken off", UploadId=upload)

    def attributes(self):
        found = self._s3.get_object_attributes(Bucket=self._name, Key="put", ObjectAttributes=["ETag", "ObjectSize"])
        expect(found["ObjectSize"] == 5)

    def list(self):
        for at in range(25):
            self._put(f"list/{at:02}/file")
        for version in ["list_objects", "list_objects_v2"]:
            pages = self._s3.get_paginator(version).paginate(Bucket=self._name, Prefix="list/", PaginationConfig={"PageSize": 10})
            expect(len([o for page in pages for o in page["Contents"]]) == 25, version)
            pages = self._s3.get_paginator(version).paginate(
                Bucket=self._name, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 10})
            expect(len([p for page in pages for p in page["CommonPrefixes"]]) == 25, f"{version} with delimiter")
        page = self._s3.list_objects_v2(Bucket=self._name, StartAfter="list/20/file", Prefix="list/", FetchOwner=True)
        expect(page["KeyCount"] == 4 and page["Contents"][0]["Owner"]["ID"])

    def odd_names(self):
        failed = []
        for key in ODD:
            try:
                self._put(f"odd/{key}", key.encode())
                expect(self._read(f"odd/{key}") == key.encode(), "other content")
                self._s3.copy_object(Bucket=self._name, Key=f"copied/{key}", CopySource={"Bucket": self._name, "Key": f"odd/{key}"})
            except Exception as error:
                failed.append(f"{key!r}: {error}")
        self._put("/", b"slash")
        expect(self._read("/") == b"slash", "the key /")
        page = self._s3.list_objects_v2(Bucket=self._name, Prefix="odd/")
        listed = [o["Key"].removeprefix("odd/") for o in page["Contents"]]
        expect(sorted(listed) == sorted(ODD), f"listed otherwise: {set(ODD) ^ set(listed)}")
        deleted = self._s3.delete_objects(Bucket=self._name, Delete={"Objects": [{"Key": f"odd/{key}"} for key in ODD]})
        expect(not deleted.get("Errors"), str(deleted.get("Errors")))
        left = self._s3.list_objects_v2(Bucket=self._name, Prefix="odd/").get("Contents")
        expect(not left, f"left after DeleteObjects: {left and [o['Key'] for o in left]}")
        expect(not failed, "; ".join(failed))

    def copy(self):
        self._put("source", b"copied", Metadata={"a": "b"}, ContentType="text/plain")
        source = {"Bucket": self._name, "Key": "source"}
        self._s3.copy_object(Bucket=self._name, Key="copy", CopySource=source)
        expect(self._s3.head_object(Bucket=self._name, Key="copy")["Metadata"] == {"a": "b"})
        self._s3.copy_object(Bucket=self._name, Key="source", CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"})
        expect(self._s3.head_object(Bucket=self._name, Key="source")["Metadata"] == {"c": "d"})
        self._s3.copy({"Bucket": self._name, "Key": "large"}, self._name, "large copy")
        refused(lambda: self._s3.copy_object(Bucket=self._name, Key="x", CopySource=source, CopySourceIfMatch='"0"'), "PreconditionFailed")

    def metadata(self):
        given = dict(ContentType="text/html; charset=utf-8", CacheControl="max-age=60", ContentDisposition="attachment; filename*=utf-8''%C3%A4%20b.txt",
                     ContentEncoding="gzip", ContentLanguage="de", Metadata={"plain": "value", "with-dash": "a, b"})
        self._put("described", **given)
        head = self._s3.head_object(Bucket=self._name, Key="described")
        for name, value in given.items():
            expect(head.get(name) == value, f"{name}: {head.get(name)}")
        got = self._s3.get_object(Bucket=self._name, Key="described", ResponseContentType="text/x", ResponseCacheControl="no-store")
        expect((got["ContentType"], got["CacheControl"]) == ("text/x", "no-store"))

    def ranges(self):
        self._put("digits", b"0123456789")
        for given, want in [("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89"), ("bytes=5-99", b"56789")]:
            expect(self._read("digits", Range=given) == want, given)
        refused(lambda: self._read("digits", Range="bytes=10-"), "InvalidRange")

    def conditions(self):
        tag = self._put("condition")["ETag"]
        expect(self._read("condition", IfMatch=tag) == b"content")
        refused(lambda: self._read("condition", IfMatch='"0"'), "PreconditionFailed")
        refused(lambda: self._read("condition", IfNoneMatch=tag), "304")
        refused(lambda: self._put("condition", IfNoneMatch="*"), "PreconditionFailed")
        self._put("condition", IfMatch=tag)
        refused(lambda: self._put("condition", IfMatch='"0"'), "PreconditionFailed")

    def tagging(self):
        self._put("tagged", Tagging="a=b&c=d%20e")
        expect(self._s3.get_object_tagging(Bucket=self._name, Key="tagged")["TagSet"] == [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d e"}])
        self._s3.put_object_tagging(Bucket=self._name, Key="tagged", Tagging={"TagSet": [{"Key": "ä", "Value": "<&>"}]})
        expect(self._s3.get_object_tagging(Bucket=self._name, Key="tagged")["TagSet"] == [{"Key": "ä", "Value": "<&>"}])
        self._s3.delete_object_tagging(Bucket=self._name, Key="tagged")

    def presigned_get(self):
        for client in [self._s3, self._v4]:
            self._put("signed ü+%", b"signed")
            url = client.generate_presigned_url("get_object", {"Bucket": self._name, "Key": "signed ü+%", "ResponseContentType": "text/x"})
            got = requests.get(url)
            expect((got.status_code, got.content, got.headers["content-type"]) == (200, b"signed", "text/x"), got.text)
            expect(requests.get(url.replace("signed", "other")).status_code == 403, "another key with the same signature")

    def presigned_put(self):
        for client in [self._s3, self._v4]:
            url = client.generate_presigned_url("put_object", {"Bucket": self._name, "Key": "signed put", "ContentType": "text/x"})
            done = requests.put(url, data=b"via address", headers={"content-type": "text/x"})
            expect(done.status_code == 200, done.text)
            expect(self._read("signed put") == b"via address")

    def post_form(self):
        for client in [self._s3, self._v4]:
            conditions = [["content-length-range", 1, 1000], ["starts-with", "$x-amz-meta-who", ""], {"success_action_status": "201"}]
            post = client.generate_presigned_post(self._name, "forms/${filename}", {"success_action_status": "201"}, conditions, 600)
            fields = {**post["fields"], "x-amz-meta-who": "me"}
            done = requests.post(post["url"], data=fields, files={"file": ("ü b.txt", b"from a form")})
            expect(done.status_code == 201, done.text)
            expect(self._read("forms/ü b.txt") == b"from a form")
            done = requests.post(post["url"], data=fields, files={"file": ("b.txt", b"x" * 1001)})
            expect(done.status_code == 400 and "EntityTooLarge" in done.text, done.text)
            done = requests.post(post["url"], data={**fields, "acl": "private"}, files={"file": ("b.txt", b"x")})
            expect(done.status_code == 403, done.text)

    def cors(self):
        refused(lambda: self._s3.get_bucket_cors(Bucket=self._name), "NoSuchCORSConfiguration")
        self._s3.put_bucket_cors(Bucket=self._name, CORSConfiguration={"CORSRules": [CORS]})
        expect(self._s3.get_bucket_cors(Bucket=self._name)["CORSRules"] == [CORS])
        url = self._v4.generate_presigned_url("put_object", {"Bucket": self._name, "Key": "from a page"})
        asked = {"origin": "https://app.example.com", "access-control-request-method": "PUT", "access-control-request-headers": "x-amz-date"}
        told = requests.options(url, headers=asked)
        expect(told.status_code == 200 and told.headers["access-control-allow-origin"] == asked["origin"], told.text)
        done = requests.put(url, data=b"x", headers={"origin": asked["origin"]})
        expect(done.headers.get("access-control-expose-headers") == "ETag")
        expect(requests.options(url, headers={**asked, "origin": "https://example.org"}).status_code == 403)
        self._s3.delete_bucket_cors(Bucket=self._name)

    def versioning(self):
        name = f"{self._name}-v"
        self._s3.create_bucket(Bucket=name)
        self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        first = self._s3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
        self._s3.put_object(Bucket=name, Key="k", Body=b"2")
        expect(self._s3.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1")
        marker = self._s3.delete_object(Bucket=name, Key="k")
        expect(marker["DeleteMarker"])
        self._s3.delete_object(Bucket=name, Key="k", VersionId=marker["VersionId"])
        expect(self._s3.get_object(Bucket=name, Key="k")["Body"].read() == b"2")
        boto3.resource("s3", endpoint_url=ENDPOINT).Bucket(name).object_versions.delete()
        self._s3.delete_bucket(Bucket=name)

    def acl(self):
        expect(self._s3.get_bucket_acl(Bucket=self._name)["Owner"]["ID"])
        expect(self._s3.get_object_acl(Bucket=self._name, Key="put")["Grants"])

    def remove_all(self):
        boto3.resource("s3", endpoint_url=ENDPOINT).Bucket(self._name).objects.delete()
        self._s3.delete_bucket(Bucket=self._name)
        refused(lambda: self._s3.head_bucket(Bucket=self._name), "404")


class Minio:
    def __init__(self):
        self._name = bucket_name("minio")
        self._s3 = minio.Minio(HOST, access_key=KEY, secret_key=SECRET, region=REGION, secure=ENDPOINT.startswith("https"))

    def _put(self, key, content=b"content", **more):
        return self._s3.put_object(self._name, key, io.BytesIO(content), len(content), **more)

    def _read(self, key, **more):
        return self._s3.get_object(self._name, key, **more).data

    def make_bucket(self):
        self._s3.make_bucket(self._name)
        expect(self._s3.bucket_exists(self._name))
        expect(self._name in [bucket.name for bucket in self._s3.list_buckets()])

    def put_and_get(self):
        self._put("put", b"hello", content_type="text/plain")
        expect(self._read("put") == b"hello" and self._s3.stat_object(self._name, "put").content_type == "text/plain")

    def upload_in_parts(self):
        self._s3.fput_object(self._name, "large", str(large_file()), part_size=10 * 1024 * 1024)
        self._s3.fget_object(self._name, "large", str(SCRATCH / "minio"))
        expect(digest(SCRATCH / "minio") == digest(large_file()))
        self._s3.put_object(self._name, "unknown length", io.BytesIO(b"x" * 6_000_000), -1, part_size=5 * 1024 * 1024)

    def list(self):
        for at in range(5):
            self._put(f"list/{at}/file")
        expect(len(list(self._s3.list_objects(self._name, "list/", recursive=True))) == 5)
        expect(len(list(self._s3.list_objects(self._name, "list/"))) == 5)
        expect(len(list(self._s3.list_objects(self._name, "list/", recursive=True, use_api_v1=True))) == 5)

    def odd_names(self):
        # This client itself refuses dots as parts of a path.
        for key in [key for key in ODD if ".." not in key and "./" not in key]:
            self._put(f"odd/{key}", key.encode())
            expect(self._read(f"odd/{key}") == key.encode(), key)
            self._s3.remove_object(self._name, f"odd/{key}")
        expect(not list(self._s3.list_objects(self._name, "odd/", recursive=True)))

    def copy(self):
        self._s3.copy_object(self._name, "copy", CopySource(self._name, "put"), metadata={"a": "b"}, metadata_directive=REPLACE)
        expect(self._s3.stat_object(self._name, "copy").metadata["x-amz-meta-a"] == "b")

    def ranges(self):
        expect(self._read("put", offset=1, length=3) == b"ell")

    def tagging(self):
        tags = Tags.new_object_tags()
        tags["a"] = "b"
        self._s3.set_object_tags(self._name, "put", tags)
        expect(self._s3.get_object_tags(self._name, "put") == {"a": "b"})
        self._s3.delete_object_tags(self._name, "put")

    def presigned_get(self):
        expect(requests.get(self._s3.presigned_get_object(self._name, "put")).content == b"hello")

    def presigned_put(self):
        done = requests.put(self._s3.presigned_put_object(self._name, "signed put"), data=b"signed")
        expect(done.status_code == 200, done.text)

    def post_form(self):
        from datetime import datetime, timedelta, timezone
        policy = PostPolicy(self._name, datetime.now(timezone.utc) + timedelta(hours=1))
        policy.add_starts_with_condition("key", "forms/")
        policy.add_content_length_range_condition(1, 1000)
        fields = {**self._s3.presigned_post_policy(policy), "key": "forms/minio"}
        done = requests.post(f"{ENDPOINT}/{self._name}", data=fields, files={"file": b"from a form"})
        expect(done.status_code == 204, done.text)
        expect(self._read("forms/minio") == b"from a form")

    def versioning(self):
        name = f"{self._name}-v"
        self._s3.make_bucket(name)
        self._s3.set_bucket_versioning(name, VersioningConfig(ENABLED))
        for content in [b"1", b"2"]:
            self._s3.put_object(name, "k", io.BytesIO(content), 1)
        versions = list(self._s3.list_objects(name, include_version=True))
        expect(len(versions) == 2)
        for version in versions:
            self._s3.remove_object(name, "k", version.version_id)
        self._s3.remove_bucket(name)

    def remove_all(self):
        names = [DeleteObject(o.object_name) for o in self._s3.list_objects(self._name, recursive=True)]
        expect(not list(self._s3.remove_objects(self._name, names)))
        self._s3.remove_bucket(self._name)


class Aws:
    """The aws command, either version."""

    def __init__(self, program):
        self._program = program
        self._name = bucket_name("aws")

    def _s3(self, *words):
        return sh(self._program, "--endpoint-url", ENDPOINT, "s3", *words)

    def _api(self, operation, *words):
        told = sh(self._program, "--endpoint-url", ENDPOINT, "--output", "json", "s3api", operation, "--bucket", self._name, *words)
        return json.loads(told or "{}")

    def make_bucket(self):
        self._s3("mb", f"s3://{self._name}")
        expect(self._name in self._s3("ls"))

    def put_and_get(self):
        file = folder("aws-put", ["file.txt"]) / "file.txt"
        self._s3("cp", file, f"s3://{self._name}/put")
        expect(self._s3("cp", f"s3://{self._name}/put", "-") == file.read_text())

    def upload_in_parts(self):
        self._s3("cp", "--no-progress", large_file(), f"s3://{self._name}/large")
        self._s3("cp", "--no-progress", f"s3://{self._name}/large", SCRATCH / "aws")
        expect(digest(SCRATCH / "aws") == digest(large_file()))

    def list(self):
        self._s3("cp", "--recursive", folder("aws-list", [f"{at}/file" for at in range(7)]), f"s3://{self._name}/list")
        expect(self._s3("ls", f"s3://{self._name}/list/").count("PRE") == 7)
        expect(len(self._api("list-objects-v2", "--prefix", "list/", "--page-size", "3")["Contents"]) == 7)
        expect(len(self._api("list-objects", "--prefix", "list/", "--page-size", "3")["Contents"]) == 7)

    def odd_names(self):
        source = folder("aws-odd", ODD_FILES)
        self._s3("cp", "--recursive", source, f"s3://{self._name}/odd")
        self._s3("cp", "--recursive", f"s3://{self._name}/odd", SCRATCH / "aws-odd-back")
        same_folders(source, SCRATCH / "aws-odd-back")

    def copy(self):
        self._s3("cp", f"s3://{self._name}/put", f"s3://{self._name}/a copy+ü")
        self._s3("mv", f"s3://{self._name}/a copy+ü", f"s3://{self._name}/moved")
        self._s3("cp", f"s3://{self._name}/large", f"s3://{self._name}/large copy")

    def metadata(self):
        self._s3("cp", SCRATCH / "aws-put" / "file.txt", f"s3://{self._name}/described", "--metadata", "a=b", "--content-type", "text/x",
                 "--cache-control", "no-store", "--storage-class", "STANDARD")
        head = self._api("head-object", "--key", "described")
        expect((head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"a": "b"}, "text/x", "no-store"))

    def ranges(self):
        self._api("get-object", "--key", "put", "--range", "bytes=0-6", str(SCRATCH / "aws-range"))
        expect((SCRATCH / "aws-range").read_text() == "content")

    def tagging(self):
        self._api("put-object-tagging", "--key", "put", "--tagging", "TagSet=[{Key=a,Value=b}]")
        expect(self._api("get-object-tagging", "--key", "put")["TagSet"] == [{"Key": "a", "Value": "b"}])

    def presigned_get(self):
        expect(requests.get(self._s3("presign", f"s3://{self._name}/put").strip()).status_code == 200)

    def cors(self):
        self._api("put-bucket-cors", "--cors-configuration", json.dumps({"CORSRules": [CORS]}))
        expect(self._api("get-bucket-cors")["CORSRules"] == [CORS])
        self._api("delete-bucket-cors")

    def sync(self):
        source = folder("aws-sync", ODD_FILES)
        self._s3("sync", source, f"s3://{self._name}/sync")
        expect(self._s3("sync", source, f"s3://{self._name}/sync").strip() == "", "synced again")
        (source / "with space").unlink()
        self._s3("sync", "--delete", source, f"s3://{self._name}/sync")
        self._s3("sync", f"s3://{self._name}/sync", SCRATCH / "aws-sync-back")
        same_folders(source, SCRATCH / "aws-sync-back")

    def multi_delete(self):
        objects = [{"Key": f"list/{at}/file"} for at in range(7)]
        expect(len(self._api("delete-objects", "--delete", json.dumps({"Objects": objects}))["Deleted"]) == 7)

    def remove_all(self):
        self._s3("rm", "--recursive", f"s3://{self._name}")
        self._s3("rb", f"s3://{self._name}")


class S3cmd:
    def __init__(self):
        self._name = bucket_name("s3cmd")
        self._config = SCRATCH / "s3cfg"
        self._config.write_text(f"[default]\naccess_key = {KEY}\nsecret_key = {SECRET}\nhost_base = {HOST}\nhost_bucket = {HOST}\n"
                                f"bucket_location = {REGION}\nuse_https = {ENDPOINT.startswith('https')}\n")

    def _s3(self, *words):
        return sh(HOME / "venv" / "bin" / "s3cmd", "-c", self._config, "--no-progress", *words)

    def make_bucket(self):
        self._s3("mb", f"s3://{self._name}")
        expect(self._name in self._s3("ls"))

    def put_and_get(self):
        file = folder("s3cmd-put", ["file.txt"]) / "file.txt"
        self._s3("put", file, f"s3://{self._name}/put")
        self._s3("get", f"s3://{self._name}/put", SCRATCH / "s3cmd-got")
        expect((SCRATCH / "s3cmd-got").read_text() == file.read_text())
        expect("file size" in self._s3("info", f"s3://{self._name}/put").lower())

    def upload_in_parts(self):
        self._s3("put", large_file(), f"s3://{self._name}/large", "--multipart-chunk-size-mb=15")
        self._s3("get", f"s3://{self._name}/large", SCRATCH / "s3cmd-large")
        expect(digest(SCRATCH / "s3cmd-large") == digest(large_file()))

    def list(self):
        expect(self._name in self._s3("la"))
        expect("large" in self._s3("ls", f"s3://{self._name}"))
        self._s3("du", f"s3://{self._name}")

    def odd_names(self):
        source = folder("s3cmd-odd", ODD_FILES)
        self._s3("put", "--recursive", f"{source}/", f"s3://{self._name}/odd/")
        (SCRATCH / "s3cmd-odd-back").mkdir()
        self._s3("get", "--recursive", f"s3://{self._name}/odd/", f"{SCRATCH}/s3cmd-odd-back/")
        same_folders(source, SCRATCH / "s3cmd-odd-back")

    def copy(self):
        self._s3("cp", f"s3://{self._name}/put", f"s3://{self._name}/copy")
        self._s3("mv", f"s3://{self._name}/copy", f"s3://{self._name}/moved")

    def metadata(self):
        self._s3("modify", "--add-header=x-amz-meta-a:b", f"s3://{self._name}/put")
        expect("x-amz-meta-a" in self._s3("info", f"s3://{self._name}/put"))

    def presigned_get(self):
        url = self._s3("signurl", f"s3://{self._name}/put", "+600").strip()
        got = requests.get(url)
        expect(got.status_code == 200, got.text)

    def cors(self):
        rules = SCRATCH / "cors.xml"
        rules.write_text("<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>")
        self._s3("setcors", rules, f"s3://{self._name}")
        expect("AllowedMethod" in self._s3("info", f"s3://{self._name}"))
        self._s3("delcors", f"s3://{self._name}")

    def sync(self):
        source = folder("s3cmd-sync", ODD_FILES)
        self._s3("sync", f"{source}/", f"s3://{self._name}/sync/")
        expect("upload:" not in self._s3("sync", f"{source}/", f"s3://{self._name}/sync/"), "synced again")
        (SCRATCH / "s3cmd-sync-back").mkdir()
        self._s3("sync", f"s3://{self._name}/sync/", f"{SCRATCH}/s3cmd-sync-back/")
        same_folders(source, SCRATCH / "s3cmd-sync-back")

    def acl(self):
        self._s3("setacl", "--acl-private", f"s3://{self._name}/put")

    def remove_all(self):
        self._s3("del", "--recursive", "--force", f"s3://{self._name}")
        self._s3("rb", f"s3://{self._name}")


class Rclone:
    def __init__(self):
        self._name = bucket_name("rclone")

    def _r(self, *words):
        settings = {"TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "ENDPOINT": ENDPOINT, "REGION": REGION}
        return sh("rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", *words,
                  env={f"RCLONE_CONFIG_AT_{name}": value for name, value in settings.items()})

    def make_bucket(self):
        self._r("mkdir", f"at:{self._name}")
        expect(self._name in self._r("lsd", "at:"))

    def put_and_get(self):
        file = folder("rclone-put", ["file.txt"]) / "file.txt"
        self._r("copyto", file, f"at:{self._name}/put")
        expect(self._r("cat", f"at:{self._name}/put") == file.read_text())

    def upload_in_parts(self):
        self._r("copyto", large_file(), f"at:{self._name}/large", "--s3-upload-cutoff", "20M", "--s3-chunk-size", "10M")
        self._r("copyto", f"at:{self._name}/large", SCRATCH / "rclone", "--multi-thread-cutoff", "10M")
        expect(digest(SCRATCH / "rclone") == digest(large_file()))

    def list(self):
        expect("large" in self._r("ls", f"at:{self._name}"))
        expect(json.loads(self._r("size", "--json", f"at:{self._name}"))["count"] == 2)
        expect(len(json.loads(self._r("lsjson", "--s3-list-chunk", "1", f"at:{self._name}"))) == 2)

    def odd_names(self):
        source = folder("rclone-odd", ODD_FILES)
        self._r("copy", source, f"at:{self._name}/odd")
        self._r("copy", f"at:{self._name}/odd", SCRATCH / "rclone-odd-back")
        same_folders(source, SCRATCH / "rclone-odd-back")

    def copy(self):
        self._r("copyto", f"at:{self._name}/put", f"at:{self._name}/a copy")
        self._r("moveto", f"at:{self._name}/a copy", f"at:{self._name}/moved")
        self._r("copyto", f"at:{self._name}/large", f"at:{self._name}/large copy", "--s3-copy-cutoff", "20M")

    def presigned_get(self):
        got = requests.get(self._r("link", f"at:{self._name}/put").strip())
        expect(got.status_code == 200, got.text)

    def sync(self):
        source = folder("rclone-sync", ODD_FILES)
        self._r("sync", source, f"at:{self._name}/sync")
        (source / "with space").unlink()
        self._r("sync", source, f"at:{self._name}/sync")
        self._r("check", source, f"at:{self._name}/sync")
        self._r("check", "--download", source, f"at:{self._name}/sync")
        self._r("dedupe", "--dedupe-mode", "newest", "--by-hash", f"at:{self._name}/sync")
        self._r("cleanup", f"at:{self._name}")

    def remove_all(self):
        self._r("delete", f"at:{self._name}")
        self._r("purge", f"at:{self._name}")


class Restic:
    def __init__(self):
        self._name = bucket_name("restic")

    def _r(self, *words):
        return sh("restic", "-r", f"s3:{ENDPOINT}/{self._name}", "--no-cache", *words, env={"RESTIC_PASSWORD": "of a test"})

    def make_bucket(self):
        self._r("init")

    def backup(self):
        source = folder("restic", ODD_FILES)
        shutil.copy(large_file(), source / "large")
        self._r("backup", source)
        (source / "large").unlink()
        self._r("backup", source)
        expect(len(json.loads(self._r("snapshots", "--json"))) == 2)

    def restore(self):
        self._r("restore", "latest", "--target", SCRATCH / "restored")
        same_folders(SCRATCH / "restic", SCRATCH / "restored" / (SCRATCH / "restic").relative_to("/"))

    def check(self):
        self._r("check", "--read-data")

    def prune(self):
        self._r("forget", "--keep-last", "1", "--prune")
        self._r("check")

    def remove_all(self):
        boto3.resource("s3", endpoint_url=ENDPOINT).Bucket(self._name).objects.delete()
        boto3.client("s3", endpoint_url=ENDPOINT).delete_bucket(Bucket=self._name)


def javascript():
    """The script prints a line of JSON for each operation."""
    env = {"ENDPOINT": ENDPOINT, "BUCKET": bucket_name("js"), "LARGE": str(large_file()), "ODD": json.dumps(ODD)}
    done = subprocess.run(["node", HOME / "javascript.mjs"], capture_output=True, text=True, env={**os.environ, **env}, timeout=600)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    results.extend(("JavaScript SDK", line["operation"], line["error"]) for line in lines)
    if done.returncode or not lines:
        results.append(("JavaScript SDK", "run", done.stderr.strip()[-400:]))


def version(*command):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        return (done.stdout or done.stderr).splitlines()[0] if done.returncode == 0 else None
    except OSError:
        return None


def aws_2():
    """The first aws on PATH of version 2; version 1 is installed from PyPI."""
    for place in os.environ["PATH"].split(os.pathsep):
        program = pathlib.Path(place) / "aws"
        if (version(program, "--version") or "").startswith("aws-cli/2"):
            return program
    return None


def main():
    aws_1, aws2, s3cmd = HOME / "venv" / "bin" / "aws", aws_2(), HOME / "venv" / "bin" / "s3cmd"
    clients = {
        "boto3": (f"boto3 {boto3.__version__}", lambda: run("boto3", operations(Boto3()))),
        "minio-py": (f"minio {minio.__version__}", lambda: run("minio-py", operations(Minio()))),
        "aws 1": (version(aws_1, "--version"), lambda: run("aws 1", operations(Aws(aws_1)))),
        "aws 2": (aws2 and version(aws2, "--version"), lambda: run("aws 2", operations(Aws(aws2)))),
        "s3cmd": (version(s3cmd, "--version"), lambda: run("s3cmd", operations(S3cmd()))),
        "rclone": (version("rclone", "version"), lambda: run("rclone", operations(Rclone()))),
        "restic": (version("restic", "version"), lambda: run("restic", operations(Restic()))),
        "JavaScript SDK": ((HOME / "node_modules").exists() and version("node", "--version"), javascript),
    }
    skipped = []
    for name, (found, drive) in clients.items():
        if WANTED and name not in WANTED:
            continue
        if not found:
            skipped.append(name)
            continue
        print(f"{name} ({found.split(' Python')[0]}) ", end="", flush=True)
        began = time.monotonic()
        drive()
        print(f" {time.monotonic() - began:.0f} s")
    ran = list(dict.fromkeys(client for client, _, _ in results))
    names = list(dict.fromkeys(operation for _, operation, _ in results))
    outcome = {(client, operation): error for client, operation, error in results}
    print("\n| operation |", " | ".join(ran), "|\n|---|" + "---|" * len(ran))
    for name in names:
        cells = ("" if (c, name) not in outcome else "FAILED" if outcome[c, name] else "ok" for c in ran)
        print(f"| {name} |", " | ".join(cells), "|")
    failed = [(client, operation, error) for client, operation, error in results if error]
    print()
    for client, operation, error in failed:
        print(f"{client}, {operation}: {error[:600]}")
    for name in skipped:
        print(f"skipped: {name}, which is not installed")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed, {len(skipped)} clients skipped")
    return 1 if failed else 0 if results else 2


try:
    sys.exit(main())
finally:
    shutil.rmtree(SCRATCH, ignore_errors=True)
