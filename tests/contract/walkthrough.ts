// README's walk-through, by the client that was generated from docs/openapi.json: see `run`. API, S3, CLIENT_KEY and ADMIN_KEY are in the
// environment, and REPOSITORY is where the repository is.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";

import createClient from "openapi-fetch";

import type { components, paths } from "./wharfage.js";

type Refusal = components["schemas"]["Refusal"];
type Service = components["schemas"]["ServiceShown"];

function variable(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not in the environment`);
  return value;
}

const API = variable("API");
const LICENSE = join(variable("REPOSITORY"), "LICENSE");
const client = createClient<paths, "application/json">({ baseUrl: API });

/** What was answered, which is no refusal. */
async function answer<T>(call: Promise<{ data?: T; error?: Refusal }>): Promise<T> {
  const { data, error } = await call;
  assert(data, error?.message);
  return data;
}

async function refusal(call: Promise<{ data?: unknown; error?: Refusal }>): Promise<string> {
  const { data, error } = await call;
  assert(error, `not refused: ${JSON.stringify(data)}`);
  assert.equal(error.code, -1);
  return error.message;
}

async function logIn(key: string): Promise<string> {
  const answered = await answer(client.POST("/auth.php", { body: { action: "login", key } }));
  assert(typeof answered.result === "object", "this is what `login` answers");
  return answered.result.token;
}

/** Only the local runner has this, so that no client has it. */
async function moveTime(advance: string): Promise<void> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${API}/_local/clock`, { method: "POST", headers, body: JSON.stringify({ advance }) });
  const last = (await response.text()).trim().split("\n").at(-1);
  assert(last);
  assert.deepEqual(JSON.parse(last).failed, [], last);
}

async function keysOf(token: string, s3uid: string): Promise<string> {
  const show = (s3_key: "access_key" | "secret_key") =>
    answer(client.POST("/s3/show_key", { body: { action: "show_key", token, s3uid, s3_key } }));
  return `${(await show("access_key")).access_key}:${(await show("secret_key")).secret_key}`;
}

/** Whether S3 took it. */
async function put(keys: string, file: string, to: string): Promise<boolean> {
  const signing = ["-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", keys];
  const upload = ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", file, `${variable("S3")}/${to}`];
  return promisify(execFile)("curl", [...signing, ...upload]).then(
    () => true,
    () => false,
  );
}

async function history(token: string, s3uid: string): Promise<string[]> {
  const body = { action: "history", token, s3uid } as const;
  return (await answer(client.POST("/s3/history", { body }))).history.map((entry) => entry.action);
}

async function orderUploadDelete(): Promise<void> {
  const unknown = client.POST("/auth.php", { body: { action: "login", key: "nobody" } });
  assert.equal(await refusal(unknown), "auth/login: invalid key");
  const token = await logIn(variable("CLIENT_KEY"));
  const { plans } = await answer(client.POST("/s3/list_plans", { body: { action: "list_plans", token } }));
  assert.deepEqual([plans[0]?.id, plans[0]?.name], [1, "Free"]);

  const order = { action: "create_order", token, plan_id: 2, bucket_name: "my-first-bucket" } as const;
  const ordered = await answer(client.POST("/s3/create_order", { body: order }));
  assert.deepEqual([ordered.status, ordered.location, ordered.bucket_name], ["active", "NL", "my-first-bucket"]);
  const { s3uid } = ordered;
  const twice = client.POST("/s3/create_order", { body: order });
  assert.equal(await refusal(twice), "s3/create_order: bucket name is already taken");

  assert(await put(await keysOf(token, s3uid), LICENSE, "my-first-bucket/docs/LICENSE"));
  const search = { action: "get_files", token, s3uid, bucket_name: "my-first-bucket", search: "license" } as const;
  const { files } = await answer(client.POST("/s3/get_files", { body: search }));
  assert.deepEqual(
    files.files.map((file) => [file.key, file.size]),
    [["docs/LICENSE", (await stat(LICENSE)).size]],
  );
  const buckets = await answer(client.POST("/s3/get_buckets", { body: { action: "get_buckets", token, s3uid } }));
  assert("message" in buckets, "the cluster of this machine is fast");
  assert.deepEqual(
    buckets.message.map((bucket) => [bucket.name, bucket.objects]),
    [["my-first-bucket", 1]],
  );
  const { s3_users } = await answer(client.POST("/s3/get_users", { body: { action: "get_users", token } }));
  assert.deepEqual(
    s3_users.map((account) => account.s3uid),
    [s3uid],
  );

  const cancel = { action: "delete_payment_account", token, s3uid } as const;
  const cancelled: Service = (await answer(client.POST("/s3/delete_payment_account", { body: cancel }))).service;
  assert.equal(cancelled.status, "cancelling");
  assert(cancelled.cancellation_date && cancelled.termination_date);
  const keep = { action: "cancel_payment_account_deletion", token, s3uid } as const;
  const kept: Service = (await answer(client.POST("/s3/cancel_payment_account_deletion", { body: keep }))).service;
  assert.deepEqual([kept.status, kept.cancellation_date], ["active", null]);
  const entries = await history(token, s3uid);
  assert.deepEqual(entries.slice(0, 2), ["cancel_payment_account_deletion", "delete_payment_account"]);

  const remove = { action: "delete_account", token, s3uid, reason: "finished" } as const;
  const { callback } = await answer(client.POST("/s3/delete_account", { body: remove }));
  for (let tries = 0; ; tries++) {
    const { result } = await answer(client.POST("/eq_callback.php", { body: { action: "check", key: callback } }));
    if (result === "OK") break;
    assert(tries < 60, result);
    await setTimeout(1_000);
  }
}

