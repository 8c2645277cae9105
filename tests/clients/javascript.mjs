// The AWS SDK for JavaScript. Prints a line of JSON for each operation.
import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import * as s3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const { ENDPOINT: endpoint, BUCKET: Bucket, LARGE, ODD, AWS_DEFAULT_REGION: region } = process.env;
const client = new s3.S3Client({ endpoint, region, forcePathStyle: true, maxAttempts: 1 });
const send = (name, input) => client.send(new s3[`${name}Command`]({ Bucket, ...input }));
const put = (Key, Body, more) => send("PutObject", { Key, Body, ...more });
const read = async (Key, more) => (await send("GetObject", { Key, ...more })).Body.transformToString();

const operations = {
  async "make bucket"() {
    await send("CreateBucket");
    await send("HeadBucket");
  },
  async "put and get"() {
    await put("put", "hello");
    assert.equal(await read("put"), "hello");
  },
  async "upload in parts"() {
    await new Upload({ client, params: { Bucket, Key: "large", Body: createReadStream(LARGE) }, partSize: 10 * 1024 * 1024 }).done();
    const got = await (await send("GetObject", { Key: "large" })).Body.transformToByteArray();
    assert.ok(readFileSync(LARGE).equals(got));
  },
  async list() {
    for (let at = 0; at < 7; at++) await put(`list/${at}/file`, "x");
    for (const paginate of [s3.paginateListObjectsV2]) {
      let keys = 0, prefixes = 0;
      for await (const page of paginate({ client, pageSize: 3 }, { Bucket, Prefix: "list/" })) keys += page.Contents.length;
      for await (const page of paginate({ client, pageSize: 3 }, { Bucket, Prefix: "list/", Delimiter: "/" })) prefixes += page.CommonPrefixes.length;
      assert.deepEqual([keys, prefixes], [7, 7]);
    }
    assert.equal((await send("ListObjects", { Prefix: "list/", EncodingType: "url" })).Contents.length, 7);
  },
  async "odd names"() {
    const failed = [];
    const keys = JSON.parse(ODD).map((key) => `odd/${key}`);
    for (const key of keys) {
      try {
        await put(key, key);
        assert.equal(await read(key), key);
      } catch (error) {
        failed.push(`${JSON.stringify(key)}: ${error}`);
      }
    }
    const deleted = await send("DeleteObjects", { Delete: { Objects: keys.map((Key) => ({ Key })) } });
    assert.deepEqual(deleted.Errors ?? [], []);
    const left = (await send("ListObjectsV2", { Prefix: "odd/" })).Contents ?? [];
    assert.deepEqual(left.map((object) => object.Key), []);
    assert.deepEqual(failed, []);
  },
  async copy() {
    await send("CopyObject", { Key: "copy ü", CopySource: encodeURI(`${Bucket}/put`) });
    assert.equal(await read("copy ü"), "hello");
  },
  async metadata() {
    await put("described", "x", { Metadata: { a: "b" }, ContentType: "text/x", CacheControl: "no-store" });
    const head = await send("HeadObject", { Key: "described" });
    assert.deepEqual([head.Metadata, head.ContentType, head.CacheControl], [{ a: "b" }, "text/x", "no-store"]);
  },
  async ranges() {
    assert.equal(await read("put", { Range: "bytes=1-3" }), "ell");
  },
  async conditions() {
    await assert.rejects(read("put", { IfMatch: '"0"' }), { name: "PreconditionFailed" });
    await assert.rejects(put("put", "x", { IfNoneMatch: "*" }), { name: "PreconditionFailed" });
  },
  async tagging() {
    await send("PutObjectTagging", { Key: "put", Tagging: { TagSet: [{ Key: "a", Value: "b" }] } });
    assert.deepEqual((await send("GetObjectTagging", { Key: "put" })).TagSet, [{ Key: "a", Value: "b" }]);
  },
  async "presigned get"() {
    const got = await fetch(await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: "put" })));
    assert.equal(await got.text(), "hello");
  },
  async "presigned put"() {
    const url = await getSignedUrl(client, new s3.PutObjectCommand({ Bucket, Key: "signed put" }));
    const done = await fetch(url, { method: "PUT", body: "via address" });
    assert.equal(done.status, 200, await done.text());
    assert.equal(await read("signed put"), "via address");
  },
  async "post form"() {
    const Conditions = [["content-length-range", 1, 1000], ["starts-with", "$Content-Type", "text/"]];
    const { url, fields } = await createPresignedPost(client, { Bucket, Key: "forms/${filename}", Conditions, Fields: { success_action_status: "201" } });
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...fields, "Content-Type": "text/x" })) form.append(name, value);
    form.append("file", new Blob(["from a form"]), "a b.txt");
    const done = await fetch(url, { method: "POST", body: form });
    assert.equal(done.status, 201, await done.text());
    assert.equal(await read("forms/a b.txt"), "from a form");
  },
  async cors() {
    const CORSRules = [{ AllowedOrigins: ["*"], AllowedMethods: ["GET"], ExposeHeaders: ["ETag"] }];
    await send("PutBucketCors", { CORSConfiguration: { CORSRules } });
    assert.deepEqual((await send("GetBucketCors")).CORSRules, CORSRules);
    await send("DeleteBucketCors");
  },
  async versioning() {
    await send("PutBucketVersioning", { VersioningConfiguration: { Status: "Enabled" } });
    const { VersionId } = await put("versioned", "1");
    await put("versioned", "2");
    assert.equal(await read("versioned", { VersionId }), "1");
  },
  async "multi delete"() {
    const { Versions } = await send("ListObjectVersions");
    const deleted = await send("DeleteObjects", { Delete: { Objects: Versions.map(({ Key, VersionId }) => ({ Key, VersionId })) } });
    assert.equal(deleted.Deleted.length, Versions.length);
  },
  async "remove all"() {
    const { Versions = [], DeleteMarkers = [] } = await send("ListObjectVersions");
    for (const { Key, VersionId } of [...Versions, ...DeleteMarkers]) await send("DeleteObject", { Key, VersionId });
    await send("DeleteBucket");
  },
};

for (const [operation, run] of Object.entries(operations)) {
  let error = null;
  try {
    await run();
  } catch (thrown) {
    error = `${thrown}`.replaceAll(/\s+/g, " ");
  }
  console.log(JSON.stringify({ operation, error }));
}