async function billRemindSuspendCorrect(): Promise<void> {
  const staff = () => logIn(variable("ADMIN_KEY"));
  let token = await staff();
  const small = {
    action: "create_plan",
    token,
    name: "Small",
    storage_type: "Standard",
    locations: "NL",
    quota: 1,
    bandwidth_limit: 10,
    monthly_eur: "3.00",
    storage_overage_price_eur: "0.50",
    traffic_overage_price_eur: "0.50",
  } as const;
  const { plan } = await answer(client.POST("/s3/create_plan", { body: small }));
  const ann = { action: "create_client", token, email: "ann@example.com", billing: "main", currency: "EUR" } as const;
  const id = (await answer(client.POST("/s3/create_client", { body: ann }))).client.client_id;
  const pay = (amount: number, reference: string) =>
    answer(client.POST("/s3/add_credit", { body: { action: "add_credit", token, id, amount, reference } }));
  const first = await pay(5, "bank-1");
  assert.deepEqual([first.credit, first.owed, first.paid], [5, 0, []]);

  const account = { action: "create_account", token, id, plan_id: plan.id, bucket_name: "ann-data" } as const;
  const { s3uid } = await answer(client.POST("/s3/create_account", { body: account }));
  const users = async () => (await answer(client.POST("/s3/get_users", { body: { action: "get_users", token, id } }))).s3_users;
  assert.deepEqual(
    (await users()).map((account) => account.s3uid),
    [s3uid],
  );
  const keys = await keysOf(token, s3uid);
  const folder = await mkdtemp(join(tmpdir(), "walkthrough-"));
  try {
    const zeros = await open(join(folder, "zeros"), "w");
    await zeros.truncate(2 ** 31);
    await zeros.close();
    assert(await put(keys, join(folder, "zeros"), "ann-data/zeros"));
  } finally {
    await rm(folder, { recursive: true });
  }

  await moveTime("P1M");
  token = await staff();
  const open_ = { action: "list_invoices", token, id, status: "open" } as const;
  const { invoices } = await answer(client.POST("/s3/list_invoices", { body: open_ }));
  assert.equal(invoices.length, 1);
  const invoice_id = invoices[0]?.invoice_id ?? 0;
  const { invoice } = await answer(client.POST("/s3/get_invoice", { body: { action: "get_invoice", token, invoice_id } }));
  assert(invoice.amount > 3 && invoice.amount <= 3.5, `${invoice.amount}`);
  assert.equal((invoice.amount - invoice.open).toFixed(2), "2.00");
  const storage = invoice.lines.flatMap(({ basis }) => (basis.component === "storage" ? [basis] : []));
  assert.equal(storage.length, 1);
  assert(BigInt(storage[0]?.overage_byte_hours ?? 0) > 0n);

  await moveTime("P29D");
  token = await staff();
  const service = (await users())[0]?.service;
  assert.deepEqual([service?.status, service?.suspension, service?.termination_reason], ["suspended", "unpaid", "unpaid"]);
  assert(service?.termination_date);
  assert(!(await put(keys, LICENSE, "ann-data/LICENSE")));

  const paid = await pay(10, "bank-2");
  assert.equal(paid.owed, 0);
  assert(paid.credit > 0 && paid.credit < 10);
  assert.equal((await pay(10, "bank-2")).credit, paid.credit);
  assert(await put(keys, LICENSE, "ann-data/LICENSE"));

  const toFree = { action: "change_plan", token, s3uid, plan_id: 1, when: "now" } as const;
  const changed = await answer(client.POST("/s3/change_plan", { body: toFree }));
  assert.equal(changed.plan_id, 1);
  assert(changed.amount !== undefined && changed.amount < 0);
  assert.deepEqual((await history(token, s3uid)).slice(0, 2), ["change_plan", "resume_account"]);
}

await orderUploadDelete();
await billRemindSuspendCorrect();
console.log("walkthrough.ts: OK");
